//! A disk that is full costs what does not fit. What is there stays, can be read, and grows again when there is room.
//!
//! Shown twice, each in a child of the test: on a small file system in memory, which root alone may mount, and below a
//! limit on the size of files, which anybody may set.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{FOLDER, app, check_modules, child, deploy, version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_store::{AuditRecord, ModuleFile, OpenError, ReceiveError, Store, StoreError};

/// Mounts a file system of 8 MiB over the folder, seen by the child alone.
const MOUNT: &str = r#"exec unshare --mount --propagation private sh -c '
    mount -t tmpfs -o size=8m,mode=0700 tmpfs "$TIDEGATE_STORE_TEST_FOLDER" || exit 77
    exec "$0" "$@"' "$0" "$@""#;
/// What the mount's shell ends with if it may not.
const SKIPPED: i32 = 77;

/// How a disk becomes full, and has room again.
trait Disk {
    fn fill(&mut self);
    fn clear(&mut self);
}

struct Mounted(PathBuf);

impl Disk for Mounted {
    fn fill(&mut self) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn clear(&mut self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

/// Files may be as large as the registry is.
struct Limited(PathBuf);

impl Disk for Limited {
    fn fill(&mut self) {
        let bytes = fs::metadata(self.0.join("registry.redb")).unwrap().len();
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum }).unwrap();
    }

    fn clear(&mut self) {
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    }
}

/// Puts apps with long settings until one does not fit. Returns the number that were kept.
fn put_until_full(store: &Store, name: &str, module: &ModuleFile) -> usize {
    for number in 0..20_000 {
        let mut version = version(1, module);
        version.settings = "x".repeat(20_000);
        let record = app(&format!("{name}-{number}"), vec![version]);
        match store.change(|change| change.put(&record)) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_disk_full(), "{error:?}");
                assert!(error.to_string().contains("is full"), "{error}");
                return number;
            }
        }
    }
    panic!("it is never full");
}

fn record() -> AuditRecord {
    AuditRecord {
        at_ms: 1,
        by: "server".to_owned(),
        action: "deploy".to_owned(),
        app: None,
        version: None,
        ok: true,
        detail: Some("x".repeat(5000)),
    }
}

fn check(folder: &Path, disk: &mut dyn Disk) {
    let store = Store::open(folder).unwrap();
    deploy(&store, "before", 1).unwrap();
    let module = store.receive_module(&mut [1, 2, 3].as_slice(), 3).unwrap();
    store.audit(&record()).unwrap();
    let mut kept = 0;
    for round in 0..3 {
        disk.fill();
        let large = vec![round; 9 << 20];
        match store.receive_module(&mut large.as_slice(), u64::MAX) {
            Err(ReceiveError::DiskFull { .. }) => {}
            other => panic!("{other:?}"),
        }
        let put = put_until_full(&store, &format!("round-{round}"), &module);
        kept += put;
        println!("round {round}: {put} were kept on a full disk");
        // All of it can be read, and not more. What did not fit, does not fit again.
        for _ in 0..3 {
            assert_eq!(store.apps().unwrap().len(), kept + 1);
            assert!(store.app(&format!("round-{round}-{put}")).unwrap().is_none());
            assert_eq!(put_until_full(&store, &format!("again-{round}"), &module), 0);
        }
        let told = (0..5000).find_map(|_| store.audit(&record()).err());
        assert!(matches!(told, Some(StoreError::DiskFull { .. })), "{told:?}");
        check_modules(&store);
        if round == 1 {
            disk.clear();
            deploy(&store, "meanwhile", 100).unwrap();
            kept += 1;
            disk.fill();
        }
        disk.clear();
        deploy(&store, "before", u64::from(round) + 2).unwrap();
        store.audit(&record()).unwrap();
    }
    assert!(store.audit_tail(usize::MAX).unwrap().len() > 3);
    disk.fill();
    let put = put_until_full(&store, "last", &module);
    store.release();
    match Store::open(folder) {
        Ok(store) => assert_eq!(store.apps().unwrap().len(), kept + put + 1),
        Err(error) => {
            println!("not opened on a full disk: {error}");
            assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
            assert!(error.to_string().contains("make room"), "{error}");
        }
    }
    disk.clear();
    let store = Store::open(folder).unwrap();
    assert_eq!(store.apps().unwrap().len(), kept + put + 1);
    check_modules(&store);
    let left = |folder: &Path| {
        let files =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        files.filter(|name| name.starts_with('.')).collect::<Vec<_>>()
    };
    assert_eq!((left(folder), left(&folder.join("wasm"))), (Vec::new(), Vec::new()));
}

/// Runs a child to its end. None: it may not do what it should.
fn run(test: &str, shell: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = child(test, folder.path(), shell).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) || text.contains("unshare failed") {
        return None;
    }
    assert!(output.status.success(), "{text}");
    assert!(text.contains("were kept on a full disk"), "{text}");
    Some(text.into_owned())
}

#[test]
fn a_full_file_system_costs_what_does_not_fit() {
    match run("a_child_fills_a_file_system", MOUNT) {
        Some(text) => println!("{text}"),
        None => eprintln!("SKIPPED: a file system may not be mounted here; root may"),
    }
}

#[test]
fn a_child_fills_a_file_system() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    check(&folder, &mut Mounted(folder.clone()));
}

#[test]
fn a_limit_on_files_costs_what_does_not_fit() {
    // The signal ends who does not ignore it, and what is ignored stays so in the child.
    println!("{}", run("a_child_reaches_a_limit_on_files", "trap '' XFSZ").unwrap());
}

#[test]
fn a_child_reaches_a_limit_on_files() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    check(&folder, &mut Limited(folder.clone()));
}
