//! Loading wire vectors (`tests/vectors/*.toml`), for whatever runs them: the codec alone, or a whole connection.
//!
//! A file is a list of `[[case]]` with
//! - `name`, unique in its file; `section`, the rule it stands for (RFC 9112 unless it says otherwise);
//! - `input`: a string, or a list of strings and of `{ repeat = "..", times = n }`. Each character up to U+00FF
//!   stands for that one byte, so that any byte can be written: `\u00ff` is the byte 0xFF;
//! - `accept`: the requests that are served, in order (none if left out), each with `method`, `target`, and
//!   `version` (served as; "1.1" if left out), `host`, `body`, `fields` and `trailers` (those named are compared,
//!   trailers as a whole), `keep_alive` (true if left out), `expect_continue` (false if left out);
//! - `expect`: how it ends. A status: what follows is refused with it, and nothing behind that is served. "more":
//!   the input ends inside a request. Left out: it ends behind the last request, or behind one that closes.

// Each test crate uses its own part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

use serde::Deserialize;

/// One case of a vector file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub section: String,
    input: Input,
    #[serde(default)]
    pub accept: Vec<Expected>,
    expect: Option<String>,
}

/// A request that is to be accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub method: String,
    target: Input,
    #[serde(default = "version_11")]
    pub version: String,
    pub host: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    body: Input,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    trailers: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub keep_alive: bool,
    #[serde(default)]
    pub expect_continue: bool,
}

/// How a case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Refused with this status; the connection closes.
    Refused(u16),
    /// The input ends inside a request.
    More,
    /// The input ends between requests.
    Idle,
    /// A request was served that closes the connection; what follows it is not looked at.
    Closed,
}

impl Case {
    /// The bytes that the client sends.
    pub fn input(&self) -> Vec<u8> {
        self.input.bytes()
    }

    /// How it ends.
    pub fn end(&self) -> End {
        match self.expect.as_deref() {
            Some("more") => End::More,
            Some(status) => End::Refused(status.parse().unwrap_or_else(|_| panic!("{}: expect", self.name))),
            None if self.accept.last().is_some_and(|last| !last.keep_alive) => End::Closed,
            None => End::Idle,
        }
    }
}

impl Expected {
    /// The target as received.
    pub fn target(&self) -> String {
        self.target.bytes().into_iter().map(char::from).collect()
    }

    /// The whole body.
    pub fn body(&self) -> Vec<u8> {
        self.body.bytes()
    }

    /// Header fields that have to be there, name in lower case.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), latin1(value)))
    }

    /// All trailers, name in lower case, in alphabetical order.
    pub fn trailers(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.trailers.iter().map(|(name, value)| (latin1(name), latin1(value))).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Parts(Vec<Part>),
}

impl Default for Input {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Input {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => latin1(text),
            Self::Parts(parts) => parts.iter().flat_map(Part::bytes).collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Repeat { repeat: String, times: usize },
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => latin1(text),
            Self::Repeat { repeat, times } => latin1(repeat).repeat(*times),
        }
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap_or_else(|_| panic!("{c:?} stands for no byte"))).collect()
}

fn version_11() -> String {
    "1.1".to_owned()
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// The cases of a vector file, by its name without ending.
///
/// # Panics
/// Where the file cannot be read, or is not what the module's documentation says.
pub fn load(name: &str) -> Vec<Case> {
    let path = format!("{}/tests/vectors/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut names = std::collections::BTreeSet::new();
    for case in &file.case {
        assert!(names.insert(&case.name), "{path}: two cases are named {:?}", case.name);
    }
    file.case
}
