//! Compiled modules on disk: the second start compiles nothing, and nothing that was tampered with is loaded.
//!
//! The state folder of each test is its own.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;
use tidegate_tests::logs::LineLog;
use tidegate_tests::server::Builder;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, Client, Server, artifacts};

/// Begins what the log says of an entry that is not as it was written.
const NOT_USED: &str = "the kept copy of the compiled guest is not used";

fn state() -> TempDir {
    tempfile::tempdir().expect("a state folder")
}

fn hello(state: &Path) -> Builder {
    let builder = Server::builder().guest("hello").option("--workers", "1").env("TIDEGATE_LOG", "debug");
    builder.option("--state", state.to_str().expect("UTF-8"))
}

/// Starts, is asked, ends, and has said by then whether it compiled.
#[track_caller]
fn compiles(builder: Builder) -> bool {
    let mut server = builder.start();
    assert_eq!(server.get("a", "/").text(), "Hello World\n");
    server.signal(Signal::TERM);
    assert!(server.wait_exit(PATIENCE).success());
    server.stderr().wait_for(PATIENCE, |line| line.contains(": compiled app=\"hello\"")).is_some()
}

fn entries(state: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(state.join("modules")).expect("the folder of the entries");
    listed.map(|entry| entry.expect("an entry").path()).collect()
}

#[track_caller]
fn entry(state: &Path) -> PathBuf {
    let entries = entries(state);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    entry.clone()
}

#[test]
fn the_second_start_maps_what_the_first_compiled() {
    let state = state();
    assert!(compiles(hello(state.path())));
    let entry = entry(state.path());
    let inode = fs::metadata(&entry).unwrap().ino();
    assert!(!compiles(hello(state.path())));
    assert_eq!(fs::metadata(&entry).unwrap().ino(), inode, "nothing was written");

    let server = hello(state.path()).start();
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    let name = entry.file_name().and_then(OsStr::to_str).unwrap();
    let code = maps.lines().find(|line| line.contains(name) && line.contains(" r-xp "));
    assert!(code.is_some(), "{maps}");
    // It keeps the file; the name is for others.
    fs::remove_dir_all(state.path()).unwrap();
    for _ in 0..20 {
        assert_eq!(server.get("a", "/").status(), 200);
    }
}

#[test]
fn an_entry_that_was_tampered_with_is_compiled_again() {
    let state = state();
    assert!(compiles(hello(state.path())));
    let entry = entry(state.path());
    let whole = fs::read(&entry).unwrap();
    let len = whole.len();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let damaged = [
        flipped(0),
        flipped(len / 3),
        flipped(len / 2),
        // The trailer: the format, the id, the seal.
        flipped(len - 70),
        flipped(len - 40),
        flipped(len - 1),
        whole[..len - 1].to_vec(),
        whole[..len / 2].to_vec(),
        Vec::new(),
        [&whole[..], b"more"].concat(),
    ];
    for (number, bytes) in damaged.iter().enumerate() {
        fs::write(&entry, bytes).unwrap();
        let server = hello(state.path()).start();
        assert_eq!(server.get("a", "/").status(), 200, "{number}");
        let log = server.stderr().lines();
        assert_eq!(log.iter().filter(|line| line.contains(NOT_USED)).count(), 1, "{number}: {log:#?}");
        drop(server);
        assert!(!compiles(hello(state.path())), "{number}: it was replaced");
    }
}

#[test]
fn an_entry_that_another_key_sealed_is_compiled_again() {
    let (ours, theirs) = (state(), state());
    for state in [&ours, &theirs] {
        assert!(compiles(hello(state.path())));
    }
    fs::copy(entry(theirs.path()), entry(ours.path())).unwrap();
    let server = hello(ours.path()).start();
    assert!(server.wait_for_log(|line| line.contains(NOT_USED) && line.contains("another key")).is_some());
    drop(server);
    assert!(!compiles(hello(ours.path())));

    fs::remove_file(ours.path().join("key")).unwrap();
    assert!(compiles(hello(ours.path())));
    assert!(!compiles(hello(ours.path())));
}

#[test]
fn a_folder_that_others_may_write_to_is_left_alone() {
    let state = state();
    fs::set_permissions(state.path(), Permissions::from_mode(0o777)).unwrap();
    let server = hello(state.path()).start();
    assert_eq!(server.get("a", "/").status(), 200);
    let told = server.wait_for_log(|line| line.contains("compiled guests are not kept"));
    assert!(told.as_ref().is_some_and(|line| line.contains("can be written by others")), "{told:?}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn without_a_cache_nothing_is_written() {
    let state = state();
    let path = state.path().join("new");
    assert!(compiles(hello(&path).option("--cache", "0")));
    assert!(compiles(hello(&path).option("--cache", "0")));
    assert!(!path.exists());
}

#[test]
fn the_users_cache_folder_is_what_is_used_without_a_word() {
    let home = state();
    let start = || {
        let builder = Server::builder().guest("hello").env("TIDEGATE_LOG", "debug");
        builder.env("XDG_CACHE_HOME", home.path().to_str().expect("UTF-8"))
    };
    assert!(compiles(start()));
    assert!(!compiles(start()));
    entry(&home.path().join("tidegate"));
}

#[test]
fn servers_that_start_at_once_share_a_cache() {
    let state = state();
    let path = state.path().join("new");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(hello(&path).start().get("a", "/").status(), 200));
        }
    });
    entry(&path);
    assert!(!compiles(hello(&path)));
}

#[test]
fn what_was_not_used_for_longest_goes_when_the_bound_is_met() {
    let state = state();
    let echo = Server::builder().guest("echo").option("--state", state.path().to_str().unwrap());
    assert_eq!(echo.start().get("a", "/").status(), 200);
    let first = entry(state.path());
    let bytes = fs::metadata(&first).unwrap().len();
    // Room for this one, or for the other, which is smaller, and not for both.
    assert!(compiles(hello(state.path()).option("--cache", &format!("{bytes}B"))));
    until("the older one goes", || !first.exists());
    entry(state.path());
    assert!(!compiles(hello(state.path())));
}

/// A server in a mount namespace of its own; ended with SIGKILL when dropped.
struct Mounted(Child);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a server after `mount` has run in namespaces of its own, in which the state folder is `$1`. None: this system
/// lets nobody make them.
fn start_mounted(mount: &str, state: &Path, socket: &Path) -> Option<(Mounted, LineLog)> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let possible = unshare("mount -t tmpfs none /mnt").status().is_ok_and(|status| status.success());
    if !possible {
        eprintln!("left out: no namespaces of users and mounts here");
        return None;
    }
    let mut command =
        unshare(&format!("{mount} && exec \"$0\" serve \"$2\" --state \"$1\" --listen \"unix:$3\""));
    command.arg(artifacts::binary()).arg(state).arg(artifacts::guest("hello")).arg(socket);
    let mut child = command.spawn().unwrap();
    let log = LineLog::collect(child.stderr.take().unwrap());
    Some((Mounted(child), log))
}

#[test]
fn a_disk_that_is_full_or_read_only_costs_nothing_but_the_cache() {
    let cases = [
        // Room for the key and the folder.
        ("mount -t tmpfs -o size=16k,mode=700 none \"$1\"", "a compiled guest can not be kept", false),
        ("mount -t tmpfs -o ro,mode=700 none \"$1\"", "compiled guests are not kept", false),
        ("mount -t tmpfs -o noexec,mode=700 none \"$1\"", "compiled guests are not kept", false),
        // With a key in it already.
        (
            "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"",
            "a compiled guest can not be kept",
            true,
        ),
    ];
    for (mount, told, has_key) in cases {
        let state = state();
        let folder = tempfile::tempdir().unwrap();
        if has_key {
            // A key and a folder, as another start made them.
            assert!(compiles(hello(state.path())));
            fs::remove_file(entry(state.path())).unwrap();
        }
        let socket = folder.path().join("s");
        let Some((_server, log)) = start_mounted(mount, state.path(), &socket) else { return };
        let addr = Addr::Unix(socket);
        let connected = poll_for(PATIENCE, || Client::connect(&addr).ok());
        let mut client =
            connected.unwrap_or_else(|| panic!("{mount}: it does not listen:\n{}", log.tail(20)));
        assert_eq!(client.get("a", "/").unwrap().status(), 200, "{mount}");
        assert!(log.wait_for(PATIENCE, |line| line.contains(told)).is_some(), "{mount}:\n{}", log.tail(20));
        let warnings = log.lines().iter().filter(|line| line.contains("kept")).count();
        assert_eq!(warnings, 1, "{mount}: {}", log.tail(20));
    }
}
