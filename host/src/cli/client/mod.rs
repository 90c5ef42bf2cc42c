//! What the verbs share that ask a running server: where it is, a question and its answer, and how answers are shown.

mod link;
mod place;
pub(super) mod show;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::link::{Ask, Broken, Link};
use self::place::Place;
use super::Failure;
use super::args::AdminFlags;
use crate::config::{ConfigError, Problem};

/// How long a server may say nothing in the middle of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Likewise where it works meanwhile: it compiles for as long as its own limits allow, and waits for others to finish.
pub(super) const WORK: Duration = Duration::from_secs(900);
/// Likewise where there may never be anything to say.
pub(super) const FOR_EVER: Duration = Duration::MAX;
/// Bytes of the longest answer that is taken as a whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How problems begin that the server tells clients of its apps.
const OF_APPS: &str = "urn:tidegate:error:";
/// An upload that takes longer than this is reported on.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// A server that is asked, one question after the other.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    token: Option<String>,
    pub(super) json: bool,
}

/// An answer.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Client {
    /// # Errors
    /// The address or the token is not one. Nobody is asked yet.
    pub(super) fn new(flags: &AdminFlags) -> Result<Self, Failure> {
        let place = Place::find(flags.admin.as_deref())?;
        let token = place::token(flags.token_file.as_deref())?;
        Ok(Self { place, token, json: flags.json })
    }

    /// Asks for what there is.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask("GET", path, None, PATIENCE)?;
        self.read(&answer)
    }

    /// Asks for what there is, if it is there.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let answer = self.exchange("GET", path, None, PATIENCE)?;
        if answer.status == 404 {
            return Ok(None);
        }
        self.read(&self.check(answer)?).map(Some)
    }

    /// Asks for text.
    pub(super) fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.ask("GET", path, None, PATIENCE)?;
        String::from_utf8(answer.body).map_err(|_| self.confused("it is no text"))
    }

    /// Has something done, and is told what came of it.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let answer = self.ask(method, path, body, WORK)?;
        self.read(&answer)
    }

    /// Has something done.
    pub(super) fn command(&self, method: &str, path: &str) -> Result<(), Failure> {
        self.ask(method, path, None, WORK).map(drop)
    }

    /// Whether the server has something at this path.
    pub(super) fn has(&self, path: &str) -> Result<bool, Failure> {
        let answer = self.exchange("HEAD", path, None, PATIENCE)?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            // The answer to HEAD says no more than that.
            401 | 403 | 429 => self.get::<Value>("/").map(|_| false),
            status => Err(self.stranger(&format!("its status is {status}"))),
        }
    }

    /// Has a file taken in.
    pub(super) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &mut File,
        bytes: u64,
    ) -> Result<T, Failure> {
        let mut told = Upload { began: Instant::now(), told: None, sent: 0, bytes };
        let mut read = Counted { inner: file, told: &mut told };
        let mut body = Vec::new();
        let ask = Ask { method: "PUT", path, media_type: "application/wasm", length: bytes };
        let status = self.run(&ask, &mut read, WORK, &mut |_, bytes| keep(&mut body, bytes))?;
        told.end();
        self.read(&self.check(Answer { status, body })?)
    }

    /// Asks, and gives each line of the answer as it comes; `line` says whether to go on.
    pub(super) fn lines(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
        line: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let (text, mut held, mut other) = (body.map(Value::to_string), Vec::new(), Vec::new());
        let text = text.as_deref().unwrap_or_default();
        let ask = Ask { method, path, media_type: "application/json", length: text.len() as u64 };
        let status = self.run(&ask, &mut text.as_bytes(), patience, &mut |status, bytes| {
            if status != 200 {
                return keep(&mut other, bytes);
            }
            keep(&mut held, bytes)?;
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = held.drain(..=end).collect();
                line(String::from_utf8_lossy(&whole).trim_end_matches('\n'))?;
            }
            ControlFlow::Continue(())
        })?;
        self.check(Answer { status, body: other }).map(drop)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        self.check(self.exchange(method, path, body, patience)?)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let ask = Ask { method, path, media_type: "application/json", length: text.len() as u64 };
        let mut body = Vec::new();
        let status =
            self.run(&ask, &mut text.as_bytes(), patience, &mut |_, bytes| keep(&mut body, bytes))?;
        Ok(Answer { status, body })
    }

    fn run(
        &self,
        ask: &Ask<'_>,
        source: &mut dyn Read,
        patience: Duration,
        sink: &mut dyn FnMut(u16, &[u8]) -> ControlFlow<()>,
    ) -> Result<u16, Failure> {
        let (socket, host) = self.place.connect().map_err(|error| self.unreachable(&error))?;
        let mut link = Link::new(socket, patience);
        let status = link.run(ask, &host, self.token.as_deref(), source, sink);
        status.map_err(|broken| match broken {
            Broken::Source(error) => anyhow!("the module cannot be read: {error}").into(),
            Broken::Silent => self.confused(&format!("nothing came for {} seconds", patience.as_secs())),
            Broken::Link(error) => self.confused(&error),
        })
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let error = anyhow!("cannot reach a server at {}: {error}", self.place);
        let help = "start one with `tidegate serve` (and `--state DIR`), or say where it is with `--admin ADDR` or \
                    $TIDEGATE_ADMIN";
        Failure::Failed { error, help: Some(help.to_owned()) }
    }

    /// The answer is whole, and none that an admin side gives: it may be an app's, or another server's.
    fn stranger(&self, what: &str) -> Failure {
        let error =
            anyhow!("what answers at {} is not the admin side of a tidegate server: {what}", self.place);
        let help =
            "a server says where that is when it starts, as `admin on ADDR`; apps have other addresses";
        Failure::Failed { error, help: Some(help.to_owned()) }
    }

    /// The answer is broken.
    fn confused(&self, what: &str) -> Failure {
        let error = anyhow!("the server at {} does not answer as it should: {what}", self.place);
        Failure::Failed { error, help: None }
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| self.stranger(&error.to_string()))
    }

    /// Makes an error of a problem.
    fn check(&self, answer: Answer) -> Result<Answer, Failure> {
        if matches!(answer.status, 200..=299) {
            return Ok(answer);
        }
        let problem: Result<Value, _> = serde_json::from_slice(&answer.body);
        let text = |key: &str| problem.as_ref().ok().and_then(|problem| problem.get(key)?.as_str());
        // What clients of apps are told has a detail, too.
        let ours = !text("type").is_some_and(|kind| kind.starts_with(OF_APPS));
        let Some(detail) = text("detail").filter(|_| ours) else {
            return Err(self.stranger(&format!("its status is {}", answer.status)));
        };
        Err(refused(text("kind").unwrap_or_default(), detail, text("help")))
    }
}

/// What the server did not do. What cannot be meant is wrong usage, wherever that is found out.
pub(super) fn refused(kind: &str, message: &str, help: Option<&str>) -> Failure {
    let help = help.map(str::to_owned);
    if kind == "invalid" {
        let problem = Problem { place: None, message: message.to_owned(), help };
        return Failure::Usage(ConfigError { problems: vec![problem] });
    }
    Failure::Failed { error: anyhow!("{message}"), help }
}

fn keep(body: &mut Vec<u8>, bytes: &[u8]) -> ControlFlow<()> {
    if body.len().saturating_add(bytes.len()) > ANSWER_BYTES_MAX {
        return ControlFlow::Break(());
    }
    body.extend_from_slice(bytes);
    ControlFlow::Continue(())
}

/// How far an upload is, for whoever sits at a terminal.
struct Upload {
    began: Instant,
    told: Option<Instant>,
    sent: u64,
    bytes: u64,
}

impl Upload {
    fn add(&mut self, sent: usize) {
        self.sent = self.sent.saturating_add(sent as u64);
        let now = Instant::now();
        let due = self.told.map_or(self.began + REPORT_AFTER, |told| told + REPORT_AFTER / 4);
        if now < due || !io::stderr().is_terminal() {
            return;
        }
        self.told = Some(now);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let _ = write!(io::stderr(), "\r  upload     {:.1} of {:.1} MiB", mib(self.sent), mib(self.bytes));
    }

    fn end(&self) {
        if self.told.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

struct Counted<'a> {
    inner: &'a mut File,
    told: &'a mut Upload,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.told.add(n);
        Ok(n)
    }
}

/// A part of a path, which may be anything that was typed.
pub(super) fn part(text: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text);
    }
    let message = format!("`{}` names nothing that a server could have", text.escape_debug());
    Err(Failure::usage(message, Some("`tidegate apps` lists its apps, `tidegate ps` requests".to_owned())))
}
