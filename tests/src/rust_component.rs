//! The components in `tests/components/rust`, built by cargo when a test asks: plain `wasi:http`, nothing of tidegate in
//! them, so that any host of wasi:http can be held against ours.

use std::collections::HashMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::artifacts;

const WASM_TARGET: &str = "wasm32-wasip2";

/// The component of the crate `name`.
pub fn rust_component(name: &str) -> PathBuf {
    // Failures are kept too: one attempt, not one a test.
    static DONE: Mutex<Option<HashMap<String, Result<PathBuf, String>>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let built = done.get_or_insert_default().entry(name.to_owned()).or_insert_with(|| build(name)).clone();
    drop(done);
    built.unwrap_or_else(|message| panic!("{message}"))
}

/// Cargo keeps other processes that do the same out of its target folder.
fn build(name: &str) -> Result<PathBuf, String> {
    let folder = artifacts::workspace().join("tests/components/rust");
    let target = folder.join("target");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    artifacts::forget_cargo(&mut command);
    command.args(["build", "--locked", "--release", "--target", WASM_TARGET, "--package", name]);
    command.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
    // Flags meant for this machine mean nothing to WebAssembly.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(&folder);
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("starting cargo: {error}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let hint = if told.contains("may not be installed") {
            format!("\nto install the target: rustup target add {WASM_TARGET}")
        } else {
            String::new()
        };
        return Err(format!("cargo could not build the component {name}: {}\n{told}{hint}", output.status));
    }
    Ok(target.join(WASM_TARGET).join("release").join(name.replace('-', "_")).with_extension("wasm"))
}
