//! Sends what comes over a connection back. The bytes are moved inside the host, from the connection to itself: none of
//! them enters the sandbox, and who does not read is not read from.

use tidegate_sdk::{Result, connection, net::TcpStream};

#[connection]
fn echo(stream: TcpStream) -> Result<()> {
    let (mut reader, mut writer) = stream.split();
    writer.forward(&mut reader)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::thread;
    use tidegate_sdk::test;

    #[test]
    fn all_comes_back_and_then_the_end() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut client = test::connect(echo);
        let mut writer = client.try_clone().unwrap();
        let to_send = sent.clone();
        let sending = thread::spawn(move || {
            writer.write_all(&to_send).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        sending.join().unwrap();
        assert!(received == sent, "{} bytes came back", received.len());
    }
}
