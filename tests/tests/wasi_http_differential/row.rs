//! One row: a request, and what must come of it from us and from the oracle.

use std::io::{self, ErrorKind};

use tidegate_tests::http::{Client, End, Response};
use tidegate_tests::{Addr, check};

/// A whole answer.
#[derive(Clone)]
pub(crate) struct Whole {
    status: u16,
    /// Values of one name, in their order; none: it must be absent.
    headers: Vec<(&'static str, Vec<&'static str>)>,
    body: Body,
    trailers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone)]
enum Body {
    Exactly(Vec<u8>),
    /// Some number of this byte and nothing else: what a permit allows is a host's own.
    Many(u8),
}

/// What comes of a request.
#[derive(Clone)]
pub(crate) enum Answer {
    Whole(Whole),
    /// A failure before the head: a problem document with this status and code from us, a bare status of the same class
    /// from the oracle.
    Failed(u16, &'static str),
    /// A body that breaks off: the head of the guest and some of these bytes, and no clean end.
    Cut(&'static str),
    /// The guest crashed after it had set its head. That may have left, and then its body breaks off; or a problem
    /// document takes its place. Which of them a client sees is a matter of time.
    Crashed,
}

impl Answer {
    /// 200 and this text.
    pub(crate) fn says(text: impl Into<Vec<u8>>) -> Self {
        let body = Body::Exactly(text.into());
        Self::Whole(Whole {
            status: 200,
            headers: vec![("content-type", vec!["text/plain"])],
            body,
            trailers: vec![],
        })
    }

    /// This status with a text, or with none.
    pub(crate) fn status(status: u16, text: &str) -> Self {
        match Self::says(text) {
            Self::Whole(whole) => Self::Whole(Whole { status, ..whole }),
            other => other,
        }
    }
}

/// See the module.
pub(crate) struct Row {
    target: String,
    method: &'static str,
    minor: u8,
    headers: Vec<String>,
    body: Vec<u8>,
    expected: Answer,
    /// Why the oracle answers something else, and what.
    differs: Option<(&'static str, Answer)>,
}

/// GET of a behaviour, with its query if it takes one.
pub(crate) fn get(target: &str) -> Row {
    Row {
        target: format!("/{target}"),
        method: "GET",
        minor: 1,
        headers: Vec::new(),
        body: Vec::new(),
        expected: Answer::Crashed,
        differs: None,
    }
}

/// POST of `hello body` with Content-Length.
pub(crate) fn post(target: &str) -> Row {
    let body = b"hello body";
    let row = get(target).method("POST").header(&format!("Content-Length: {}", body.len()));
    Row { body: body.to_vec(), ..row }
}

/// POST of `hello body` in two chunks, with the trailer `X-Sum: 42`.
pub(crate) fn chunked(target: &str) -> Row {
    let row = get(target).method("POST").header("Transfer-Encoding: chunked").header("Trailer: x-sum");
    Row { body: b"5\r\nhello\r\n5\r\n body\r\n0\r\nX-Sum: 42\r\n\r\n".to_vec(), ..row }
}

impl Row {
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn head(self) -> Self {
        self.method("HEAD")
    }

    pub(crate) fn http_1_0(self) -> Self {
        Self { minor: 0, ..self }
    }

    /// Another request target than the path of the behaviour.
    pub(crate) fn target(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    pub(crate) fn answers(self, expected: Answer) -> Self {
        Self { expected, ..self }
    }

    pub(crate) fn says(self, text: &str) -> Self {
        self.answers(Answer::says(text))
    }

    pub(crate) fn fails(self, status: u16, code: &'static str) -> Self {
        self.answers(Answer::Failed(status, code))
    }

    /// The guest broke a rule, before the head.
    pub(crate) fn traps(self) -> Self {
        self.fails(500, "guest-trap")
    }

    /// The guest did not end its body, of which it wrote this much. It did not trap.
    pub(crate) fn cut(self, most: &'static str) -> Self {
        self.answers(Answer::Cut(most))
    }

    /// The guest traps when it has set its head.
    pub(crate) fn crashes(self) -> Self {
        self.answers(Answer::Crashed)
    }

    fn whole(&mut self) -> &mut Whole {
        match &mut self.expected {
            Answer::Whole(whole) => whole,
            _ => panic!("{}: no whole answer to say more of", self.target),
        }
    }

    /// The answer has these values of the header, in this order, or none of it.
    pub(crate) fn with(mut self, name: &'static str, values: &[&'static str]) -> Self {
        let headers = &mut self.whole().headers;
        headers.retain(|(known, _)| *known != name);
        headers.push((name, values.to_vec()));
        self
    }

    pub(crate) fn with_trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.whole().trailers.push((name, value));
        self
    }

    /// The body is this byte, some times.
    pub(crate) fn many(mut self, byte: u8) -> Self {
        self.whole().body = Body::Many(byte);
        self
    }

    /// What the oracle answers instead, and why that is no reason for us to.
    pub(crate) fn differs(self, why: &'static str, answer: Answer) -> Self {
        Self { differs: Some((why, answer)), ..self }
    }

    /// The path without its slash and query.
    pub(crate) fn behaviour(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// What the log says of a request whose answer is no whole one, and of no other.
    pub(crate) fn logs(&self) -> Option<&'static str> {
        match &self.expected {
            Answer::Whole(_) => None,
            Answer::Failed(_, code) => Some(code),
            Answer::Cut(_) => Some("unfinished"),
            Answer::Crashed => Some("guest-trap"),
        }
    }

    fn ask(&self, addr: &Addr) -> io::Result<Response> {
        let Self { target, method, minor, headers, body, .. } = self;
        let mut request = format!("{method} {target} HTTP/1.{minor}\r\nHost: a.test\r\n");
        for line in headers {
            request.push_str(line);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut client = Client::connect(addr)?;
        client.send([request.as_bytes(), body].concat())?;
        if *method == "HEAD" { client.response_to_head() } else { client.response() }
    }

    /// Asks us; the text of what is wrong.
    pub(crate) fn check(&self, addr: &Addr) -> Result<(), String> {
        let outcome = self.ask(addr);
        match &self.expected {
            Answer::Failed(status, code) => {
                let response = outcome.map_err(|error| self.wrong(&error.to_string()))?;
                let seen = (response.status(), response.header("tidegate-error"));
                if seen != (*status, Some(code)) {
                    return Err(self.wrong(&format!("{status} {code} was expected: {response:?}")));
                }
                check::problem(&response, *status, code);
                Ok(())
            }
            Answer::Crashed if matches!(&outcome, Ok(response) if response.status() >= 500) => {
                check::problem(&outcome.map_err(|error| self.wrong(&error.to_string()))?, 500, "guest-trap");
                Ok(())
            }
            answer => self.compare(answer, outcome),
        }
    }

    /// Asks the oracle.
    pub(crate) fn check_oracle(&self, addr: &Addr) -> Result<(), String> {
        let answer = self.differs.as_ref().map_or(&self.expected, |(_, answer)| answer);
        let outcome = self.ask(addr);
        let gone =
            |error: &io::Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof);
        // It may drop the head with the body that is cut; we do not.
        if matches!((answer, &outcome), (Answer::Cut(_), Err(error)) if gone(error)) {
            return Ok(());
        }
        let good = self.compare(answer, outcome);
        match &self.differs {
            Some((why, _)) => good.map_err(|text| format!("{text}\n  (documented as different: {why})")),
            None => good,
        }
    }

    fn compare(&self, answer: &Answer, outcome: io::Result<Response>) -> Result<(), String> {
        match (answer, outcome) {
            (Answer::Whole(whole), Ok(response)) => {
                whole.compare(&response).map_err(|text| self.wrong(&format!("{text}: {response:?}")))
            }
            (Answer::Failed(status, _), Ok(response)) if response.status() / 100 == status / 100 => Ok(()),
            (Answer::Cut(most), outcome) => {
                check::broken_off(&outcome, most.as_bytes()).map_err(|text| self.wrong(&text))
            }
            (Answer::Crashed, outcome) => {
                check::broken_off(&outcome, b"part of it\n").map_err(|text| self.wrong(&text))
            }
            (_, outcome) => Err(self.wrong(&format!("{outcome:?}"))),
        }
    }

    pub(crate) fn wrong(&self, text: &str) -> String {
        format!("{} {} HTTP/1.{}: {text}", self.method, self.target, self.minor)
    }
}

impl Whole {
    fn compare(&self, response: &Response) -> Result<(), String> {
        let Self { status, headers, body, trailers } = self;
        if response.status() != *status {
            return Err(format!("{status} was expected"));
        }
        for (name, values) in headers {
            if response.head.all(name) != *values {
                return Err(format!("{name} {values:?} was expected"));
            }
        }
        if response.end != End::Clean {
            return Err("the body was cut".to_owned());
        }
        let good = match body {
            Body::Exactly(bytes) => response.body == *bytes,
            Body::Many(byte) => !response.body.is_empty() && response.body.iter().all(|one| one == byte),
        };
        if !good {
            let wanted = match body {
                Body::Exactly(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Body::Many(byte) => format!("many of {byte}"),
            };
            return Err(format!("the body is\n{:.2000}\ninstead of\n{wanted:.2000}\n", response.text()));
        }
        let seen: Vec<_> = response
            .trailers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        let wanted: Vec<_> = trailers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        if seen != wanted {
            return Err(format!("trailers {wanted:?} were expected, not {seen:?}"));
        }
        Ok(())
    }
}
