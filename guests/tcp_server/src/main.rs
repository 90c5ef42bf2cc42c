//! An ordinary program that listens: nothing in it knows where it runs. Built for `wasm32-wasip2` it is a command,
//! which runs beside the apps that serve requests, and is started again when it fails. Its app's limits of memory, sockets
//! and logs hold; those of CPU time and of a request's duration do not, as it is not meant to end.
//!
//! It accepts on the address in `LISTEN`, and sends each line back with the number of the connection in front, one
//! connection at a time. The line `exit` ends it with status 1, and `crash` by a panic.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let addr = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:7002".to_owned());
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
            "crash" => panic!("as was asked for"),
            line => writer.write_all(format!("{number} {line}\n").as_bytes())?,
        }
    }
    Ok(())
}
