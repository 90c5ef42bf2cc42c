//! 1 GB through `echo` and back: the client reads at 1 MB/s for a while, then as fast as it can; every byte is
//! compared, peak RSS stays under 64 MiB. `--slow-seconds 0` gives the CPU figure without the slow part.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::{finish, judge, warn_if_unoptimised};
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::PATIENCE;
use tidegate_tests::{Addr, Client, End, Server};

const BLOCK: usize = 256 * 1024;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let total: u64 = args.get("bytes", 1_000_000_000)?;
    let slow = Duration::from_secs(args.get("slow-seconds", 10)?);
    let slow_rate: u64 = args.get("slow-rate", 1_000_000)?;
    args.done()?;
    warn_if_unoptimised();

    let server = Server::builder().guest("echo").option("--workers", "1").start();
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    let stream = if slow.is_zero() {
        Stream::connect(server.addr(), PATIENCE)?
    } else {
        Stream::connect_with_receive_buffer(addr, 256 * 1024, PATIENCE)?
    };
    let mut client = Client::over(stream);
    let cpu_before = server.cpu_time();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"))?;
    let mut writer = client.writer()?;
    writer.set_deadline(slow + Duration::from_secs(300));
    let sender = thread::spawn(move || send(&mut writer, total));

    let started = Instant::now();
    let received = receive(&mut client, slow, slow_rate)?;
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("sending")?;
    ensure!(received == total, "{received} of {total} bytes came back");

    println!("{total} bytes there and back in {:.2?}, every byte compared", started.elapsed());
    println!("server CPU {:.3} s", (server.cpu_time() - cpu_before).as_secs_f64());
    let peak = server.rss_peak_bytes() as f64 / f64::from(1 << 20);
    finish(judge("peak RSS", peak, "MiB", 64.0))
}

fn send(writer: &mut Stream, total: u64) -> std::io::Result<()> {
    let mut pattern = Pattern::new(1);
    let mut block = vec![0; BLOCK];
    let mut left = total;
    while left > 0 {
        let n = left.min(BLOCK as u64) as usize;
        pattern.fill(&mut block[..n]);
        writer.write_all(&block[..n])?;
        left -= n as u64;
    }
    Ok(())
}

fn receive(client: &mut Client, slow: Duration, slow_rate: u64) -> anyhow::Result<u64> {
    let head = client.head()?;
    ensure!(head.status == 200, "{head:?}");
    let mut body = client.body(&head)?;
    let mut pattern = Pattern::new(1);
    let mut block = Vec::with_capacity(BLOCK);
    let mut received = 0;
    let started = Instant::now();
    loop {
        block.clear();
        let elapsed = started.elapsed();
        let most = if elapsed < slow { 16 * 1024 } else { BLOCK };
        let n = client.read_body(&mut body, &mut block, most)?;
        if n == 0 {
            ensure!(body.end() == Some(&End::Clean), "{:?} after {received} bytes", body.end());
            return Ok(received);
        }
        ensure!(pattern.check(&block).is_ok(), "bytes differ in the block at {received}");
        received += n as u64;
        if elapsed < slow {
            let due = Duration::from_secs_f64(received as f64 / slow_rate as f64);
            thread::sleep(due.min(slow).saturating_sub(started.elapsed()));
        }
    }
}
