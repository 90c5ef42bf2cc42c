//! RESP2, the protocol of Redis, as far as commands and their answers need it. It knows no socket: anything that reads
//! and writes will do.

use std::io::{self, BufRead, Read, Write};

/// Bytes of the longest text that is taken.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of the longest line.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Entries of the longest array, and how deeply arrays nest.
const ENTRIES_MAX: usize = 1024;
const DEPTH_MAX: u32 = 8;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    /// The server refuses the command, and says why.
    Error(String),
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Reply>),
    Nothing,
}

/// Writes a command in one piece.
pub(crate) fn send(to: &mut impl Write, words: &[&[u8]]) -> io::Result<()> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    to.write_all(&command)
}

/// Reads an answer.
pub(crate) fn receive(from: &mut impl BufRead) -> io::Result<Reply> {
    receive_at(from, 0)
}

fn receive_at(from: &mut impl BufRead, depth: u32) -> io::Result<Reply> {
    let line = read_line(from)?;
    let Some((kind, rest)) = line.split_at_checked(1) else { return Err(invalid("an empty line")) };
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Number(rest.parse().map_err(|_| invalid("a number that is none"))?)),
        "$" => match length(rest, TEXT_BYTES_MAX)? {
            None => Ok(Reply::Nothing),
            Some(len) => {
                let mut text = vec![0; len + 2];
                from.read_exact(&mut text)?;
                if !text.ends_with(b"\r\n") {
                    return Err(invalid("a text without its end"));
                }
                text.truncate(len);
                Ok(Reply::Text(text))
            }
        },
        "*" if depth < DEPTH_MAX => match length(rest, ENTRIES_MAX)? {
            None => Ok(Reply::Nothing),
            Some(n) => {
                (0..n).map(|_| receive_at(from, depth + 1)).collect::<io::Result<_>>().map(Reply::List)
            }
        },
        _ => Err(invalid("an answer of a kind that is not known")),
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some(text) = line.strip_suffix(b"\r\n") else { return Err(invalid("a line without its end")) };
    String::from_utf8(text.to_vec()).map_err(|_| invalid("a line that is not UTF-8"))
}

/// A length; `None` is how nothing is said.
fn length(text: &str, max: usize) -> io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    match text.parse() {
        Ok(len) if len <= max => Ok(Some(len)),
        _ => Err(invalid("a length that is none, or too large")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("Redis sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<Reply> {
        receive(&mut bytes)
    }

    #[test]
    fn commands_are_lists_of_texts() {
        let mut out = Vec::new();
        send(&mut out, &[b"SET", b"a b", b"\r\n"]).unwrap();
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\na b\r\n$2\r\n\r\n\r\n");
    }

    #[test]
    fn answers_of_every_kind_are_read() {
        let text = |text: &str| Reply::Text(text.into());
        let cases: [(&[u8], Reply); 8] = [
            (b"+OK\r\n", Reply::Status("OK".to_owned())),
            (b"-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (b":-7\r\n", Reply::Number(-7)),
            (b"$5\r\nhe\r\no\r\n", text("he\r\no")),
            (b"$0\r\n\r\n", text("")),
            (b"$-1\r\n", Reply::Nothing),
            (b"*-1\r\n", Reply::Nothing),
            (
                b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                Reply::List(vec![text("a"), Reply::List(vec![Reply::Number(1)])]),
            ),
        ];
        for (bytes, reply) in cases {
            assert_eq!(read(bytes).unwrap(), reply);
            for cut in 0..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{cut} bytes of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_takes_no_memory() {
        let deep = "*1\r\n".repeat(9);
        for bytes in [
            "",
            "\r\n",
            "?\r\n",
            ":x\r\n",
            "$x\r\n",
            "$-2\r\n",
            "$99999999\r\n",
            "*9999999\r\n",
            "+OK\n",
            &deep,
        ] {
            assert!(read(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(read(b"$1\r\nab\r\n").is_err());
    }
}
