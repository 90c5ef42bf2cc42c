//! A server of a protocol of its own, over raw TCP: each line is a command, and each command has one line as its
//! answer.
//!
//! - `ECHO text`: the text
//! - `UPPER text`: the text in upper case
//! - `COUNT`: how many lines this connection has sent so far
//! - `QUIT`: says goodbye and closes
//!
//! It is written as if it had a thread to itself. Each connection has a sandbox to itself, waits without holding
//! anything up, and ends with its function.

use std::io::{BufRead, BufReader, Read, Write};
use tidegate_sdk::{Result, connection, net::TcpStream};

/// Bytes of the longest line.
const LINE_BYTES_MAX: u64 = 8 << 10;

#[connection]
fn lines(stream: TcpStream) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    for count in 1.. {
        line.clear();
        // One more than fits, to see that it does not.
        reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
        let Some(b'\n') = line.last() else {
            if line.len() as u64 > LINE_BYTES_MAX {
                writer.write_all(b"ERROR the line is too long\n")?;
            }
            // What stands after the last line end is no command.
            break;
        };
        let text = String::from_utf8_lossy(&line);
        let (answer, quits) = answer(text.trim_end_matches(['\r', '\n']), count);
        writer.write_all(format!("{answer}\n").as_bytes())?;
        if quits {
            break;
        }
    }
    Ok(writer.finish()?)
}

/// The answer to a command, and whether it is the last.
fn answer(line: &str, count: u64) -> (String, bool) {
    let (command, text) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "ECHO" => (text.to_owned(), false),
        "UPPER" => (text.to_uppercase(), false),
        "COUNT" => (count.to_string(), false),
        "QUIT" => ("BYE".to_owned(), true),
        _ => ("ERROR what is known is ECHO, UPPER, COUNT and QUIT".to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use tidegate_sdk::test;

    /// All that comes back for `input`.
    fn talk(input: &[u8], then_ends: bool) -> String {
        let mut client = test::connect(lines);
        // It may be told off before it has sent everything.
        let _ = client.write_all(input);
        if then_ends {
            client.shutdown(Shutdown::Write).unwrap();
        }
        let mut output = String::new();
        client.read_to_string(&mut output).unwrap();
        output
    }

    #[test]
    fn each_command_has_its_answer() {
        let output =
            talk("ECHO hello  world\r\nUPPER käse\nCOUNT\nECHO\nQUIT\nECHO late\n".as_bytes(), false);
        assert_eq!(output, "hello  world\nKÄSE\n3\n\nBYE\n");
    }

    #[test]
    fn what_is_unknown_is_said_so_and_the_connection_goes_on() {
        let output = talk(b"DANCE\nCOUNT\n", true);
        assert_eq!(output, "ERROR what is known is ECHO, UPPER, COUNT and QUIT\n2\n");
    }

    #[test]
    fn a_line_has_an_end_and_a_length() {
        assert_eq!(talk(b"ECHO a\nECHO b", true), "a\n");
        let longest = format!("ECHO {}\n", "x".repeat(8 * 1024 - 6));
        assert_eq!(talk(longest.as_bytes(), true), longest.strip_prefix("ECHO ").unwrap());
        let output = talk(format!("ECHO {}", "x".repeat(8 * 1024 - 4)).as_bytes(), true);
        assert_eq!(output, "ERROR the line is too long\n");
    }
}
