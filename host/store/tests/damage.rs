//! Folders that are not opened, each with what is wrong: held by another, of another version, damaged, not safe.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{FOLDER, check_modules, child, deploy, upload};
use redb::{ReadableDatabase, TableDefinition};
use tidegate_store::{OpenError, Store};

const DEPLOYS: u64 = 40;

/// A folder with some apps in it, which no server has open.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for number in 1..=DEPLOYS {
        deploy(&store, &format!("app-{}", number % 5), number).unwrap();
    }
    folder
}

fn registry(folder: &Path) -> PathBuf {
    folder.join("registry.redb")
}

/// Opening fails, and the message names the folder and what to do.
fn refused(folder: &Path) -> OpenError {
    let error = Store::open(folder).expect_err("it is opened");
    let message = error.to_string();
    assert!(message.contains(folder.to_str().unwrap()), "{message}");
    assert!(!message.contains('\n'), "{message}");
    error
}

#[test]
fn a_file_that_was_cut_short_is_damaged() {
    let folder = filled();
    let whole = fs::read(registry(folder.path())).unwrap();
    let len = whole.len();
    for kept in [0, 1, 9, 100, 319, 320, 4095, 4096, 8192, len / 4, len / 2, len - 4096, len - 1] {
        fs::write(registry(folder.path()), &whole[..kept]).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "cut to {kept} of {len} bytes: {error:?}");
        assert!(error.to_string().contains("put back a copy"), "{error}");
    }
    fs::write(registry(folder.path()), &whole).unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.apps().unwrap().len(), 5);
    check_modules(&store);
}

/// Bytes of the file are changed, one place at a time: either it is noticed, or the place is used for nothing and all
/// is as it was.
#[test]
fn a_changed_byte_is_noticed_or_does_nothing() {
    let folder = filled();
    let whole = fs::read(registry(folder.path())).unwrap();
    let wanted = Store::open(folder.path()).unwrap().apps().unwrap();
    let mut noticed = 0;
    // The header byte by byte, then every 128 bytes, where something is.
    let places = (0..320).chain((320..whole.len()).step_by(128)).filter(|at| *at < 64 || whole[*at] != 0);
    let places: Vec<usize> = places.collect();
    for at in &places {
        let mut changed = whole.clone();
        changed[*at] ^= 0x55;
        fs::write(registry(folder.path()), changed).unwrap();
        match Store::open(folder.path()) {
            Ok(store) => assert_eq!(store.apps().unwrap(), wanted, "byte {at}"),
            Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => noticed += 1,
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
    assert!(noticed > 50, "{noticed} of {} places", places.len());
}

#[test]
fn what_is_no_registry_is_not_taken_for_one() {
    let folder = filled();
    fs::write(registry(folder.path()), "#!/bin/sh\necho not a database\n".repeat(1000)).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }));
    // A database of something else.
    fs::remove_file(registry(folder.path())).unwrap();
    let other = redb::Database::create(registry(folder.path())).unwrap();
    let transaction = other.begin_write().unwrap();
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("prices");
    transaction.open_table(table).unwrap().insert("tea", 3).unwrap();
    transaction.commit().unwrap();
    drop(other);
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("not the registry"), "{error}");
    // One whose table of that name is of other types.
    let other = redb::Database::open(registry(folder.path())).unwrap();
    let transaction = other.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
    transaction.open_table(table).unwrap().insert(1, 3).unwrap();
    transaction.commit().unwrap();
    drop(other);
    assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }));
    // What was there is left alone.
    let other = redb::Database::open(registry(folder.path())).unwrap();
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("prices");
    let table = other.begin_read().unwrap().open_table(table).unwrap();
    assert_eq!(table.get("tea").unwrap().unwrap().value(), 3);
}

#[test]
fn another_version_is_named() {
    let folder = filled();
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
    let set = |format: u64| {
        let database = redb::Database::open(registry(folder.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
    };
    set(7);
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Version { found: 7, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("format 7") && error.to_string().contains("format 1"), "{error}");
    set(1);
    assert_eq!(Store::open(folder.path()).unwrap().apps().unwrap().len(), 5);
}

#[test]
fn what_others_may_change_is_not_opened() {
    let folder = filled();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [folder.path().to_owned(), registry(folder.path()), folder.path().join("wasm")] {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        for open in [mode | 0o020, mode | 0o002] {
            chmod(&path, open);
            let error = refused(folder.path());
            assert!(matches!(error, OpenError::Unsafe { .. }), "{} {open:o}: {error:?}", path.display());
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
        chmod(&path, mode);
    }
    // A link inside leads elsewhere.
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(registry(folder.path()), &elsewhere).unwrap();
    symlink(&elsewhere, registry(folder.path())).unwrap();
    refused(folder.path());
    fs::remove_file(registry(folder.path())).unwrap();
    // Something that is no file.
    fs::create_dir(registry(folder.path())).unwrap();
    refused(folder.path());
    fs::remove_dir(registry(folder.path())).unwrap();
    fs::rename(&elsewhere, registry(folder.path())).unwrap();
    assert_eq!(Store::open(folder.path()).unwrap().apps().unwrap().len(), 5);
    // A file where the folder should be.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file), OpenError::Io { .. }));
}

/// Damage that comes while the folder is open is an error of who reads it, and not a panic.
#[test]
fn damage_under_way_is_an_error() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let file = fs::File::options().write(true).open(registry(folder.path())).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(4096).unwrap();
    file.set_len(len).unwrap();
    // Its pages may be in memory still; what is written is not.
    let errors = (0..50).filter(|number| deploy(&store, "late", 1000 + number).is_err()).count();
    let _ = store.apps();
    assert!(errors > 0);
    drop(store);
    assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }));
}

#[test]
fn one_process_has_the_folder() {
    let folder = filled();
    let held = Store::open(folder.path()).unwrap();
    match refused(folder.path()) {
        OpenError::Held { by, .. } => assert_eq!(by, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    held.release();

    let mut child = child("a_child_holds_the_folder", folder.path(), "");
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(out.by_ref().any(|line| line.unwrap().contains("held")), "the child holds it");
    let error = refused(folder.path());
    assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
    assert!(error.to_string().contains("--state"), "{error}");
    // It gives the folder back and lives on.
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert!(out.by_ref().any(|line| line.unwrap().contains("released")), "the child released it");
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.apps().unwrap().len(), 5);
    upload(&store, 1);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_holds_the_folder() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let mut line = String::new();
    println!("\nheld");
    std::io::stdin().read_line(&mut line).unwrap();
    store.release();
    println!("\nreleased");
    std::io::stdin().read_line(&mut line).unwrap();
}
