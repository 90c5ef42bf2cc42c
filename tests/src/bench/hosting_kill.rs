//! A server that is killed while versions are deployed and rolled back, again and again: after each restart exactly the
//! version that served, or the one that was under way, serves.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::random::Random;
use crate::admin::{Admin, hosting, number_of, numbered};
use crate::server::Server;
use crate::wait::PATIENCE;

/// The app, and the host that leads to it.
const APP: &str = "numbers";
const HOST: &str = "numbers.test";
/// A life is at most this long; half of them much shorter.
const LIFE_MAX_MS: u64 = 900;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kills: u64,
    /// The same one, the same moments; what the server is at by then differs.
    pub seed: u64,
}

/// What was seen. Whatever was wrong, a panic has told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Deploys and rollbacks that were answered.
    pub done: u64,
    /// Kills with one under way, after which the old version served, and the new one.
    pub old: u64,
    pub new: u64,
    /// Kills with nothing under way.
    pub idle: u64,
    /// The longest that a restart took until it listened.
    pub restart: Duration,
}

/// What serves, by all that was answered, and what may serve instead.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    serves: Option<u64>,
    /// Where a rollback leads.
    before: Option<u64>,
    under_way: Option<Option<u64>>,
    /// The last number that a module had.
    last: u64,
    done: u64,
}

impl Expected {
    fn serve(&mut self, number: Option<u64>) {
        self.before = self.serves;
        self.serves = number;
    }
}

/// Runs the plan.
pub fn run(plan: &Plan) -> Report {
    let state = tempfile::tempdir().expect("a state folder");
    let mut random = Random::new(plan.seed);
    let mut report = Report::default();
    let mut expected = Expected::default();
    for kill in 0..plan.kills {
        let started = Instant::now();
        let mut server = hosting(state.path()).option("--workers", "1").start();
        report.restart = report.restart.max(started.elapsed());
        if kill > 0 {
            take_up(&server, state.path(), &mut expected, &mut report, kill);
        }
        let life_ms = random.below(LIFE_MAX_MS) / (1 + 8 * random.below(2));
        let seed = random.next();
        expected = live(&mut server, state.path(), expected, Duration::from_millis(life_ms), seed);
    }
    // One that ends as it should, and what is kept is whole: every version can be gone back to.
    let server = hosting(state.path()).option("--workers", "1").start();
    take_up(&server, state.path(), &mut expected, &mut report, plan.kills);
    roll_through(&server, &Admin::of(state.path()));
    report.done = expected.done;
    report
}

/// Deploys until the server is killed. Returns what was answered by then.
fn live(server: &mut Server, state: &Path, expected: Expected, life: Duration, seed: u64) -> Expected {
    let admin = Admin::of(state);
    let (expected, over) = (Mutex::new(expected), AtomicBool::new(false));
    thread::scope(|scope| {
        let deployer = scope.spawn(|| {
            let mut random = Random::new(seed);
            loop {
                if over.load(Ordering::Acquire) || !step(&admin, &expected, &mut random) {
                    break;
                }
            }
        });
        thread::sleep(life);
        server.signal(Signal::KILL);
        over.store(true, Ordering::Release);
        server.wait_exit(PATIENCE);
        deployer.join().expect("every answer is one that may be");
    });
    expected.into_inner().expect("nobody panicked")
}

/// One deploy or rollback. False: the server is gone.
fn step(admin: &Admin, expected: &Mutex<Expected>, random: &mut Random) -> bool {
    let mut now = expected.lock().expect("nobody panicked");
    let back = now.before.filter(|_| random.below(4) == 0);
    if back.is_none() {
        now.last += 1;
    }
    let next = back.or(Some(now.last));
    now.under_way = Some(next);
    let (last, life) = (now.last, now.done);
    drop(now);
    let answer = match back {
        Some(_) => admin.rollback(APP),
        None => admin.deploy(APP, &numbered(last), &settings(life)),
    };
    let mut now = expected.lock().expect("nobody panicked");
    match answer {
        Ok(Ok(_)) => {
            now.serve(next);
            now.under_way = None;
            now.done += 1;
            true
        }
        Ok(Err(refused)) => panic!("{next:?}: {refused:?}"),
        // Whether it was done shows after the restart.
        Err(_) => false,
    }
}

fn settings(number: u64) -> Value {
    json!({ "routes": [format!("{HOST}/*")], "env": { "DONE": number.to_string() } })
}

/// After a restart: what serves is one of two.
fn take_up(server: &Server, state: &Path, expected: &mut Expected, report: &mut Report, kill: u64) {
    let response = server.get(HOST, "/");
    let serves = number_of(&response);
    if serves.is_none() {
        assert_eq!(response.status(), 404, "kill {kill}: {response:?}, and {expected:?}");
    }
    match expected.under_way.take() {
        Some(next) if serves == next && serves != expected.serves => {
            report.new += 1;
            expected.serve(next);
        }
        Some(_) => report.old += 1,
        None => report.idle += 1,
    }
    assert_eq!(serves, expected.serves, "kill {kill}: {expected:?}");
    // What the registry says, and what serves, are the same.
    let app = Admin::of(state).app(APP).expect("the admin side answers");
    let active = app.as_ref().ok().and_then(|app| app["active"].as_u64());
    assert_eq!(active.is_some(), serves.is_some(), "kill {kill}: {app:?}");
    assert_eq!(server.stderr().count(|line| line.contains("panicked")), 0, "{:#?}", server.stderr().tail(20));
}

/// Goes back to every version that is kept, and each answers.
fn roll_through(server: &Server, admin: &Admin) {
    let versions = admin.ask("GET", &format!("/v1/apps/{APP}/versions"), &Value::Null);
    let versions = versions.expect("the admin side answers").expect("the app is there");
    let mut seen = Vec::new();
    for version in versions.as_array().expect("a list") {
        let body = json!({ "version": version["version"] });
        let done = admin.ask("POST", &format!("/v1/apps/{APP}/rollback"), &body);
        done.expect("the admin side answers").unwrap_or_else(|refused| panic!("{version}: {refused:?}"));
        let response = server.get(HOST, "/");
        seen.push(number_of(&response).unwrap_or_else(|| panic!("{version}: {response:?}")));
    }
    let kept = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert!(kept > 1 && seen.len() == kept, "{seen:?}");
}
