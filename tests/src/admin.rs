//! A client of the admin side: what a deploy is, step by step, over its Unix socket. It must never be clever: a connection
//! for each request, and no retries.
//!
//! Three things can become of a request, and they are told apart: it was done, it was refused, or the server went away.

use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::{Value, json};

use crate::artifacts;
use crate::http::{Client, End, Response};
use crate::server::{Builder, Server};
use crate::stream::Addr;

/// A server that hosts apps, with its state in this folder and its admin side at `admin.sock` there.
pub fn hosting(state: &Path) -> Builder {
    Server::builder().manifest(hosting_manifest(state))
}

/// What makes a server such a one.
pub fn hosting_manifest(state: &Path) -> String {
    let socket = format!("unix:{}", state.join("admin.sock").display());
    format!("[server]\nstate = {state:?}\nadmin = {socket:?}\n")
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As `disk-full`.
    pub kind: String,
    /// What is wrong.
    pub message: String,
}

/// Done or refused.
pub type Answer<T> = Result<T, Refused>;

/// The admin side of a server.
#[derive(Clone, Debug)]
pub struct Admin {
    addr: Addr,
}

impl Admin {
    /// That of [`hosting`].
    pub fn of(state: &Path) -> Self {
        Self::at(Addr::Unix(state.join("admin.sock")))
    }

    /// Any.
    pub fn at(addr: Addr) -> Self {
        Self { addr }
    }

    /// A request on a connection of its own.
    ///
    /// # Errors
    /// The server is not there, or went away before the answer was whole.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Response> {
        let mut client = Client::connect(&self.addr)?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {length}\r\n\r\n");
        // Who refuses early reads no more; the answer is there all the same.
        let sent = client.send([head.as_bytes(), body].concat());
        let response = client.response().map_err(|error| sent.err().unwrap_or(error))?;
        if response.end == End::Clean { Ok(response) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// The same with JSON, and an answer in JSON.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Answer<Value>> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Ok(answer(&self.send(method, path, &body)?))
    }

    /// Uploads a module; its hash.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn upload(&self, wasm: &[u8]) -> io::Result<Answer<String>> {
        let answer = answer(&self.send("PUT", "/v1/modules", wasm)?);
        Ok(answer.map(|body| body["module"].as_str().expect("a hash").to_owned()))
    }

    /// Uploads a module and makes it a version of an app, with these settings.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn deploy(&self, app: &str, wasm: &[u8], settings: &Value) -> io::Result<Answer<Value>> {
        match self.upload(wasm)? {
            Ok(module) => self.deploy_uploaded(app, &module, settings),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Makes a module that was uploaded a version of an app.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn deploy_uploaded(&self, app: &str, module: &str, settings: &Value) -> io::Result<Answer<Value>> {
        let body = json!({ "module": module, "settings": settings }).to_string();
        let response = self.send("POST", &format!("/v1/apps/{app}/versions"), body.as_bytes())?;
        if response.status() != 200 {
            return Ok(answer(&response));
        }
        let text = response.text();
        let last = text.lines().last().unwrap_or_default();
        let last: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        match (&last["done"], &last["error"]) {
            (Value::Null, error @ Value::Object(_)) => Ok(Err(refused(error, "message"))),
            (done @ Value::Object(_), Value::Null) => Ok(Ok(done.clone())),
            // Steps, and then nothing: it was cut off.
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Goes back to the version before.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn rollback(&self, app: &str) -> io::Result<Answer<Value>> {
        self.ask("POST", &format!("/v1/apps/{app}/rollback"), &json!({}))
    }

    /// An app as the server shows it.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn app(&self, app: &str) -> io::Result<Answer<Value>> {
        self.ask("GET", &format!("/v1/apps/{app}"), &Value::Null)
    }
}

fn answer(response: &Response) -> Answer<Value> {
    let text = response.text();
    let body = match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {response:?}")),
    };
    if response.status() < 300 { Ok(body) } else { Err(refused(&body, "detail")) }
}

fn refused(error: &Value, message: &str) -> Refused {
    let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key} in {error}")).to_owned();
    Refused { kind: text("kind"), message: text(message) }
}

/// A module whose answer is `version NUMBER`. Each has bytes of its own.
pub fn numbered(number: u64) -> Vec<u8> {
    let body = format!("version {number}\n");
    let text = format!(
        r#"(module
            (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) {body:?})
            (func (export "tidegate_handle") (result i32)
                (call $respond
                    (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {}))))"#,
        body.len()
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The number that such a module answers with. None: it is another answer.
pub fn number_of(response: &Response) -> Option<u64> {
    let is_whole = response.status() == 200 && response.end == End::Clean;
    let text = response.text();
    text.strip_prefix("version ").filter(|_| is_whole)?.trim_end().parse().ok()
}

/// A server in a mount namespace of its own, in which `mount` has run with the state folder as `$1`. What it takes to
/// start it; None where this system lets nobody make such a namespace.
pub fn mounted(mount: &str, state: &Path, words: &[&str]) -> Option<std::process::Command> {
    let unshare = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.stdin(std::process::Stdio::null());
        command
    };
    let mut probe = unshare("mount -t tmpfs none /mnt");
    probe.stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = unshare(&format!("{mount} && shift && exec \"$@\""));
    command.arg("sh").arg(state).arg(artifacts::binary()).args(words);
    Some(command)
}
