//! A server that is none: it notes what it is asked, and answers as a script says.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::admin::{Control, LogNext, LogSource};
use crate::hosting::types::{
    Actor, AppView, CanaryChange, CanaryRule, CanaryView, Deploy, Deployed, KvView, Progress, Refusal,
    RefusalKind, RequestView, Step, VersionView,
};

pub(super) const MODULE_BYTES_MAX: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Fake {
    said: Mutex<Vec<String>>,
    readiness: Mutex<Option<String>>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    readers: usize,
}

/// The user that the tests run as.
pub(super) fn own() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

impl Fake {
    /// What it was asked so far.
    pub(super) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    fn say(&self, what: String, actor: &Actor) {
        let of = actor.tenant.as_ref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        self.said.lock().unwrap().push(format!("{what} by {}{of}", actor.name));
    }

    pub(super) fn fail_readiness(&self, why: &str) {
        *self.readiness.lock().unwrap() = Some(why.to_owned());
    }

    pub(super) fn log(&self, line: &str) {
        self.log.lock().unwrap().lines.push(line.to_owned());
    }

    pub(super) fn readers(&self) -> usize {
        self.log.lock().unwrap().readers
    }
}

fn refusal(kind: RefusalKind, message: &str) -> Refusal {
    Refusal { kind, message: message.to_owned(), help: Some("look again".to_owned()) }
}

/// There are apps of every name but one.
fn known(app: &str) -> Result<(), Refusal> {
    if app == "missing" { Err(refusal(RefusalKind::NotFound, "there is no app `missing`")) } else { Ok(()) }
}

fn deployed(app: &str) -> Result<Deployed, Refusal> {
    known(app)?;
    Ok(Deployed {
        app: app.to_owned(),
        version: 2,
        active: Some(2),
        before: Some(1),
        unchanged: false,
        ended: None,
    })
}

fn view(name: &str) -> AppView {
    let rule = CanaryRule { percent: 5, failure_percent: 5, requests_min: 20, ..CanaryRule::default() };
    AppView {
        name: name.to_owned(),
        tenant: None,
        routes: vec!["/*".to_owned()],
        active: Some(2),
        canary: Some(CanaryView { version: 3, rule, requests: 7, failures: 1 }),
        versions: 3,
        loaded: true,
        running: 1,
        waiting: 0,
        origin: "deploy".to_owned(),
        settings: Map::from_iter([("routes".to_owned(), json!(["/*"]))]),
        kv: Some(KvView { keys: 2, bytes: 30 }),
        problem: (name == "other").then(|| "it can not be served".to_owned()),
    }
}

impl Control for Fake {
    fn receive_module(
        &self,
        actor: &Actor,
        read: &mut dyn Read,
        declared: Option<u64>,
    ) -> Result<(String, u64), Refusal> {
        self.say(format!("module of {declared:?} bytes"), actor);
        let too_large = || refusal(RefusalKind::TooLarge, "the module is too large");
        if declared.is_some_and(|declared| declared > MODULE_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let (mut hash, mut bytes, mut part) = (blake3::Hasher::new(), 0, vec![0; 10_000]);
        loop {
            let n =
                read.read(&mut part).map_err(|error| refusal(RefusalKind::Invalid, &error.to_string()))?;
            if n == 0 {
                return Ok((hash.finalize().to_hex().to_string(), bytes as u64));
            }
            hash.update(&part[..n]);
            bytes += n;
            if bytes > MODULE_BYTES_MAX {
                return Err(too_large());
            }
        }
    }

    fn has_module(&self, _actor: &Actor, hash: &str) -> bool {
        hash.len() == 64
    }

    fn deploy(
        &self,
        actor: &Actor,
        app: &str,
        deploy: Deploy,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Deployed, Refusal> {
        self.say(format!("deploy of {app} {:?}", deploy.note), actor);
        known(app)?;
        progress(Step::Validate.into());
        progress(Step::Compile.into());
        progress(Progress { step: Step::Compile, seconds: Some(1) });
        if app == "bad" {
            return Err(refusal(RefusalKind::Module, "it does not compile"));
        }
        if app == "long" {
            // More than any socket holds.
            (0..200_000).for_each(|n| progress(Progress { step: Step::Compile, seconds: Some(n) }));
            self.say("deployed long".to_owned(), actor);
        }
        progress(Step::Switch.into());
        deployed(app)
    }

    fn rollback(&self, actor: &Actor, app: &str, to: Option<u64>) -> Result<Deployed, Refusal> {
        self.say(format!("rollback of {app} to {to:?}"), actor);
        deployed(app)
    }

    fn remove(&self, actor: &Actor, app: &str) -> Result<(), Refusal> {
        self.say(format!("removal of {app}"), actor);
        known(app)
    }

    fn canary(&self, actor: &Actor, app: &str, change: CanaryChange) -> Result<Deployed, Refusal> {
        self.say(format!("canary of {app} {change:?}"), actor);
        deployed(app)
    }

    fn apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal> {
        self.say("apps".to_owned(), actor);
        Ok(vec![view("shop"), AppView { canary: None, active: None, ..view("other") }])
    }

    fn app(&self, _: &Actor, app: &str) -> Result<AppView, Refusal> {
        known(app)?;
        Ok(view(app))
    }

    fn versions(&self, _: &Actor, app: &str) -> Result<Vec<VersionView>, Refusal> {
        known(app)?;
        Ok(vec![VersionView {
            version: 2,
            module: "0".repeat(64),
            module_bytes: 1000,
            kind: "module".to_owned(),
            created_ms: 1,
            by: "token ci".to_owned(),
            note: None,
            state: "active".to_owned(),
            reason: Some("3 of 4 requests failed".to_owned()),
        }])
    }

    fn limits(&self, _: &Actor, app: &str) -> Result<Map<String, Value>, Refusal> {
        known(app)?;
        Ok(Map::from_iter([("memory".to_owned(), json!("64MiB"))]))
    }

    fn set_limits(&self, actor: &Actor, app: &str, changes: Map<String, Value>) -> Result<Deployed, Refusal> {
        self.say(format!("limits of {app} {}", Value::Object(changes)), actor);
        deployed(app)
    }

    fn requests(&self, _: &Actor) -> Result<Vec<RequestView>, Refusal> {
        Ok(vec![RequestView {
            id: "r-1".to_owned(),
            app: "shop".to_owned(),
            version: 2,
            worker: 0,
            kind: "request".to_owned(),
            request: "GET /".to_owned(),
            age_ms: 5,
            cpu_us: 7,
            waits_for: "running".to_owned(),
        }])
    }

    fn cancel(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        self.say(format!("end of {id}"), actor);
        Ok(())
    }

    fn follow_logs(&self, _: &Actor, app: &str, lines: usize) -> Result<Box<dyn LogSource>, Refusal> {
        known(app)?;
        let mut log = self.log.lock().unwrap();
        log.readers += 1;
        let earlier: Vec<_> = (0..3).map(|n| format!("{{\"text\":\"line {n}\"}}")).collect();
        let earlier = earlier[earlier.len().saturating_sub(lines)..].to_vec();
        let at = log.lines.len();
        Ok(Box::new(Reader { earlier, at, log: Arc::clone(&self.log), ended: app == "gone" }))
    }

    fn reload(&self, actor: &Actor) -> Result<Vec<Deployed>, Refusal> {
        self.say("reload".to_owned(), actor);
        Ok(vec![deployed("shop")?])
    }

    fn export(&self, _: &Actor) -> Result<String, Refusal> {
        Ok("[[app]]\nname = \"shop\"\n".to_owned())
    }

    fn audit(&self, _: &Actor, lines: usize) -> Result<Vec<Value>, Refusal> {
        Ok(vec![json!({ "at_ms": 1, "by": "uid 0", "action": "deploy", "ok": true }); lines.min(2)])
    }

    fn server(&self, _: &Actor) -> Result<Map<String, Value>, Refusal> {
        let mut facts =
            Map::from_iter([("version".to_owned(), json!("0.1.0")), ("draining".to_owned(), json!(false))]);
        for key in [
            "pid",
            "uptime_ms",
            "workers",
            "apps",
            "connections",
            "connections_max",
            "descriptors",
            "memory_bytes",
        ] {
            facts.insert(key.to_owned(), json!(1));
        }
        Ok(facts)
    }

    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n# EOF\n".to_owned()
    }

    fn is_ready(&self) -> Result<(), String> {
        self.readiness.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn note_refused(&self, peer: &str, why: &str, times: u64) {
        self.said.lock().unwrap().push(format!("refused {peer}: {why} x{times}"));
    }
}

struct Reader {
    earlier: Vec<String>,
    at: usize,
    log: Arc<Mutex<Log>>,
    ended: bool,
}

impl LogSource for Reader {
    fn next(&mut self, within: Duration) -> LogNext {
        if !self.earlier.is_empty() {
            return LogNext::Line(self.earlier.remove(0));
        }
        if self.ended {
            return LogNext::Ended;
        }
        let line = self.log.lock().unwrap().lines.get(self.at).cloned();
        if let Some(line) = line {
            self.at += 1;
            return LogNext::Line(line);
        }
        std::thread::sleep(within.min(Duration::from_millis(20)));
        LogNext::Quiet
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.lock().unwrap().readers -= 1;
    }
}
