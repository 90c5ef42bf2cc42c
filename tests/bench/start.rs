//! From starting the server's process to its first answer, with a guest that was compiled before: with a module the median
//! is at most 10 ms. `--component python` measures one of the components in `tests/components`, and holds it to nothing.
//!
//! A client tries to connect from the moment the process is started, and asks for hello as soon as it can.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::stats::percentile;
use tidegate_tests::bench::{finish, judge, warn_if_unoptimised};
use tidegate_tests::{Addr, Client, artifacts, components};

/// Between two tries: a client that only spins takes the core that the server needs.
const PAUSE: Duration = Duration::from_micros(50);
/// For the first start, which compiles, and for any other.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server; ended with SIGKILL when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let starts: usize = args.get("starts", 30)?;
    let guest: String = args.get("guest", "hello".to_owned())?;
    let component: String = args.get("component", String::new())?;
    args.done()?;
    let guest = match component.as_str() {
        "" => artifacts::guest(&guest),
        name => components::component(name).context("the component can not be built here")?,
    };
    warn_if_unoptimised();
    let state = tempfile::tempdir().context("a state folder")?;
    let start = |cache: &str| {
        let mut command = artifacts::tidegate();
        command.arg("serve").arg(&guest).args(["--cache", cache]);
        command.arg("--state").arg(state.path()).stdout(Stdio::null());
        let addr = free_addr()?;
        command.arg("--listen").arg(addr.to_string());
        let began = Instant::now();
        let _server = Started(command.spawn().context("starting the server")?);
        let mut client = connect(addr)?;
        let response = client.get("a", "/").context("the first request")?;
        let took = began.elapsed();
        ensure!(response.status() == 200, "{response:?}");
        Ok(took.as_secs_f64() * 1e3)
    };
    println!("{:<44} {:>10.2} ms", "compiled, without a cache", start("0")?);
    println!("{:<44} {:>10.2} ms", "compiled and kept", start("1GiB")?);
    let mut times = (0..starts).map(|_| start("1GiB")).collect::<anyhow::Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let [least, p90, most] = [0.0, 90.0, 100.0].map(|percent| percentile(&times, percent));
    println!("{starts} starts with what was kept: least {least:.2}, p90 {p90:.2}, most {most:.2} ms");
    let median = percentile(&times, 50.0);
    if !component.is_empty() {
        println!("{:<44} {median:>10.2} ms", "start to first answer, median");
        return Ok(());
    }
    finish(judge("start to first answer, median", median, "ms", 10.0))
}

/// A port of the loopback that was free a moment ago.
fn free_addr() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("a free port")?;
    Ok(listener.local_addr()?)
}

fn connect(addr: SocketAddr) -> anyhow::Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(&Addr::Tcp(addr)) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the server does not listen");
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
