//! What a server that hosts apps survives: being killed at any moment, a cache that was changed, a disk that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::admin::{Admin, Refused, hosting, hosting_manifest, mounted, number_of, numbered};
use tidegate_tests::artifacts;
use tidegate_tests::bench::hosting_kill::{Plan, run};
use tidegate_tests::bench::random::Random;
use tidegate_tests::logs::LineLog;
use tidegate_tests::wait::{PATIENCE, poll_for};
use tidegate_tests::{Addr, Client, Server};

/// Begins what the log says of a compiled guest that is not as it was written.
const NOT_USED: &str = "the kept copy of the compiled guest is not used";

/// The numbers, and a seed that is told.
fn random() -> (Random, u64) {
    let seed = std::env::var("TIDEGATE_SEED").map_or_else(|_| Random::seed(), |text| text.parse().unwrap());
    println!("TIDEGATE_SEED={seed}");
    (Random::new(seed), seed)
}

#[test]
fn a_kill_during_deploys_leaves_the_old_or_the_new_version() {
    let (_, seed) = random();
    let report = run(&Plan { kills: 30, seed });
    println!("{report:#?}");
    assert!(report.done > 30, "{report:?}");
}

fn state() -> TempDir {
    tempfile::tempdir().expect("a state folder")
}

fn settings(app: &str) -> Value {
    json!({ "routes": [format!("{app}.test/*")] })
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert!(server.wait_exit(PATIENCE).success());
}

fn entries(state: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(state.join("modules")).expect("the folder of the entries");
    listed.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn compiled_guests_with_flipped_bits_are_never_run() {
    const APPS: u64 = 4;
    let (mut random, _) = random();
    let state = state();
    let server = hosting(state.path()).start();
    let admin = Admin::of(state.path());
    for number in 0..APPS {
        let app = format!("app-{number}");
        admin.deploy(&app, &numbered(number), &settings(&app)).unwrap().unwrap();
    }
    stop(server);
    for round in 0..12 {
        let entries = entries(state.path());
        assert_eq!(entries.len() as u64, APPS, "round {round}");
        for entry in &entries {
            let mut bytes = fs::read(entry).unwrap();
            for _ in 0..=random.below(8) {
                let at = random.place(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            fs::write(entry, bytes).unwrap();
        }
        let server = hosting(state.path()).env("TIDEGATE_LOG", "debug").start();
        for number in 0..APPS {
            let response = server.get(&format!("app-{number}.test"), "/");
            assert_eq!(number_of(&response), Some(number), "round {round}: {response:?}");
        }
        let log = server.stderr();
        let told = log.count(|line| line.contains(NOT_USED)) as u64;
        assert_eq!(told, APPS, "round {round}: {:#?}", log.tail(30));
        stop(server);
    }
    // What was compiled anew is used.
    let server = hosting(state.path()).env("TIDEGATE_LOG", "debug").start();
    for number in 0..APPS {
        assert_eq!(number_of(&server.get(&format!("app-{number}.test"), "/")), Some(number));
    }
    assert_eq!(server.stderr().count(|line| line.contains(NOT_USED)), 0);
}

#[test]
fn a_module_that_was_damaged_is_never_compiled_and_comes_back_with_an_upload() {
    let state = state();
    let server = hosting(state.path()).start();
    let admin = Admin::of(state.path());
    let mut hashes = Vec::new();
    for number in 0..2 {
        let (app, module) = (format!("app-{number}"), numbered(number));
        hashes.push(admin.upload(&module).unwrap().unwrap());
        admin.deploy_uploaded(&app, &hashes[number as usize], &settings(&app)).unwrap().unwrap();
    }
    stop(server);
    // Another number, and a valid module all the same.
    let path = state.path().join("wasm").join(&hashes[0]);
    fs::write(&path, numbered(7)).unwrap();
    entries(state.path()).iter().for_each(|entry| fs::remove_file(entry).unwrap());

    let server = hosting(state.path()).start();
    let response = server.get("app-0.test", "/");
    assert!(response.status() >= 500, "{response:?}");
    assert_eq!(number_of(&server.get("app-1.test", "/")), Some(1));
    assert_eq!(admin.upload(&numbered(0)).unwrap().unwrap(), hashes[0]);
    let served = poll_for(PATIENCE, || number_of(&server.get("app-0.test", "/")));
    assert_eq!(served, Some(0));
}

/// A server whose state folder is a small file system of its own; ended with SIGKILL when dropped.
struct Small {
    child: Child,
    log: LineLog,
    /// The file system, as this process reaches it.
    disk: PathBuf,
    /// Everything else.
    folder: TempDir,
}

impl Drop for Small {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server's last words ---\n{}\n---", self.log.tail(40));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Small {
    /// None, with a word: this system lets nobody mount.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let manifest = folder.path().join("tidegate.toml");
        let admin = format!("unix:{}", folder.path().join("admin").display());
        let text = hosting_manifest(&state);
        let text: String =
            text.lines().filter(|line| !line.starts_with("admin")).map(|l| format!("{l}\n")).collect();
        fs::write(&manifest, format!("{text}admin = {admin:?}\n")).unwrap();
        let socket = format!("unix:{}", folder.path().join("s").display());
        let mount = "mount -t tmpfs -o size=12m,mode=700 none \"$1\"";
        let words = ["serve", manifest.to_str().unwrap(), "--listen", &socket, "--workers", "1"];
        let Some(mut command) = mounted(mount, &state, &words) else {
            eprintln!("SKIPPED: no namespaces of users and mounts here");
            return None;
        };
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = LineLog::collect(child.stderr.take().unwrap());
        // The file system as the child sees it.
        let its = Path::new("/proc").join(child.id().to_string()).join("root");
        let disk = its.join(state.strip_prefix("/").unwrap());
        let small = Self { child, log, disk, folder };
        let listens = poll_for(PATIENCE, || small.client().is_ok().then_some(()));
        assert!(listens.is_some(), "it does not listen:\n{}", small.log.tail(20));
        let listens = poll_for(PATIENCE, || small.admin().app("none").ok());
        assert!(listens.is_some(), "its admin side does not listen:\n{}", small.log.tail(20));
        Some(small)
    }

    fn client(&self) -> std::io::Result<Client> {
        Client::connect(&Addr::Unix(self.folder.path().join("s")))
    }

    fn admin(&self) -> Admin {
        Admin::at(Addr::Unix(self.folder.path().join("admin")))
    }

    fn serves(&self) -> Option<u64> {
        number_of(&self.client().unwrap().get("app.test", "/").unwrap())
    }

    /// Fills the disk but for so many bytes.
    fn fill(&self, left: u64) {
        let path = self.disk.join("ballast");
        let block = [1; 4096];
        let mut file = fs::File::create(&path).unwrap();
        let mut bytes: u64 = 0;
        while std::io::Write::write_all(&mut file, &block).is_ok() {
            bytes += 4096;
        }
        let _ = file.set_len(bytes.saturating_sub(left));
    }

    fn clear(&self) {
        fs::remove_file(self.disk.join("ballast")).unwrap();
    }
}

#[test]
fn a_disk_that_fills_during_a_deploy_costs_the_old_version_nothing() {
    let Some(server) = Small::start() else { return };
    let admin = server.admin();
    admin.deploy("app", &numbered(1), &settings("app")).unwrap().unwrap();
    let mut serves = 1;
    assert_eq!(server.serves(), Some(1));

    let (asked, failed, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let mut full = 0;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.client().unwrap();
                while !over.load(Ordering::Acquire) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let response = client.get("app.test", "/");
                    if !response.as_ref().is_ok_and(|response| number_of(response).is_some()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("{response:?}");
                        break;
                    }
                }
            });
        }
        // From none at all to what is enough: whatever is written on the way is what fails once.
        let mut number = 1;
        for left in [0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048] {
            server.fill(left * 1024);
            for large in [true, false] {
                number += 1;
                let deployed =
                    admin.deploy("app", &padded(number, if large { 3 << 20 } else { 10 }), &settings("app"));
                match deployed.expect("the admin side answers") {
                    Ok(_) => serves = number,
                    Err(Refused { kind, message }) => {
                        assert_eq!(kind, "disk-full", "{left} KiB left: {message}");
                        assert!(message.contains("full"), "{message}");
                        full += 1;
                    }
                }
                assert_eq!(server.serves(), Some(serves), "{left} KiB left");
            }
            server.clear();
        }
        number += 1;
        admin.deploy("app", &numbered(number), &settings("app")).unwrap().unwrap();
        serves = number;
        assert_eq!(server.serves(), Some(serves));
        over.store(true, Ordering::Release);
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    println!("{full} deploys found no room; {asked} requests meanwhile");
    assert!(full >= 15 && asked > 100, "{full} {asked}");
    assert_eq!(failed, 0, "of {asked} requests");
    let panics = server.log.count(|line| line.contains("panicked"));
    assert_eq!(panics, 0, "{:#?}", server.log.tail(20));
}

/// The same guest, with so many bytes more that mean nothing.
fn padded(number: u64, bytes: usize) -> Vec<u8> {
    let mut module = numbered(number);
    // A custom section with an empty name.
    let mut length = u32::try_from(bytes + 1).unwrap();
    module.push(0);
    loop {
        let low = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        module.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    module.push(0);
    module.resize(module.len() + bytes, 0);
    module
}

#[test]
fn damaged_modules_are_refused_and_nothing_else_suffers() {
    use tidegate_tests::bench::hosting_fuzz;
    let (_, seed) = random();
    let report = hosting_fuzz::run(&hosting_fuzz::Plan { modules: 2_000, seed, first: 0 });
    println!("{report:#?}");
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.served > 100 && report.taken > 20 && report.refused.len() > 5, "{report:?}");
}

#[test]
fn a_state_folder_has_one_server() {
    let state = state();
    let _server = hosting(state.path()).start();
    let (status, told) = hosting(state.path()).start_refused();
    assert!(!status.success());
    assert!(told.contains("is held by another server (process "), "{told}");
    assert!(told.contains(state.path().to_str().unwrap()), "{told}");
}

#[test]
fn a_canary_that_fails_ends_though_the_disk_is_full() {
    let Some(server) = Small::start() else { return };
    let admin = server.admin();
    admin.deploy("app", &numbered(1), &settings("app")).unwrap().unwrap();
    let module = admin.upload(&fs::read(artifacts::guest("trap")).unwrap()).unwrap().unwrap();
    let rule = json!({ "percent": 100, "failure_percent": 20, "requests_min": 10 });
    // So large that what is written of its end does not fit into what the registry has.
    let env = json!({ "A": "x".repeat(350 << 10) });
    for canary in [json!(null), rule] {
        let inactive = canary.is_null();
        let body =
            json!({ "module": module, "settings": { "env": env }, "canary": canary, "inactive": inactive });
        let told = admin.send("POST", "/v1/apps/app/versions", body.to_string().as_bytes()).unwrap();
        assert!(told.text().contains("\"done\""), "{}", told.text());
    }
    server.fill(0);
    let ended = poll_for(PATIENCE, || server.serves());
    assert_eq!(ended, Some(1));
    let app = admin.app("app").unwrap().unwrap();
    assert!(app["canary"].is_null(), "{app}");
    assert!(
        server.log.wait_for(PATIENCE, |line| line.contains("that a canary has failed is not kept")).is_some()
    );
    server.clear();
    // What is on the disk follows with the next change.
    admin.deploy("app", &numbered(2), &json!({})).unwrap().unwrap();
    assert_eq!(server.serves(), Some(2));
    let versions = admin.ask("GET", "/v1/apps/app/versions", &Value::Null).unwrap().unwrap();
    let states: Vec<_> = versions.as_array().unwrap().iter().map(|version| &version["state"]).collect();
    assert_eq!(states, ["active", "failed", "kept", "kept"]);
}
