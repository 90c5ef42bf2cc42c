//! Speaks to Redis over a socket, by a protocol of its own: GET, SET, INCR, and BLPOP, which waits.
//!
//! `REDIS` says where it is. Each request connects anew: its sandbox is fresh, and so is what it has open. A request
//! that waits for Redis holds up nobody else.

mod resp;

use std::io::BufReader;
use std::time::Duration;
use tidegate_sdk::net::TcpStream;
use tidegate_sdk::{Error, Request, Response, Result, Router, config, handler};

use resp::Reply;

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait that a client may ask for.
const WAIT_SECONDS_MAX: u64 = 20;

#[handler]
fn redis() -> Router {
    Router::new()
        .get("/get/{key}", get)
        .put("/set/{key}", set)
        .post("/incr/{key}", increment)
        .get("/pop/{key}", pop)
}

/// Sends a command and reads its answer, which may take so much longer than usual.
fn command(words: &[&[u8]], longer: Duration) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(config::var("REDIS")?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE + longer))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    resp::send(&mut stream, words)?;
    match resp::receive(&mut BufReader::new(stream))? {
        Reply::Error(why) => {
            Err(Error::unprocessable("Redis refuses that").with_source(std::io::Error::other(why)))
        }
        reply => Ok(reply),
    }
}

fn key(request: &Request) -> &[u8] {
    request.param("key").unwrap_or_default().as_bytes()
}

fn get(request: Request) -> Result<Response> {
    match command(&[b"GET", key(&request)], Duration::ZERO)? {
        Reply::Text(value) => Ok(Response::bytes(value)),
        Reply::Nothing => Err(Error::not_found("there is no such key")),
        other => Err(unexpected(&other)),
    }
}

fn set(mut request: Request) -> Result<&'static str> {
    let value = request.body().bytes()?;
    match command(&[b"SET", key(&request), &value], Duration::ZERO)? {
        Reply::Status(_) => Ok("OK\n"),
        other => Err(unexpected(&other)),
    }
}

fn increment(request: Request) -> Result<String> {
    match command(&[b"INCR", key(&request)], Duration::ZERO)? {
        Reply::Number(n) => Ok(format!("{n}\n")),
        other => Err(unexpected(&other)),
    }
}

/// Waits for an element of a list, as long as `?seconds=` says.
fn pop(request: Request) -> Result<Response> {
    let seconds = request.query_param("seconds").unwrap_or("1".into());
    let seconds: u64 = seconds.parse().map_err(|_| Error::bad_request("`seconds` is a number"))?;
    if !(1..=WAIT_SECONDS_MAX).contains(&seconds) {
        return Err(Error::bad_request(format!("`seconds` is from 1 to {WAIT_SECONDS_MAX}")));
    }
    let limit = seconds.to_string();
    match command(&[b"BLPOP", key(&request), limit.as_bytes()], Duration::from_secs(seconds))? {
        Reply::List(mut pair) => match pair.pop() {
            Some(Reply::Text(value)) => Ok(Response::bytes(value)),
            other => Err(unexpected(&Reply::List(other.into_iter().collect()))),
        },
        Reply::Nothing => Err(Error::not_found("nothing came")),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::internal(format!("Redis answered something else: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use tidegate_sdk::test::{Answer, Exchange};

    /// What a server that answers with `reply` makes of a request, and the command that it got.
    fn ask(exchange: Exchange, reply: &'static str) -> (Answer, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _redis = config::for_test("REDIS", &listener.local_addr().unwrap().to_string());
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = || {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                line.trim_end().to_owned()
            };
            let count: usize = line().strip_prefix('*').unwrap().parse().unwrap();
            let words = (0..count).map(|_| (line(), line()).1).collect();
            stream.write_all(reply.as_bytes()).unwrap();
            // Who is done closes.
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
            words
        });
        (exchange.run(super::redis()), serving.join().unwrap())
    }

    #[test]
    fn commands_go_over_a_socket() {
        let (answer, words) = ask(Exchange::get("/get/a%20b"), "$5\r\nhello\r\n");
        assert_eq!((answer.assert_status(200).text(), words.join("|")), ("hello", "GET|a b".to_owned()));
        let (answer, words) = ask(Exchange::new("PUT", "/set/a").body("1"), "+OK\r\n");
        assert_eq!((answer.text(), words.join("|")), ("OK\n", "SET|a|1".to_owned()));
        let (answer, _) = ask(Exchange::post("/incr/a"), ":2\r\n");
        assert_eq!(answer.text(), "2\n");
        let (answer, words) = ask(Exchange::get("/pop/l?seconds=3"), "*2\r\n$1\r\nl\r\n$3\r\nnew\r\n");
        assert_eq!((answer.text(), words.join("|")), ("new", "BLPOP|l|3".to_owned()));
    }

    #[test]
    fn what_is_not_there_is_404_and_what_is_refused_422() {
        ask(Exchange::get("/get/x"), "$-1\r\n").0.assert_status(404);
        ask(Exchange::get("/pop/x"), "*-1\r\n").0.assert_status(404);
        let (answer, _) = ask(Exchange::post("/incr/x"), "-ERR value is not an integer\r\n");
        assert!(!answer.assert_status(422).text().contains("integer"));
    }

    #[test]
    fn redis_that_is_not_there_is_a_502_and_told_to_nobody() {
        // A port that was free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let _redis = config::for_test("REDIS", &addr);
        let answer = Exchange::get("/get/a").run(super::redis());
        assert!(!answer.assert_status(502).text().contains(&addr), "{}", answer.text());
        assert!(answer.logs[0].1.contains(&addr), "{:?}", answer.logs);
    }
}
