//! What the tests run: the server's binary and the guests, built once per process and locked against other
//! processes that do the same.
//!
//! A build script could not do this (it would run before the host is built, and guests need another target), so it
//! happens when the first test asks.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The target of modules.
const MODULE_TARGET: &str = "wasm32-wasip1";
/// The target of components.
const COMPONENT_TARGET: &str = "wasm32-wasip2";
/// Guests that are modules only: they call the module ABI past the SDK, or serve raw connections.
pub const MODULES_ONLY: &[&str] = &["bad_head", "lines", "tcp_echo"];
/// Guests that are components only: they use the sockets of `std`, which modules do not have.
pub const COMPONENTS_ONLY: &[&str] = &["redis_std", "tcp_server"];

/// The folder that holds the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace")
}

/// The server's binary, in the profile that this process was built in. `TIDEGATE_BIN` names another one.
pub fn binary() -> &'static Path {
    // The failure is kept too: one attempt, not one a test.
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || env::var_os("TIDEGATE_BIN").map_or_else(build_binary, |path| Ok(path.into()));
    match BINARY.get_or_init(build) {
        Ok(path) => path,
        Err(message) => panic!("{message}"),
    }
}

/// A command that runs the server's binary. What it compiles is kept below cargo's target folder, for all tests together
/// and not in the developer's own cache, unless the command names another state folder.
pub fn tidegate() -> Command {
    tidegate_as(None)
}

/// The same by another name, which leads to the server's binary.
pub(crate) fn tidegate_as(program: Option<&Path>) -> Command {
    let mut command = Command::new(program.unwrap_or_else(|| binary()));
    command.env("XDG_CACHE_HOME", target_folder().join("tidegate-cache"));
    command
}

/// The test binaries in which [`guest`] gives components: they run tests of modules once more.
const COMPONENTS_IN: [&str; 3] = ["component_sdk", "component_limits", "component_outbound"];

/// The guest `name` in the folder `guests`: a module if it can be one, but in the tests of the SDK's components, where it is
/// one of these.
pub fn guest(name: &str) -> PathBuf {
    static WANTED: OnceLock<bool> = OnceLock::new();
    let wanted = || {
        let own = env::current_exe().expect("the path of this executable");
        let stem = own.file_stem().unwrap_or_default().to_string_lossy();
        COMPONENTS_IN.iter().any(|name| stem.starts_with(name))
    };
    let either = !MODULES_ONLY.contains(&name);
    if COMPONENTS_ONLY.contains(&name) || (*WANTED.get_or_init(wanted) && either) {
        component_guest(name)
    } else {
        module_guest(name)
    }
}

/// The guest `name` as a module for tidegate, which all but [`COMPONENTS_ONLY`] are.
pub fn module_guest(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(name, FOLDER.get_or_init(|| build_guests(MODULE_TARGET, COMPONENTS_ONLY)))
}

/// The same guest as a component for any host of wasi:http, which all but [`MODULES_ONLY`] are.
pub fn component_guest(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(name, FOLDER.get_or_init(|| build_guests(COMPONENT_TARGET, MODULES_ONLY)))
}

fn built(name: &str, folder: &Result<PathBuf, String>) -> PathBuf {
    let path = match folder {
        Ok(folder) => folder.join(format!("{name}.wasm")),
        Err(message) => panic!("{message}"),
    };
    assert!(path.is_file(), "no guest {name}: {} is missing", path.display());
    path
}

/// The module of `tests/wat/NAME.wat`, assembled into cargo's target folder.
pub fn wat_guest(name: &str) -> PathBuf {
    static DONE: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = done.get_or_insert_default();
    if let Some(path) = done.get(name) {
        return path.clone();
    }
    let source = workspace().join("tests/wat").join(name).with_extension("wat");
    let bytes = wat::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let path = store_module(name, &bytes);
    done.insert(name.to_owned(), path.clone());
    path
}

/// A module in text format that stands somewhere else, as in a page of the docs: assembled into cargo's target folder as
/// `NAME.wasm`.
pub fn wat_text(name: &str, text: &str) -> PathBuf {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
    store_module(name, &bytes)
}

fn store_module(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = target_folder().join("tidegate-wat");
    let path = folder.join(name).with_extension("wasm");
    // Written aside and renamed: another test process may be reading the one that is there.
    let written = fs::create_dir_all(&folder)
        .and_then(|()| tempfile::NamedTempFile::new_in(&folder))
        .and_then(|file| fs::write(file.path(), bytes).map(|()| file))
        .and_then(|file| file.persist(&path).map_err(|error| error.error));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// The module of the C guest `name` in the folder `guests`, built by its Makefile into cargo's target folder. `None`, and
/// a word on standard error, where there is no clang with a wasi-libc ([`has_wasi_libc`]).
pub fn c_guest(name: &str) -> Option<PathBuf> {
    if !has_wasi_libc() {
        return None;
    }
    let _lock = build_lock();
    let folder = target_folder().join("tidegate-c");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let path = folder.join(name).with_extension("wasm");
    let mut make = Command::new("make");
    make.arg("-C").arg(workspace().join("guests").join(name)).arg(format!("OUT={}", path.display()));
    // What a make around the tests may have said to its own.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").stdin(Stdio::null());
    let output = make.output().expect("starting make");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make could not build {name}: {}\n{told}", output.status);
    Some(path)
}

/// Whether C guests can be built here: make, and a clang that finds lld, wasi-libc and the builtins for wasm. Where they
/// are absent the test is told of on standard error, past the test harness, which would keep it to itself.
pub fn has_wasi_libc() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let runs = |command: &mut Command| {
            command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        };
        let folder = tempfile::tempdir().expect("a folder for the probe");
        let source = folder.path().join("probe.c");
        // With floating point in it, printf needs a builtin.
        let text = "#include <stdio.h>\nvoid probe(double x) { printf(\"%f\", x); }\n";
        fs::write(&source, text).expect("writing the probe");
        let mut clang = Command::new("clang");
        clang.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-Wl,--export=probe", "-o"]);
        clang.arg(folder.path().join("probe.wasm")).arg(&source);
        runs(&mut clang) && runs(Command::new("make").arg("--version"))
    });
    if !found {
        let word = "no C guests: clang, lld, wasi-libc, libclang-rt-dev-wasm32 or make is absent; skipped";
        let _ = writeln!(std::io::stderr(), "{word}");
    }
    found
}

/// The folder that cargo put this executable into, without `deps`.
pub fn target_folder() -> PathBuf {
    let own = env::current_exe().expect("the path of this executable");
    let folder = own.parent().expect("an executable lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.to_path_buf()
}

/// Held while building; the file stays, so that everyone locks the same one.
fn build_lock() -> File {
    let file = File::create(target_folder().join("tidegate-tests.lock")).expect("the lock file");
    file.lock().expect("locking the lock file");
    file
}

/// Cargo in the guests' workspace, for this machine rather than for wasm.
pub fn guests_cargo() -> Command {
    let guests = workspace().join("guests");
    let mut command = cargo();
    command.current_dir(&guests).env("CARGO_TARGET_DIR", guests.join("target"));
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    command.current_dir(workspace()).stdin(Stdio::null());
    forget_cargo(&mut command);
    command
}

/// What cargo tells the test about this crate must not leak into the build of another.
pub fn forget_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "LD_LIBRARY_PATH"
        {
            command.env_remove(&name);
        }
    }
}

fn build_binary() -> Result<PathBuf, String> {
    let _lock = build_lock();
    let mut command = cargo();
    command.args([
        "build",
        "-p",
        "tidegate",
        "--bin",
        "tidegate",
        "--message-format=json-render-diagnostics",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().expect("starting cargo");
    if !output.status.success() {
        return Err(format!("cargo could not build the server: {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut paths = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "tidegate")
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    paths.next_back().ok_or_else(|| "cargo names no executable".to_owned())
}

fn build_guests(wasm_target: &str, but: &[&str]) -> Result<PathBuf, String> {
    let _lock = build_lock();
    let guests = workspace().join("guests");
    add_target(wasm_target, &guests);
    let target = guests.join("target");
    let mut command = cargo();
    command.args(["build", "--release", "--target", wasm_target, "--workspace", "--manifest-path"]);
    command.arg(guests.join("Cargo.toml")).arg("--target-dir").arg(&target);
    command.args(but.iter().flat_map(|name| ["--exclude", name]));
    // Flags meant for this machine mean nothing to WebAssembly.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(&guests);
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("starting cargo");
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("cargo could not build the guests for {wasm_target}: {}\n{told}", output.status));
    }
    Ok(target.join(wasm_target).join("release"))
}

/// Adds a target to the pinned toolchain where it is missing. The toolchain is the one of the guests' folder.
fn add_target(wasm_target: &str, guests: &Path) {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).current_dir(guests).output();
    let output = output.expect("starting rustc");
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if sysroot.join("lib/rustlib").join(wasm_target).is_dir() {
        return;
    }
    eprintln!("adding the target {wasm_target} to the toolchain");
    let status = Command::new("rustup").args(["target", "add", wasm_target]).current_dir(guests).status();
    assert!(status.is_ok_and(|status| status.success()), "rustup could not add the target {wasm_target}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hand_written_guest_is_well_formed() {
        let folder = workspace().join("tests/wat");
        let names: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(names.len() > 10, "{names:?}");
        for path in names {
            let bytes = wat::parse_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(bytes.starts_with(b"\0asm"));
        }
    }
}
