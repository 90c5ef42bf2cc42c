//! What is done for each row of the table: the request read, the server asked, its answer written.

use std::io::{self, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::call::{Call, Desk, Reply, broken_body, response_head};
use super::control::LogNext;
use super::problem::{invalid, word};
use super::wire::{Gone, Wire};
use crate::config::check_app_name;
use crate::hosting::types::{CanaryChange, CanaryRule, Deploy, Refusal, RefusalKind};

/// Bytes of the longest JSON that is taken.
const JSON_BYTES_MAX: u64 = 1 << 20;
/// Lines of a log or an audit that are sent unless more or fewer are asked for, and at most.
const LINES: usize = 100;
const LINES_MAX: usize = 10_000;
/// Logs that may be followed at once: they are held for as long as their clients like, and others want to be served.
const FOLLOWERS_MAX: usize = 16;
/// How often it is looked whether who follows a log is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const JSON: &str = "application/json";
const LINES_OF_JSON: &str = "application/x-ndjson";

type Done = Result<Reply, Refusal>;

/// The description that is served, too.
pub(super) const OPENAPI: &str = include_str!("../../../docs/openapi.json");

pub(super) fn put_module(call: &mut Call<'_>) -> Done {
    let declared = call.wire.declared_body();
    let mut body = BodyReader { wire: &mut *call.wire };
    let (module, bytes) = call.desk.control.receive_module(&call.actor, &mut body, declared)?;
    json_of(201, &json!({ "module": module, "bytes": bytes }))
}

pub(super) fn head_module(call: &mut Call<'_>) -> Done {
    Ok(Reply::Empty(if call.desk.control.has_module(&call.actor, &call.parameter) { 200 } else { 404 }))
}

pub(super) fn get_apps(call: &mut Call<'_>) -> Done {
    call.query_of(&[])?;
    json_of(200, &call.desk.control.apps(&call.actor)?)
}

pub(super) fn get_app(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.app(&call.actor, call.app()?)?)
}

pub(super) fn delete_app(call: &mut Call<'_>) -> Done {
    call.desk.control.remove(&call.actor, call.app()?)?;
    Ok(Reply::Empty(204))
}

pub(super) fn get_versions(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.versions(&call.actor, call.app()?)?)
}

/// Each step as it begins, then what came of it. What is refused before the first step is an ordinary problem.
pub(super) fn post_version(call: &mut Call<'_>) -> Done {
    let app = call.app()?.to_owned();
    let deploy: Deploy = read_json(call.wire)?;
    let mut lines = Lines { wire: &mut *call.wire, begun: false };
    let control = &call.desk.control;
    let done = control.deploy(&call.actor, &app, deploy, &mut |progress| lines.tell(&json!(progress)));
    match done {
        Err(refusal) if !lines.begun => return Err(refusal),
        Ok(deployed) => lines.send(&json!({ "done": deployed })),
        Err(Refusal { kind, message, help }) => {
            lines.send(&json!({ "error": { "kind": word(kind), "message": message, "help": help } }));
        }
    }
    Ok(lines.end())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    #[serde(default)]
    version: Option<u64>,
}

pub(super) fn post_rollback(call: &mut Call<'_>) -> Done {
    let Rollback { version } = read_json(call.wire)?;
    json_of(200, &call.desk.control.rollback(&call.actor, call.app()?, version)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canary {
    version: u64,
    rule: CanaryRule,
}

pub(super) fn put_canary(call: &mut Call<'_>) -> Done {
    let Canary { version, rule } = read_json(call.wire)?;
    change_canary(call, CanaryChange::Set { version, rule })
}

pub(super) fn delete_canary(call: &mut Call<'_>) -> Done {
    change_canary(call, CanaryChange::Abort)
}

pub(super) fn promote_canary(call: &mut Call<'_>) -> Done {
    change_canary(call, CanaryChange::Promote)
}

fn change_canary(call: &Call<'_>, change: CanaryChange) -> Done {
    json_of(200, &call.desk.control.canary(&call.actor, call.app()?, change)?)
}

pub(super) fn get_limits(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.limits(&call.actor, call.app()?)?)
}

pub(super) fn patch_limits(call: &mut Call<'_>) -> Done {
    let changes: Map<String, Value> = read_json(call.wire)?;
    json_of(200, &call.desk.control.set_limits(&call.actor, call.app()?, changes)?)
}

pub(super) fn get_logs(call: &mut Call<'_>) -> Done {
    let [lines, follow] = call.query_of(&["lines", "follow"])?;
    let (lines, follow) = (number_of_lines(lines)?, flag("follow", follow)?);
    let Some(_seat) = Seat::take(call, follow) else {
        let message = format!("{FOLLOWERS_MAX} logs are being followed, and no more may be at once");
        let help = Some("ask for the lines without `follow`, or try again later".to_owned());
        return Err(Refusal { kind: RefusalKind::Unavailable, message, help });
    };
    let mut log = call.desk.control.follow_logs(&call.actor, call.app()?, lines)?;
    let sent = Lines { wire: &mut *call.wire, begun: false }.copy(follow, |within| log.next(within));
    sent.map_or(Ok(Reply::Sent), |lines| Ok(lines.end()))
}

/// One of those who follow.
struct Seat<'a>(Option<&'a Desk>);

impl<'a> Seat<'a> {
    fn take(call: &Call<'a>, follow: bool) -> Option<Self> {
        if !follow {
            return Some(Self(None));
        }
        // Given back on drop whether there was room or not.
        let seat = Self(Some(call.desk));
        (call.desk.followers.fetch_add(1, Relaxed) < FOLLOWERS_MAX).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(desk) = self.0 {
            desk.followers.fetch_sub(1, Relaxed);
        }
    }
}

pub(super) fn get_requests(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.requests(&call.actor)?)
}

pub(super) fn delete_request(call: &mut Call<'_>) -> Done {
    call.desk.control.cancel(&call.actor, &call.parameter)?;
    Ok(Reply::Empty(204))
}

pub(super) fn post_reload(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.reload(&call.actor)?)
}

pub(super) fn get_export(call: &mut Call<'_>) -> Done {
    let body = call.desk.control.export(&call.actor)?.into_bytes();
    Ok(Reply::Whole { status: 200, media_type: "application/toml", body })
}

pub(super) fn get_audit(call: &mut Call<'_>) -> Done {
    let [lines] = call.query_of(&["lines"])?;
    json_of(200, &call.desk.control.audit(&call.actor, number_of_lines(lines)?)?)
}

pub(super) fn get_server(call: &mut Call<'_>) -> Done {
    json_of(200, &call.desk.control.server(&call.actor)?)
}

pub(super) fn get_metrics(call: &mut Call<'_>) -> Done {
    let text = call.desk.control.metrics();
    let media_type = if text.trim_end().ends_with("# EOF") {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(Reply::Whole { status: 200, media_type, body: text.into_bytes() })
}

pub(super) fn get_live(_: &mut Call<'_>) -> Done {
    json_of(200, &json!({ "status": "live" }))
}

pub(super) fn get_ready(call: &mut Call<'_>) -> Done {
    match call.desk.control.is_ready() {
        Ok(()) => json_of(200, &json!({ "status": "ready" })),
        Err(message) => Err(Refusal { kind: RefusalKind::Unavailable, message, help: None }),
    }
}

pub(super) fn get_openapi(_: &mut Call<'_>) -> Done {
    Ok(Reply::Whole { status: 200, media_type: JSON, body: OPENAPI.as_bytes().to_vec() })
}

impl Call<'_> {
    /// The app that the path names.
    fn app(&self) -> Result<&str, Refusal> {
        let named = check_app_name(&self.parameter);
        named.map_err(|error| invalid(error.message, error.help.as_deref()))?;
        Ok(&self.parameter)
    }

    /// The values of these keys of the query; it may have no others.
    fn query_of<const N: usize>(&self, keys: &[&str; N]) -> Result<[Option<&str>; N], Refusal> {
        let mut values = [None; N];
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let at = keys.iter().position(|known| *known == key);
            let slot = at.and_then(|at| values.get_mut(at));
            let Some(slot) = slot else {
                let message = format!("the query has a key `{}` that means nothing here", key.escape_debug());
                return Err(invalid(message, None));
            };
            if slot.replace(value).is_some() {
                return Err(invalid(format!("the query has `{key}` twice"), None));
            }
        }
        Ok(values)
    }
}

fn number_of_lines(text: Option<&str>) -> Result<usize, Refusal> {
    let Some(text) = text else { return Ok(LINES) };
    let number = text.parse().ok().filter(|lines| *lines <= LINES_MAX);
    number.ok_or_else(|| invalid(format!("`lines` is not a number up to {LINES_MAX}"), None))
}

fn flag(key: &str, text: Option<&str>) -> Result<bool, Refusal> {
    match text {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(_) => Err(invalid(format!("`{key}` is neither `true` nor `false`"), None)),
    }
}

/// The body of a request, as JSON.
fn read_json<T: DeserializeOwned>(wire: &mut Wire) -> Result<T, Refusal> {
    wire.limit_body(JSON_BYTES_MAX);
    let mut body = Vec::new();
    let read = BodyReader { wire: &mut *wire }.read_to_end(&mut body);
    if let Err(error) = read {
        return Err(wire.broken().map_or_else(|| invalid(error.to_string(), None), broken_body));
    }
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body.as_slice() };
    serde_json::from_slice(body).map_err(|error| {
        let help = "what there may be in it is in /openapi.json";
        invalid(format!("the body is not the JSON that is expected here: {error}"), Some(help))
    })
}

fn json_of(status: u16, value: &impl Serialize) -> Done {
    let mut body = serde_json::to_vec(value).map_err(|error| Refusal {
        kind: RefusalKind::Internal,
        message: format!("the answer cannot be written as JSON: {error}"),
        help: None,
    })?;
    body.push(b'\n');
    Ok(Reply::Whole { status, media_type: JSON, body })
}

/// The body of a request, for who reads.
struct BodyReader<'a> {
    wire: &'a mut Wire,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wire.read_body(into)
    }
}

/// The last line of a log that is followed no further.
fn ending() -> Value {
    let message = "this server ends, or hands over to another one";
    json!({ "error": { "kind": "unavailable", "message": message, "help": "follow the log again in a moment" } })
}

/// An answer that is sent a line at a time. Where the client has gone nothing is sent any more; what is being done for it
/// goes on.
struct Lines<'a> {
    wire: &'a mut Wire,
    begun: bool,
}

impl Lines<'_> {
    fn begin(&mut self) -> Result<(), Gone> {
        if !self.begun {
            self.begun = true;
            let head = response_head(200, LINES_OF_JSON)?;
            self.wire.begin(&head, None)?;
        }
        Ok(())
    }

    /// A line about work under way: others may wait for that, and it waits for no client.
    fn tell(&mut self, value: &Value) {
        if self.wire.is_gone() {
            return;
        }
        let line = format!("{value}\n");
        let _ = self.begin().and_then(|()| self.wire.tell(line.as_bytes()));
    }

    /// A line, and at once.
    fn send(&mut self, value: &Value) {
        if self.wire.is_gone() {
            return;
        }
        let line = format!("{value}\n");
        // That it did not get there is the wire's to know.
        let _ = self.begin().and_then(|()| self.wire.write(line.as_bytes())).and_then(|()| self.wire.flush());
    }

    fn end(self) -> Reply {
        if !self.wire.is_gone() {
            let _ = self.wire.end();
        }
        Reply::Sent
    }

    /// Sends the lines of `next`: those that are there or, to `follow` it, all that come until the client is gone or the
    /// server ends, which the last line says then. None: the client is gone.
    fn copy(mut self, follow: bool, mut next: impl FnMut(Duration) -> LogNext) -> Option<Self> {
        self.begin().and_then(|()| self.wire.flush()).ok()?;
        let mut unsent = true;
        loop {
            let within = if unsent || !follow { Duration::ZERO } else { LOOK_EVERY };
            match next(within) {
                LogNext::Line(mut line) => {
                    line.push('\n');
                    self.wire.write(line.as_bytes()).ok()?;
                    unsent = true;
                }
                LogNext::Ended => return Some(self),
                LogNext::Quiet => {
                    self.wire.flush().ok()?;
                    unsent = false;
                    if !follow {
                        return Some(self);
                    }
                    if self.wire.peer_is_gone() {
                        self.wire.leave();
                        return None;
                    }
                }
            }
            // Also where lines come without a pause.
            if follow && self.wire.is_stopping() {
                self.send(&ending());
                return Some(self);
            }
        }
    }
}
