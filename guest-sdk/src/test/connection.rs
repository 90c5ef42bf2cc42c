//! Connections to a function under test that serves them.

use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::handler::{self, Served};
use crate::net;
use crate::sys::native::sockets;

/// Connects to what `#[connection]` exports: it runs on a thread of its own, at the other end of a real connection.
///
/// ```
/// use std::io::{BufRead, BufReader, Read, Write};
/// use tidegate_sdk::net::TcpStream;
/// use tidegate_sdk::{Result, test};
///
/// fn shout(stream: TcpStream) -> Result<()> {
///     for line in BufReader::new(&stream).lines() {
///         writeln!(&stream, "{}", line?.to_uppercase())?;
///     }
///     Ok(())
/// }
///
/// let mut client = test::connect(shout);
/// client.write_all(b"hello\n").unwrap();
/// client.shutdown(std::net::Shutdown::Write).unwrap();
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).unwrap();
/// assert_eq!(answer, "HELLO\n");
/// ```
///
/// # Panics
/// If this machine has no loopback interface to connect over.
pub fn connect<R: Served>(serve: impl FnOnce(net::TcpStream) -> R + Send + 'static) -> TcpStream {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok::<_, std::io::Error>((client, listener.accept()?.0))
    };
    let (client, server) = pair().expect("a connection over the loopback interface");
    thread::spawn(move || {
        let handle = sockets::accept(server);
        handler::connection(handle.cast_signed(), serve)
    });
    client
}
