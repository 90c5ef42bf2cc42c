//! The components in `tests/components`, one of each language, built by the script `build` beside them when a test asks.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::artifacts;

/// A path, or nothing where it cannot be built; or what went wrong.
type Built = Result<Option<PathBuf>, String>;

/// What the script says when the tools of a language cannot be had.
const CANNOT_BE_BUILT_HERE: i32 = 3;

/// What is built wherever CI runs, which prepares node with npm, and python3 with pip. C besides, where there is a compiler
/// for it: without one CI leaves all guests in C out.
const REQUIRED_IN_CI: &[&str] = &["rust", "wstd", "js", "js_raw", "python"];

fn required_in_ci(name: &str) -> bool {
    REQUIRED_IN_CI.contains(&name) || (name == "c" && artifacts::has_wasi_libc())
}

/// The component `name`, as the script calls it. `None`, and a word on standard error, past the test harness, where its
/// tools cannot be had.
#[track_caller]
pub fn component(name: &str) -> Option<PathBuf> {
    // Failures are kept too: one attempt, not one a test.
    static DONE: Mutex<Option<HashMap<String, Built>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let built = done.get_or_insert_default().entry(name.to_owned()).or_insert_with(|| build(name)).clone();
    drop(done);
    built.unwrap_or_else(|message| panic!("{message}"))
}

/// Where the script builds when it is called by hand: beside the folder of cargo's profile.
fn folder() -> PathBuf {
    let beside = || artifacts::target_folder().with_file_name("components");
    env::var_os("TIDEGATE_COMPONENTS_DIR").map_or_else(beside, PathBuf::from)
}

fn build(name: &str) -> Built {
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Held while building. The file stays, so that everyone locks the same one; its own, as this may take minutes.
    let lock = folder.join("lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|error| format!("the lock file in {}: {error}", folder.display()))?;

    let mut script = Command::new(artifacts::workspace().join("tests/components/build"));
    artifacts::forget_cargo(&mut script);
    // Flags meant for this machine mean nothing to WebAssembly.
    script.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    script.arg(name).env("TIDEGATE_COMPONENTS_DIR", &folder).stdin(Stdio::null());
    let output = script.output().map_err(|error| format!("starting tests/components/build: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(Some(folder.join(name).with_extension("wasm")));
    }
    if output.status.code() != Some(CANNOT_BE_BUILT_HERE) {
        return Err(format!("tests/components/build {name}: {}\n{told}", output.status));
    }
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    if in_ci && required_in_ci(name) {
        return Err(format!("CI tests the component {name}:\n{told}"));
    }
    let _ = writeln!(std::io::stderr(), "{}; skipped", told.trim_end());
    Ok(None)
}
