//! An ordinary program that listens: a `wasi:cli/command` with nothing in it that knows where it runs.
//!
//! It accepts on the address `LISTEN` (by default one of its own choice, which it prints), and sends each line back with the
//! number of the connection in front, one connection at a time. The line `exit` ends the program with status 1, `panic` with
//! a panic, so that whoever keeps it running has something to do.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let addr = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for (number, stream) in (1..).zip(listener.incoming()) {
        // A client that goes away is its own misfortune.
        if let Err(error) = serve(&stream?, number) {
            eprintln!("connection {number}: {error}");
        }
    }
    Ok(())
}

fn serve(stream: &TcpStream, number: u32) -> io::Result<()> {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        match line?.as_str() {
            "exit" => std::process::exit(1),
            "panic" => panic!("as was asked for"),
            line => writer.write_all(format!("{number} {line}\n").as_bytes())?,
        }
    }
    Ok(())
}
