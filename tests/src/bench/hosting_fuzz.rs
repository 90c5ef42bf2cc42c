//! Damaged modules and components, deployed one after the other while another app is served: each is refused with its
//! reason, or is a module all the same and serves; the server lives on, and the other app never fails.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::random::Random;
use crate::Client;
use crate::admin::{Admin, Refused, hosting, number_of, numbered};
use crate::artifacts;
use crate::server::Server;
use crate::stream::Addr;

/// Apps that are deployed to at once.
const LANES: u64 = 2;
/// Versions of an app that the server keeps; the modules of others may go.
const KEPT: usize = 12;
/// Bytes of the largest seed that is taken as often as the others.
const SMALL_BYTES: usize = 64 * 1024;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub modules: u64,
    pub seed: u64,
    /// The number of the first: one that was told of is had again with its number here.
    pub first: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Taken, in spite of what was done to them.
    pub taken: u64,
    /// Refused, by the beginning of the reason.
    pub refused: BTreeMap<String, u64>,
    /// What should not be: other answers, or none.
    pub wrong: Vec<String>,
    /// The longest that a deploy took, and the answer of what was taken; each with its number.
    pub longest: (Duration, u64),
    pub longest_answer: (Duration, u64),
    /// Requests to the other app, and those that failed.
    pub served: u64,
    pub failed: u64,
    /// Memory of the server after the first few, and at the end.
    pub rss: (u64, u64),
    /// Compilations by how they ended.
    pub compiled: BTreeMap<String, u64>,
    /// The most memory and CPU time that a compilation took, in bytes and seconds.
    pub compilation_most: (f64, f64),
}

/// Runs the plan against a server of its own.
pub fn run(plan: &Plan) -> Report {
    let state = tempfile::tempdir().expect("a state folder");
    let seeds = seeds();
    // What a damaged guest has to say is not what is looked at.
    let mut server = hosting(state.path()).option("--cache", "64MiB").env("TIDEGATE_LOG", "error").start();
    let admin = Admin::of(state.path());
    let deployed = admin.deploy("bystander", &numbered(0), &json!({ "routes": ["bystander.test/*"] }));
    deployed.expect("the admin side answers").expect("a good module is taken");

    let report = Mutex::new(Report::default());
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let settled = AtomicU64::new(0);
    let (served, failed) = thread::scope(|scope| {
        let bystander = scope.spawn(|| stand_by(&server, &over));
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let lane = Lane::new(lane, state.path(), server.addr());
                scope.spawn(|| {
                    lane.run(plan, &seeds, &next, &report, || {
                        settled.store(server.rss_bytes(), Ordering::Relaxed);
                    });
                })
            })
            .collect();
        let lanes: Vec<_> = lanes.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Release);
        let seen = bystander.join().expect("the bystander never panics");
        lanes.into_iter().for_each(|lane| lane.expect("a lane never panics"));
        seen
    });
    let mut report = report.into_inner().expect("nobody panicked");
    (report.served, report.failed, report.rss.0) = (served, failed, settled.into_inner());
    if server.is_running() {
        report.rss.1 = server.rss_bytes();
        if let Err(error) = report.read_metrics(&admin) {
            report.wrong.push(format!("the metrics: {error}"));
        }
    } else {
        report.wrong.push(format!("the server has ended: {:#?}", server.stderr().tail(20)));
    }
    let told = server.stderr().lines();
    report.wrong.extend(told.into_iter().filter(|line| line.contains("panicked") || line.contains("a bug")));
    report
}

impl Report {
    /// What the server has seen of its compilations.
    fn read_metrics(&mut self, admin: &Admin) -> Result<(), String> {
        let text = admin.send("GET", "/metrics", b"").map_err(|error| error.to_string())?.text();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            line.ok_or_else(|| format!("no {name}"))
        };
        let most =
            (of("tidegate_compilation_memory_max_bytes")?, of("tidegate_compilation_cpu_max_seconds")?);
        self.compilation_most = most;
        for ending in ["ok", "refused", "limits", "failed"] {
            let count = of(&format!("tidegate_compiled_total{{outcome=\"{ending}\"}}"))?;
            self.compiled.insert(ending.to_owned(), count as u64);
        }
        Ok(())
    }
}

/// Requests to an app that nobody touches; how many were served, and failed.
fn stand_by(server: &Server, over: &AtomicBool) -> (u64, u64) {
    let (mut served, mut failed) = (0, 0);
    let mut client = None;
    while !over.load(Ordering::Acquire) {
        let mut connected = match client.take() {
            Some(client) => client,
            None => match Client::connect(server.addr()) {
                Ok(client) => client,
                Err(_) => {
                    failed += 1;
                    break;
                }
            },
        };
        match connected.get("bystander.test", "/") {
            Ok(response) if number_of(&response) == Some(0) => {
                served += 1;
                client = Some(connected);
            }
            _ => failed += 1,
        }
        // It is there to see, not to load.
        thread::sleep(Duration::from_millis(2));
    }
    (served, failed)
}

/// Deploys to one app.
struct Lane<'a> {
    app: String,
    admin: Admin,
    server: &'a Addr,
    state: &'a Path,
    /// Modules of versions that may be kept.
    taken: VecDeque<String>,
}

impl<'a> Lane<'a> {
    fn new(lane: u64, state: &'a Path, server: &'a Addr) -> Self {
        Self { app: format!("fuzz-{lane}"), admin: Admin::of(state), server, state, taken: VecDeque::new() }
    }

    /// Deploys until there are enough. `settled` is called after a tenth of them.
    fn run(
        mut self,
        plan: &Plan,
        seeds: &[Vec<u8>],
        next: &AtomicU64,
        report: &Mutex<Report>,
        settled: impl Fn(),
    ) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= plan.modules {
                return;
            }
            if number == plan.modules / 10 {
                settled();
            }
            let number = plan.first + number;
            // Of the number alone, so that one of them can be had again.
            let mut random = Random::new(plan.seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
            let module = mutated(seeds, &mut random);
            let started = Instant::now();
            let seen = self.deploy(&module);
            let took = (started.elapsed(), number);
            let answer = seen.as_ref().is_ok_and(Option::is_none).then(|| self.ask());
            let mut report = report.lock().expect("nobody panicked");
            report.longest = report.longest.max(took);
            let seen = match answer {
                None => seen,
                Some(Err(wrong)) => Err(wrong),
                Some(Ok(took)) => {
                    report.longest_answer = report.longest_answer.max((took, number));
                    Ok(None)
                }
            };
            match seen {
                Ok(None) => report.taken += 1,
                Ok(Some(reason)) => *report.refused.entry(reason).or_default() += 1,
                Err(wrong) => {
                    report.wrong.push(format!("module {number} of seed {}: {wrong}", plan.seed));
                    if report.wrong.len() > 20 {
                        return;
                    }
                }
            }
            drop(report);
            if plan.modules == 1 {
                println!("{} bytes: {}", module.len(), module.escape_ascii());
            }
        }
    }

    /// Deploys one. None: it is taken. Else why not.
    fn deploy(&mut self, module: &[u8]) -> Result<Option<String>, String> {
        let uploaded = self.admin.upload(module).map_err(|error| format!("the upload: {error}"))?;
        let hash = uploaded.map_err(|refused| format!("the upload: {refused:?}"))?;
        let limits = json!({ "cpu": "20ms", "wall": "1s", "memory": "32MiB" });
        let settings = json!({ "routes": [format!("{}.test/*", self.app)], "limits": limits });
        let deployed = self.admin.deploy_uploaded(&self.app, &hash, &settings);
        match deployed.map_err(|error| format!("the deploy: {error}"))? {
            Ok(_) => {
                self.taken.push_back(hash);
                if self.taken.len() > KEPT
                    && let Some(old) = self.taken.pop_front()
                    && !self.taken.contains(&old)
                {
                    self.remove(&old);
                }
                Ok(None)
            }
            Err(Refused { kind, message }) if kind == "module" => {
                if !self.taken.contains(&hash) {
                    self.remove(&hash);
                }
                Ok(Some(reason(&message)))
            }
            Err(refused) => Err(format!("{refused:?}")),
        }
    }

    /// A request to what was taken, and how long the head of its answer took. Whatever the guest does, it does to itself; a
    /// connection that is cut is an answer too. How long its body takes is its own business.
    fn ask(&self) -> Result<Duration, String> {
        let started = Instant::now();
        let asked = Client::connect(self.server).and_then(|mut client| {
            client.send_get(&format!("{}.test", self.app), "/")?;
            client.head().map(drop)
        });
        match asked {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err("no answer".to_owned()),
            _ => Ok(started.elapsed()),
        }
    }

    /// The server would, after an hour; the disk of this machine is small.
    fn remove(&self, hash: &str) {
        let _ = fs::remove_file(self.state.join("wasm").join(hash));
    }
}

/// What reasons of one kind have in common.
fn reason(message: &str) -> String {
    let plain: String = message.chars().filter(|char| !char.is_ascii_digit()).take(60).collect();
    plain.split('`').next().unwrap_or_default().trim().to_owned()
}

/// Guests of all kinds: those by hand, and what compilers make.
fn seeds() -> Vec<Vec<u8>> {
    let folder = artifacts::workspace().join("tests/wat");
    let names = fs::read_dir(folder).expect("the folder of the guests").flatten();
    let mut names: Vec<_> =
        names.filter_map(|name| name.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    let mut paths: Vec<_> = names.iter().map(|name| artifacts::wat_guest(name)).collect();
    paths.extend(["hello", "echo", "proxy"].map(artifacts::module_guest));
    paths.extend(["hello", "echo", "proxy"].map(artifacts::component_guest));
    paths.iter().map(|path| fs::read(path).expect("a guest")).collect()
}

/// One of them, damaged.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let seed = loop {
        let seed = &seeds[random.place(seeds.len())];
        if seed.len() <= SMALL_BYTES || random.below(8) == 0 {
            break seed;
        }
    };
    let mut bytes = seed.clone();
    if random.below(8) == 0 {
        bytes.truncate(random.place(bytes.len() + 1));
        return bytes;
    }
    // One change alone often leaves a guest that runs.
    let changes = random.below(4);
    for _ in 0..=changes {
        mutate(&mut bytes, seeds, random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x40, 0x0b, 0x20];
    // Half of them where sections begin and types are told.
    let len = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(512) };
    let at = random.place(len);
    let run = random.place(32).min(bytes.len() - at.min(bytes.len()));
    match random.below(7) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = TELLING[random.place(TELLING.len())],
        3 => {
            let more: Vec<u8> = (0..run).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
            bytes.splice(at..at, more);
        }
        4 => drop(bytes.drain(at..at + run)),
        5 => {
            let twice = bytes[at..at + run].to_vec();
            bytes.splice(at..at, twice);
        }
        _ => {
            // The front of one and the rest of another.
            let other = &seeds[random.place(seeds.len())];
            if other.len() <= SMALL_BYTES {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.place(other.len())..]);
            }
        }
    }
}
