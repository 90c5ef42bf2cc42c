//! A real Redis of the test's own: nothing on disk, and it can be made to stand still.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;

use crate::daemon::{self, Daemon};
use crate::wait::PATIENCE;

/// A running server; ended when dropped.
pub struct Redis {
    daemon: Daemon,
}

impl Redis {
    /// Starts one on a free port. `None`, and a word on standard error, where it is not installed.
    pub fn start() -> Option<Self> {
        let program = daemon::find("redis-server", "redis-server")?;
        let daemon = Daemon::start("Ready to accept connections", |addr, folder| {
            let mut command = Command::new(&program);
            command.args(["--bind", &addr.ip().to_string(), "--port", &addr.port().to_string()]);
            // Nothing is kept; a stalled server still takes connections as long as the kernel queues them.
            command.args(["--save", "", "--appendonly", "no", "--tcp-backlog", "4096"]);
            command.args(["--maxclients", "4096", "--daemonize", "no"]).arg("--dir").arg(folder);
            command.current_dir(folder);
            command
        });
        Some(Self { daemon })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.daemon.addr()
    }

    /// Stops it in its tracks: it still has its sockets, and the kernel completes connections to it, but nothing is
    /// answered until the guard is dropped.
    pub fn stall(&self) -> Stalled<'_> {
        self.daemon.signal(Signal::STOP);
        Stalled { redis: self }
    }

    /// Sends one command on a connection of its own. `None`: nil.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Option<String> {
        self.ask(words).unwrap_or_else(|error| panic!("{words:?} to Redis: {error}"))
    }

    fn ask(&self, words: &[&str]) -> io::Result<Option<String>> {
        let mut stream = TcpStream::connect_timeout(&self.addr(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or_default();
        match kind {
            "+" | ":" => Ok(Some(rest.to_owned())),
            "$" if rest == "-1" => Ok(None),
            "$" => {
                let length = rest.parse().map_err(|_| io::Error::other(line.clone()))?;
                let mut value = vec![0; length];
                reader.read_exact(&mut value)?;
                Ok(Some(String::from_utf8_lossy(&value).into_owned()))
            }
            _ => Err(io::Error::other(line)),
        }
    }

    /// Connections of others that are open now.
    #[track_caller]
    pub fn clients(&self) -> usize {
        let info = self.command(&["INFO", "clients"]).unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        let all: usize = line.and_then(|count| count.trim().parse().ok()).expect("connected_clients");
        // One of them asked.
        all - 1
    }
}

/// Redis stands still until this is dropped.
pub struct Stalled<'a> {
    redis: &'a Redis,
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.redis.daemon.signal(Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn it_answers_unless_it_is_stalled() {
        let Some(redis) = Redis::start() else { return };
        assert_eq!(redis.command(&["GET", "colour"]), None);
        assert_eq!(redis.command(&["SET", "colour", "blue"]).as_deref(), Some("OK"));
        assert_eq!(redis.command(&["GET", "colour"]).as_deref(), Some("blue"));
        assert_eq!(redis.clients(), 0);

        let stalled = redis.stall();
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(redis.command(&["GET", "colour"])).unwrap());
            assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err(), "it answers");
            drop(stalled);
            assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().as_deref(), Some("blue"));
        });
    }
}
