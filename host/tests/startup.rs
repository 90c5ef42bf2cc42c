//! Ends of a server that is still starting: it compiles its modules, in a child.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);
/// Compiling takes several times as long.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A module that takes the compiler far longer than this test: a single function, so that cores do not help.
fn endless_module() -> Vec<u8> {
    let step = "local.get 0 local.get 1 i32.mul local.get 2 i32.xor local.tee 0 local.get 1 i32.rotl local.set 2\n\
                local.get 2 if local.get 0 local.set 1 else local.get 2 local.set 0 end\n";
    let text = format!("(module (func (param i32 i32 i32)\n{}))", step.repeat(120_000));
    wat::parse_str(text).unwrap()
}

/// Polls until there is something.
fn wait_for<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The state letter and the parent of a process (proc(5)); none when it is gone.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn child_of(parent: i32) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
}

/// True once it is that program which runs in the child, and it has begun to use the processor.
fn compiles(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let compiler = line.split(|byte| *byte == 0).nth(1) == Some(b"compile");
    let resident = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = resident.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    compiler && pages > 10_000
}

fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "endless.wasm", "--listen", "unix:web.sock"])
        .current_dir(folder)
        .env_remove("TIDEGATE_LOG")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_signal_ends_a_server_that_starts_and_its_compiler_with_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("endless.wasm"), endless_module()).unwrap();
    for (signal, status) in [(Signal::TERM, Some(1)), (Signal::INT, Some(1)), (Signal::KILL, None)] {
        let server = start(folder.path());
        let pid = Pid::from_child(&server);
        let compiler = wait_for("the compiler runs", PATIENCE, || {
            child_of(pid.as_raw_nonzero().get()).filter(|compiler| compiles(*compiler))
        });
        let sent = Instant::now();
        kill_process(pid, signal).unwrap();
        let Output { status: ended, stdout, stderr } = server.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(ended.code(), status, "{signal:?}: {stderr}");
        assert!(sent.elapsed() < AT_ONCE, "{signal:?}: it took {:?}", sent.elapsed());
        assert!(stdout.is_empty(), "it never listened");
        assert!(status.is_none() || stderr.contains("while it was starting"), "{signal:?}: {stderr}");
        wait_for("the compiler is gone", AT_ONCE, || {
            stat(compiler).is_none_or(|(state, _)| matches!(state, 'Z' | 'X')).then_some(())
        });
        assert!(!folder.path().join("web.sock").exists());
    }
}
