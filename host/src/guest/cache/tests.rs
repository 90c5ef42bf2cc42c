//! Entries that are whole and entries that are not, folders that are ours and folders that are not. Nothing here runs
//! what it finds: the code is any bytes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;
use wasmtime::Engine;

use super::*;

const ROOMY: u64 = 1 << 30;

fn id(number: u8) -> EntryId {
    EntryId::new(&Engine::default(), &blake3::hash(&[number]))
}

fn code() -> Vec<u8> {
    (0..10_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn open(folder: &TempDir) -> Cache {
    Cache::open(folder.path(), ROOMY).unwrap()
}

fn path_of(folder: &TempDir, id: &EntryId) -> PathBuf {
    folder.path().join(MODULES_NAME).join(id.name())
}

/// A folder with one whole entry.
fn filled() -> (TempDir, Cache, EntryId, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder);
    let id = id(0);
    assert!(matches!(cache.find(&id), Found::Nothing));
    assert!(cache.store(&id, &code()));
    let bytes = fs::read(path_of(&folder, &id)).unwrap();
    (folder, cache, id, bytes)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn is_whole(cache: &Cache, id: &EntryId) {
    let Found::Whole(mut file) = cache.find(id) else { panic!("{:?}", cache.find(id)) };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert!(bytes.starts_with(&code()));
}

#[track_caller]
fn is_broken(cache: &Cache, id: &EntryId) -> String {
    match cache.find(id) {
        Found::Broken(defect) => defect.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_kept_is_found_again_by_others_with_the_same_key() {
    let (folder, cache, id, bytes) = filled();
    is_whole(&cache, &id);
    is_whole(&open(&folder), &id);
    assert!(matches!(cache.find(&self::id(1)), Found::Nothing));
    assert_eq!(bytes.len(), code().len() + entry::TRAILER_BYTES);
    let modules = folder.path().join(MODULES_NAME);
    assert_eq!((mode(&modules), mode(&path_of(&folder, &id))), (0o700, 0o600));
    assert_eq!(mode(&folder.path().join(KEY_NAME)), 0o600);
    let names: Vec<_> = fs::read_dir(&modules).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [id.name().as_str()], "nothing is left beside it");
}

#[test]
fn the_folders_are_made_for_us_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a/b");
    Cache::open(&state, ROOMY).unwrap();
    assert_eq!((mode(&folder.path().join("a")), mode(&state)), (0o700, 0o700));
}

#[test]
fn no_changed_byte_is_overlooked() {
    let (folder, cache, id, bytes) = filled();
    let path = path_of(&folder, &id);
    let trailer = bytes.len() - entry::TRAILER_BYTES;
    for at in (0..trailer).step_by(97).chain(trailer..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, &changed).unwrap();
        is_broken(&cache, &id);
    }
    fs::write(&path, &bytes).unwrap();
    is_whole(&cache, &id);
}

#[test]
fn no_length_but_its_own_is_taken() {
    let (folder, cache, id, bytes) = filled();
    let path = path_of(&folder, &id);
    let ends = bytes.len() - 2 * entry::TRAILER_BYTES..bytes.len();
    for len in (0..bytes.len()).step_by(997).chain(ends) {
        fs::write(&path, &bytes[..len]).unwrap();
        is_broken(&cache, &id);
    }
    for more in [1, entry::TRAILER_BYTES, 4096] {
        fs::write(&path, [&bytes[..], &vec![0; more]].concat()).unwrap();
        is_broken(&cache, &id);
        fs::write(&path, [&vec![0; more], &bytes[..]].concat()).unwrap();
        is_broken(&cache, &id);
    }
    let [trailer_alone, nothing] = [&bytes[code().len()..], &[]];
    for bytes in [trailer_alone, nothing] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(is_broken(&cache, &id), "it is too short");
    }
}

#[test]
fn what_is_broken_is_replaced() {
    let (folder, cache, id, bytes) = filled();
    fs::write(path_of(&folder, &id), &bytes[1..]).unwrap();
    is_broken(&cache, &id);
    assert!(cache.store(&id, &code()));
    is_whole(&cache, &id);
}

#[test]
fn one_entry_does_not_stand_for_another() {
    let (folder, cache, id, _) = filled();
    let other = self::id(1);
    fs::copy(path_of(&folder, &id), path_of(&folder, &other)).unwrap();
    assert_eq!(is_broken(&cache, &other), "it is the entry of another module");
}

#[test]
fn an_entry_of_another_key_is_foreign() {
    let (_elsewhere, _, id, bytes) = filled();
    let (folder, cache, same, _) = filled();
    assert_eq!(id, same);
    fs::write(path_of(&folder, &id), bytes).unwrap();
    assert!(is_broken(&cache, &id).contains("another key"));
}

#[test]
fn modules_and_settings_have_entries_of_their_own() {
    let engine = Engine::default();
    let id = EntryId::new(&engine, &blake3::hash(b"wasm"));
    assert_eq!(id, EntryId::new(&engine, &blake3::hash(b"wasm")));
    assert_ne!(id, EntryId::new(&engine, &blake3::hash(b"wasn")));
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    assert_ne!(id, EntryId::new(&Engine::new(&config).unwrap(), &blake3::hash(b"wasm")));
    assert!(entry::is_name(&id.name()));
    assert!(!entry::is_name("key") && !entry::is_name(&id.name().to_uppercase()));
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let (folder, _, _, _) = filled();
    for (part, dangerous) in [("", 0o770), ("", 0o707), ("modules", 0o722), ("key", 0o620)] {
        let path = folder.path().join(part);
        let before = mode(&path);
        set_mode(&path, dangerous);
        let error = Cache::open(folder.path(), ROOMY).unwrap_err().to_string();
        assert!(error.contains("can be written by others") && error.contains("chmod go-w"), "{error}");
        set_mode(&path, before);
    }
    set_mode(folder.path(), 0o755);
    assert!(Cache::open(folder.path(), ROOMY).is_ok(), "others may look at the folder");
    set_mode(&folder.path().join("key"), 0o640);
    let error = Cache::open(folder.path(), ROOMY).unwrap_err().to_string();
    assert!(error.contains("can be read by others"), "{error}");
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused() {
    let (folder, cache, id, bytes) = filled();
    let path = path_of(&folder, &id);
    set_mode(&path, 0o602);
    assert!(is_broken(&cache, &id).contains("can be written by others"));
    // The same bytes, behind a link.
    fs::write(folder.path().join("elsewhere"), bytes).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    is_broken(&cache, &id);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(is_broken(&cache, &id).contains("is not a file"));
    fs::remove_dir(&path).unwrap();
    // A pipe that nobody writes to.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let began = Instant::now();
    assert!(is_broken(&cache, &id).contains("is not a file"));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(cache.store(&id, &code()));
    is_whole(&cache, &id);
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can give a file away");
        return;
    }
    let (folder, cache, id, _) = filled();
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
    give(&path_of(&folder, &id), 4711);
    assert!(is_broken(&cache, &id).contains("belongs to user 4711, and this server runs as user 0"));
    for part in ["key", "modules", ""] {
        give(&folder.path().join(part), 4711);
        let error = Cache::open(folder.path(), ROOMY).unwrap_err().to_string();
        assert!(error.contains("belongs to user 4711"), "{error}");
        give(&folder.path().join(part), 0);
    }
    assert!(Cache::open(folder.path(), ROOMY).is_ok());
}

#[test]
fn a_key_that_was_cut_short_is_made_anew() {
    let (folder, _, id, _) = filled();
    for left in [0, 31, 33] {
        fs::write(folder.path().join(KEY_NAME), vec![7; left]).unwrap();
        let cache = open(&folder);
        assert!(is_broken(&cache, &id).contains("another key"));
        assert!(cache.store(&id, &code()));
        is_whole(&open(&folder), &id);
    }
}

#[test]
fn servers_that_begin_at_once_agree() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let ids: Vec<EntryId> = (0..4).map(id).collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let cache = Cache::open(&state, ROOMY).unwrap();
                for _ in 0..10 {
                    for id in &ids {
                        assert!(cache.store(id, &code()));
                        is_whole(&cache, id);
                    }
                }
            });
        }
    });
    let cache = Cache::open(&state, ROOMY).unwrap();
    for id in &ids {
        is_whole(&cache, id);
    }
    assert_eq!(fs::read_dir(state.join(MODULES_NAME)).unwrap().count(), ids.len());
}

#[test]
fn a_folder_that_is_gone_costs_nothing_but_the_cache() {
    let (folder, cache, id, _) = filled();
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(matches!(cache.find(&id), Found::Nothing));
    assert!(!cache.store(&id, &code()));
    assert!(matches!(Cache::none().find(&id), Found::Nothing));
    assert!(!Cache::none().store(&id, &code()));
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder);
    let ids: Vec<EntryId> = (0..4).map(id).collect();
    let now = SystemTime::now();
    for (age_s, id) in [400, 300, 200, 100].into_iter().zip(&ids) {
        assert!(cache.store(id, &code()));
        set_modified(&path_of(&folder, id), now - Duration::from_secs(age_s));
    }
    // The first is used: that makes it the youngest.
    is_whole(&cache, &ids[0]);
    let modules = folder.path().join(MODULES_NAME);
    for (name, age_s) in [(".new-old", 7200), (".new-young", 60), ("not-ours", 7200)] {
        fs::write(modules.join(name), "x").unwrap();
        set_modified(&modules.join(name), now - Duration::from_secs(age_s));
    }
    let each = (code().len() + entry::TRAILER_BYTES) as u64;
    let kept = |bytes_max: u64| {
        sweep::sweep(&Folder::open(&modules).unwrap(), bytes_max, now).unwrap();
        ids.iter().map(|id| path_of(&folder, id).exists()).collect::<Vec<_>>()
    };
    assert_eq!(kept(4 * each), [true, true, true, true]);
    assert_eq!(kept(3 * each), [true, false, true, true]);
    assert_eq!(kept(2 * each - 1), [true, false, false, false]);
    assert_eq!(kept(0), [false, false, false, false]);
    let left = [".new-old", ".new-young", "not-ours"].map(|name| modules.join(name).exists());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn the_bound_holds_after_every_addition() {
    let folder = tempfile::tempdir().unwrap();
    let each = (code().len() + entry::TRAILER_BYTES) as u64;
    let cache = Cache::open(folder.path(), 2 * each).unwrap();
    for number in 0..6 {
        assert!(cache.store(&id(number), &code()));
    }
    let modules = folder.path().join(MODULES_NAME);
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(&modules).unwrap().count() > 2 {
        assert!(Instant::now() < deadline, "nobody sweeps");
        thread::yield_now();
    }
    let small = Cache::open(folder.path(), each - 1).unwrap();
    assert!(!small.store(&id(9), &code()), "it could never be kept");
}

fn set_modified(path: &Path, at: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}
