//! What the tests of the store share: records, modules that can be told apart, and a child process of the test.

#![allow(dead_code)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tidegate_store::records::{AppRecord, VersionRecord};
use tidegate_store::{ModuleFile, Store, StoreError};

/// Names the folder that a child works in. Without it a child's test does nothing.
pub(crate) const FOLDER: &str = "TIDEGATE_STORE_TEST_FOLDER";

pub(crate) fn version(number: u64, module: &ModuleFile) -> VersionRecord {
    VersionRecord {
        number,
        module: module.hash.clone(),
        module_bytes: module.bytes,
        settings: format!("routes = [\"/{number}\"]\n"),
        facts: serde_json::json!({ "kind": "module", "cost": 1 }),
        created_ms: 1_790_000_000_000 + number,
        by: "uid 1000".to_owned(),
        note: None,
        failed: None,
    }
}

pub(crate) fn app(name: &str, versions: Vec<VersionRecord>) -> AppRecord {
    let active = versions.last().map(|version| version.number);
    AppRecord {
        name: name.to_owned(),
        tenant: None,
        active,
        before: None,
        canary: None,
        next: active.unwrap_or(0) + 1,
        versions,
        manifest: None,
    }
}

/// The bytes of the module with this number: of a length of its own, and in no part like another.
pub(crate) fn module(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 1000 + usize::try_from(number % 7).unwrap() * 20_000];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn upload(store: &Store, number: u64) -> ModuleFile {
    store.receive_module(&mut module(number).as_slice(), u64::MAX).unwrap()
}

/// Adds a version to an app, as a deploy does: the module, then the record.
pub(crate) fn deploy(store: &Store, name: &str, number: u64) -> Result<(), StoreError> {
    let module = upload(store, number);
    store.change(|change| {
        let mut record = change.app(name)?.unwrap_or_else(|| app(name, Vec::new()));
        record.versions.push(version(number, &module));
        record.before = record.active.replace(number);
        record.next = number + 1;
        change.put(&record)
    })
}

/// Every module that a version is made of is there, and is the one.
pub(crate) fn check_modules(store: &Store) {
    for app in store.apps().unwrap() {
        for version in &app.versions {
            let bytes = store.read_module(&version.module).unwrap();
            let bytes = bytes.unwrap_or_else(|| panic!("{} has no module {}", app.name, version.module));
            assert_eq!(bytes.len() as u64, version.module_bytes, "{} {}", app.name, version.number);
        }
    }
}

/// Runs a test of this file alone, in a process of its own, through these words of a shell.
pub(crate) fn child(test: &str, folder: &Path, shell: &str) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell}\nexec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
