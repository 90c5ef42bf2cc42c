//! What is kept is what was put in, across any changes and reopenings.

mod common;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

use common::{app, check_modules, deploy, module, upload, version};
use proptest::prelude::*;
use tidegate_store::records::AppRecord;
use tidegate_store::{ModuleFile, ReceiveError, Store, StoreError};

#[derive(Clone, Debug)]
enum Step {
    Put {
        name: usize,
        number: u64,
        note: bool,
    },
    Remove {
        name: usize,
    },
    Meta {
        key: usize,
        value: Option<u8>,
    },
    /// Changes that are thrown away.
    Fail {
        name: usize,
    },
    Reopen,
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, 1..40_u64, any::<bool>()).prop_map(|(name, number, note)| Step::Put { name, number, note }),
        2 => (0..4_usize).prop_map(|name| Step::Remove { name }),
        2 => (0..3_usize, any::<Option<u8>>()).prop_map(|(key, value)| Step::Meta { key, value }),
        2 => (0..4_usize).prop_map(|name| Step::Fail { name }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Collect),
    ]
}

#[derive(Debug)]
struct Thrown;

impl From<StoreError> for Thrown {
    fn from(error: StoreError) -> Self {
        panic!("{error}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_leave_what_a_map_would_have(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let mut apps: BTreeMap<String, AppRecord> = BTreeMap::new();
        let mut meta: BTreeMap<String, String> = BTreeMap::new();
        let modules: Vec<ModuleFile> = (0..3).map(|number| upload(&store, number)).collect();
        for step in steps {
            match step {
                Step::Put { name, number, note } => {
                    let name = format!("app-{name}");
                    let mut record = app(&name, vec![version(number, &modules[usize::try_from(number).unwrap() % 3])]);
                    record.manifest = note.then(|| "from a manifest".to_owned());
                    store.change(|change| change.put(&record)).unwrap();
                    apps.insert(name, record);
                }
                Step::Remove { name } => {
                    let name = format!("app-{name}");
                    let was_there = store.change(|change| change.remove(&name)).unwrap();
                    prop_assert_eq!(was_there, apps.remove(&name).is_some());
                }
                Step::Meta { key, value } => {
                    let (key, value) = (format!("key-{key}"), value.map(|value| value.to_string()));
                    store.change(|change| change.set_meta(&key, value.as_deref())).unwrap();
                    match value {
                        Some(value) => meta.insert(key, value),
                        None => meta.remove(&key),
                    };
                }
                Step::Fail { name } => {
                    let name = format!("app-{name}");
                    let failed = store.change(|change| {
                        change.remove(&name)?;
                        change.put(&app("never", vec![version(1, &modules[0])]))?;
                        change.set_meta("key-0", Some("never"))?;
                        // It sees its own changes.
                        assert_eq!(change.app(&name)?, None);
                        assert_eq!(change.meta("key-0")?.as_deref(), Some("never"));
                        Err::<(), _>(Thrown)
                    });
                    prop_assert!(failed.is_err());
                }
                Step::Reopen => {
                    store.release();
                    store = Store::open(folder.path()).unwrap();
                }
                // They are all too young.
                Step::Collect => prop_assert_eq!(store.collect().unwrap(), 0),
            }
            let wanted: Vec<AppRecord> = apps.values().cloned().collect();
            prop_assert_eq!(&store.apps().unwrap(), &wanted);
            prop_assert_eq!(&store.change(|change| change.apps()).unwrap(), &wanted);
            for name in 0..4 {
                let name = format!("app-{name}");
                prop_assert_eq!(store.app(&name).unwrap(), apps.get(&name).cloned());
            }
            for key in 0..3 {
                let key = format!("key-{key}");
                prop_assert_eq!(store.meta(&key).unwrap(), meta.get(&key).cloned());
            }
        }
    }
}

#[test]
fn a_change_that_panics_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    deploy(&store, "one", 1).unwrap();
    let before = store.apps().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.change(|change| {
            change.remove("one")?;
            if change.app("one")?.is_none() {
                panic!("on purpose");
            }
            Ok::<(), StoreError>(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.apps().unwrap(), before);
    deploy(&store, "two", 2).unwrap();
    store.release();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.apps().unwrap().len(), 2);
    check_modules(&store);
}

#[test]
fn a_version_without_its_module_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for hash in
        [blake3::hash(b"elsewhere").to_hex().to_string(), "../registry.redb".to_owned(), String::new()]
    {
        assert!(!store.has_module(&hash));
        assert!(store.open_module(&hash).unwrap().is_none());
        assert!(store.read_module(&hash).unwrap().is_none());
        let record = app("one", vec![version(1, &ModuleFile { hash: hash.clone(), bytes: 1 })]);
        match store.change(|change| change.put(&record)) {
            Err(StoreError::NoModule { hash: named }) => assert_eq!(named, hash),
            other => panic!("{other:?}"),
        }
    }
    assert!(store.apps().unwrap().is_empty());
}

#[test]
fn a_record_that_contradicts_itself_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let file = upload(&store, 1);
    let good = app("one", vec![version(1, &file), version(2, &file)]);
    let wrong: [fn(&mut AppRecord); 5] = [
        |app| app.name.clear(),
        |app| app.versions.reverse(),
        |app| app.next = 2,
        |app| app.active = Some(3),
        |app| {
            let rule = serde_json::Value::Null;
            app.canary = Some(tidegate_store::records::CanaryRecord { version: 3, rule });
        },
    ];
    for make in wrong {
        let mut record = good.clone();
        make(&mut record);
        let refused = store.change(|change| change.put(&record));
        assert!(matches!(refused, Err(StoreError::Record { .. })), "{refused:?} {record:?}");
    }
    store.change(|change| change.put(&good)).unwrap();
    assert_eq!(store.apps().unwrap(), [good]);
}

/// Gives some bytes and then fails.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let given = self.0.min(into.len());
        self.0 -= given;
        if given == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(given) }
    }
}

#[test]
fn modules_come_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let files = || std::fs::read_dir(folder.path().join("wasm")).unwrap().count();
    let bytes = vec![7; 300_000];
    let hash = blake3::hash(&bytes).to_hex().to_string();

    let refused = store.receive_module(&mut bytes.as_slice(), 299_999);
    assert!(matches!(refused, Err(ReceiveError::TooLarge { bytes_max: 299_999 })), "{refused:?}");
    let refused = store.receive_module(&mut Broken(200_000), u64::MAX);
    assert!(matches!(refused, Err(ReceiveError::Read(_))), "{refused:?}");
    assert_eq!(files(), 0);
    assert!(!store.has_module(&hash));

    for _ in 0..2 {
        let kept = store.receive_module(&mut bytes.as_slice(), 300_000).unwrap();
        assert_eq!(kept, ModuleFile { hash: hash.clone(), bytes: 300_000 });
        assert_eq!(files(), 1);
    }
    assert_eq!(store.read_module(&hash).unwrap().unwrap(), bytes);

    // Damaged on the disk: never given out by `read_module`, and mended by sending it again.
    let path = folder.path().join("wasm").join(&hash);
    let mut damaged = bytes.clone();
    damaged[150_000] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let refused = store.read_module(&hash);
    assert!(
        matches!(&refused, Err(StoreError::Damaged { path: named, .. }) if *named == path),
        "{refused:?}"
    );
    store.receive_module(&mut bytes.as_slice(), 300_000).unwrap();
    assert_eq!(store.read_module(&hash).unwrap().unwrap(), bytes);
}

#[test]
fn what_nobody_refers_to_goes_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    deploy(&store, "one", 1).unwrap();
    let (used, young, asked, old) =
        (upload(&store, 1).hash, upload(&store, 2).hash, upload(&store, 3).hash, upload(&store, 4).hash);
    let wasm = folder.path().join("wasm");
    std::fs::write(wasm.join(".aside-1-1"), "left over").unwrap();
    std::fs::write(wasm.join(".aside-1-2"), "under way").unwrap();
    std::fs::write(wasm.join("README"), "not ours").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 60 * 60);
    for name in [&used, &asked, &old, ".aside-1-1", "README"] {
        std::fs::File::options().write(true).open(wasm.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    assert!(store.has_module(&asked));
    assert_eq!(store.collect().unwrap(), 2);
    let mut left: Vec<String> = std::fs::read_dir(&wasm)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut wanted = vec![".aside-1-2".to_owned(), "README".to_owned(), used.clone(), young, asked];
    wanted.sort();
    assert_eq!(left, wanted);
    // A server that begins anew has no uploads under way.
    store.release();
    let store = Store::open(folder.path()).unwrap();
    assert!(!wasm.join(".aside-1-2").exists());
    assert_eq!(store.read_module(&used).unwrap().unwrap(), module(1));
}

#[test]
fn files_are_the_owners_alone() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("made/deep");
    let store = Store::open(&folder).unwrap();
    deploy(&store, "one", 1).unwrap();
    store.audit(&audit_record()).unwrap();
    let mut look = vec![above.path().join("made")];
    let mut files = 0;
    while let Some(path) = look.pop() {
        let meta = std::fs::metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if meta.is_dir() {
            look.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files += 1;
        }
    }
    // The lock, the registry, the module, the audit log.
    assert_eq!(files, 4);
}

fn audit_record() -> tidegate_store::AuditRecord {
    tidegate_store::AuditRecord {
        at_ms: 1,
        by: "uid 0".to_owned(),
        action: "deploy".to_owned(),
        app: None,
        version: None,
        ok: true,
        detail: None,
    }
}

#[test]
fn changes_and_readers_meet_whole_states() {
    const STEPS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let file = upload(&store, 1);
    let both = |number| [app("a", vec![version(number, &file)]), app("b", vec![version(number, &file)])];
    let put = |number| {
        store.change(|change| both(number).iter().try_for_each(|record| change.put(record))).unwrap();
    };
    put(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < STEPS {
                    let numbers: Vec<u64> =
                        store.apps().unwrap().iter().filter_map(|app| app.active).collect();
                    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{numbers:?}");
                    assert!(numbers[0] >= last, "{} after {last}", numbers[0]);
                    last = numbers[0];
                }
            });
        }
        (2..=STEPS).for_each(put);
    });
}
