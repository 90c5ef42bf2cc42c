//! Much of everything, as `std` has it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use crate::Lines;

fn kind<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{:?}", error.kind()))
}

/// A byte of what is sent, which tells its place.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// `ADDR,BYTES`: sends so many bytes, does not end its side, and waits for how many were counted.
pub(crate) fn exchange(lines: &mut Lines, query: &str) {
    let (addr, count) = query.split_once(',').expect("an address and a number");
    let count: usize = count.parse().expect("a number");
    let run = || -> io::Result<String> {
        let mut stream = TcpStream::connect(addr)?;
        let mut piece = vec![0; 100_000];
        let mut sent = 0;
        while sent < count {
            let len = piece.len().min(count - sent);
            piece[..len].iter_mut().enumerate().for_each(|(at, into)| *into = byte(sent + at));
            stream.write_all(&piece[..len])?;
            sent += len;
        }
        let mut counted = [0; 12];
        stream.read_exact(&mut counted)?;
        Ok(String::from_utf8_lossy(&counted).into_owned())
    };
    lines.add("counted", kind(run()));
}

/// Counts what comes until the end, and what of it is not where it should be.
pub(crate) fn download(lines: &mut Lines, addr: &str) {
    let run = || -> io::Result<(usize, usize)> {
        let mut stream = TcpStream::connect(addr)?;
        let mut piece = vec![0; 50_000];
        let (mut count, mut wrong) = (0, 0);
        loop {
            match stream.read(&mut piece)? {
                0 => return Ok((count, wrong)),
                n => {
                    wrong +=
                        piece[..n].iter().enumerate().filter(|(at, is)| byte(count + at) != **is).count();
                    count += n;
                }
            }
        }
    };
    lines.add("came", kind(run()));
}

/// A hundred connections at a time, with somebody who sends back what it gets.
pub(crate) fn many(lines: &mut Lines, addr: &str) {
    let run = || -> io::Result<usize> {
        let mut streams = (0..100).map(|_| TcpStream::connect(addr)).collect::<io::Result<Vec<_>>>()?;
        for (at, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("{at:04}").as_bytes())?;
        }
        let mut right = 0;
        for (at, stream) in streams.iter_mut().enumerate().rev() {
            let mut back = [0; 4];
            stream.read_exact(&mut back)?;
            right += usize::from(back == format!("{at:04}").as_bytes());
        }
        Ok(right)
    };
    lines.add("right", kind(run()));
}

/// A connection that a reused instance keeps from one request to the next.
pub(crate) fn keep(lines: &mut Lines, addr: &str) {
    static KEPT: Mutex<Option<TcpStream>> = Mutex::new(None);

    let mut kept = KEPT.lock().expect("one thread");
    match kept.take() {
        None => *kept = TcpStream::connect(addr).ok(),
        Some(mut stream) => {
            lines.add("read", kind(stream.read(&mut [0; 10])).is_ok_and(|count| count > 0));
            lines.add("write", kind(stream.write_all(b"from the next request")).is_ok());
            lines.add("peer", kind(stream.peer_addr()).is_ok());
        }
    }
    lines.add("kept", kept.is_some());
}
