//! A server that is killed at any moment leaves the state before its last change or the one after it, whole.
//!
//! `TIDEGATE_STORE_KILLS` says how often; `TIDEGATE_STORE_SEED` repeats a run.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{FOLDER, app, check_modules, child, upload, version};
use tidegate_store::{AuditRecord, Store, StoreError};

const KILLS_VARIABLE: &str = "TIDEGATE_STORE_KILLS";
const KILLS_DEFAULT: u64 = 60;
const SEED_VARIABLE: &str = "TIDEGATE_STORE_SEED";
/// After so many kills the next child begins with nothing.
const LIVES: u64 = 5;
/// Versions that an app keeps.
const KEPT: usize = 4;

/// Makes versions of two apps, both in one change, and says each number when it is durable.
#[test]
fn a_child_deploys() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let mut number = store.app("a").unwrap().map_or(1, |app| app.next);
    loop {
        let module = upload(&store, number);
        let changed = store.change(|change| {
            for name in ["a", "b"] {
                let mut record = change.app(name)?.unwrap_or_else(|| app(name, Vec::new()));
                record.versions.push(version(number, &module));
                record.versions.drain(..record.versions.len().saturating_sub(KEPT));
                record.before = record.active.replace(number);
                record.next = number + 1;
                change.put(&record)?;
            }
            change.set_meta("last", Some(&number.to_string()))
        });
        changed.unwrap();
        println!("\ndone {number}");
        audit(&store, number).unwrap();
        println!("\ntold {number}");
        if number.is_multiple_of(8) {
            store.collect().unwrap();
        }
        number += 1;
    }
}

fn audit(store: &Store, number: u64) -> Result<(), StoreError> {
    store.audit(&AuditRecord {
        at_ms: number,
        by: "server".to_owned(),
        action: "deploy".to_owned(),
        app: Some("a".to_owned()),
        version: Some(number),
        ok: true,
        detail: None,
    })
}

/// The largest number that the child said with this word.
fn last(said: &str, word: &str) -> Option<u64> {
    said.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).max()
}

#[test]
fn a_kill_at_any_moment_leaves_the_state_before_or_after() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    let seed = std::env::var(SEED_VARIABLE).map_or_else(
        |_| u64::from(SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()),
        |text| text.parse().unwrap(),
    );
    println!("{KILLS_VARIABLE}={kills} {SEED_VARIABLE}={seed}");
    let mut random = seed;
    let mut folder = tempfile::tempdir().unwrap();
    let mut done_before = 0;
    let (mut versions, mut under_way, mut silent) = (0, 0, 0);
    for kill in 0..kills {
        if kill % LIVES == 0 {
            folder = tempfile::tempdir().unwrap();
            versions += std::mem::take(&mut done_before);
        }
        let mut process = child("a_child_deploys", folder.path(), "");
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Some in the first moments of their life, the others once they are at work.
        let is_young = random >> 62 == 0;
        let after = Duration::from_micros((random >> 33) % if is_young { 10_000 } else { 60_000 });
        if !is_young {
            while !said.contains("done") {
                assert!(
                    out.read_line(&mut said).unwrap() > 0,
                    "the child ended: {said} {}",
                    errors(&mut process)
                );
            }
        }
        std::thread::sleep(after);
        process.kill().unwrap();
        out.read_to_string(&mut said).unwrap();
        process.wait().unwrap();

        let done = last(&said, "done ").unwrap_or(done_before);
        let told = last(&said, "told ").unwrap_or(0);
        let store = Store::open(folder.path()).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let apps = store.apps().unwrap();
        let serves = apps.first().map_or(0, |app| app.active.unwrap());
        assert!(serves == done || serves == done + 1, "kill {kill}: {serves} serves, {done} was done");
        if serves > 0 {
            let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
            assert_eq!(names, ["a", "b"], "kill {kill}");
            for app in &apps {
                assert_eq!(app.active, Some(serves), "kill {kill}");
                assert_eq!(app.next, serves + 1, "kill {kill}");
                let kept: Vec<u64> = app.versions.iter().map(|version| version.number).collect();
                let first = serves.saturating_sub(KEPT as u64 - 1).max(1);
                assert_eq!(kept, (first..=serves).collect::<Vec<_>>(), "kill {kill}");
            }
            assert_eq!(store.meta("last").unwrap(), Some(serves.to_string()), "kill {kill}");
        }
        check_modules(&store);
        // What this life told is there, each once; one more may be.
        let audit: Vec<u64> = store
            .audit_tail(100_000)
            .unwrap()
            .iter()
            .map(|record| record["at_ms"].as_u64().unwrap())
            .collect();
        assert!(audit.last().is_none_or(|last| *last <= serves), "kill {kill}: {audit:?}");
        assert!(
            (done_before + 1..=told).all(|number| audit.contains(&number)),
            "kill {kill}: {told} {audit:?}"
        );
        assert!(audit.windows(2).all(|pair| pair[0] < pair[1]), "kill {kill}: {audit:?}");
        under_way += u64::from(serves == done + 1);
        silent += u64::from(!said.contains("done"));
        done_before = serves;
        store.release();
    }
    versions += done_before;
    println!(
        "{versions} versions, {under_way} kills after a change and before its word, {silent} before any word"
    );
    assert!(versions > kills, "{versions} versions in {kills} lives");
}

fn errors(process: &mut std::process::Child) -> String {
    let mut text = String::new();
    process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}
