//! `tidegate build`: a handler crate into one module, by way of the user's own cargo.
//!
//! It says what is missing before it builds: a library that cargo can link into a module, and the standard library
//! of the target. The latter it installs, and says so.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::Failure;
use super::args::BuildArgs;

/// The target that handler modules are built for.
const TARGET: &str = "wasm32-wasip1";

/// What a build left behind.
pub(super) struct Built {
    /// The crate's name.
    pub(super) package: String,
    /// The module, in cargo's target folder.
    pub(super) artifact: PathBuf,
}

pub(super) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let built = build(&args.folder)?;
    put(&built.artifact, &args.out)?;
    eprintln!("built {} ({})", args.out.display(), built.package);
    Ok(())
}

/// Builds the crate in a folder.
pub(super) fn build(folder: &Path) -> Result<Built, Failure> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        let help = "name the folder of a handler crate".to_owned();
        return Err(Failure::usage(format!("there is no Cargo.toml in `{}`", folder.display()), Some(help)));
    }
    let manifest = manifest.canonicalize().context("the crate's folder cannot be read")?;
    let folder = manifest.parent().unwrap_or(folder);
    let package = package(folder, &manifest)?;
    add_target(folder)?;
    let artifact = compile(folder, &manifest)?;
    Ok(Built { package, artifact })
}

/// The crate's name, once it is known to have a library that becomes a module.
fn package(folder: &Path, manifest: &Path) -> Result<String, Failure> {
    let output = cargo(folder)
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        return Err(anyhow!("cargo does not accept {}", manifest.display()).into());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo's metadata cannot be read")?;
    let Some(package) = entries(&metadata, "packages").find(|package| is_of(package, manifest)) else {
        let message = format!("`{}` is a workspace without a crate of its own", folder.display());
        return Err(Failure::usage(message, Some("name the folder of one of its members".to_owned())));
    };
    if !entries(package, "targets").any(is_module) {
        let message = format!("the crate `{}` has no library that can become a module", folder.display());
        let help = "add to its Cargo.toml:\n\n    [lib]\n    crate-type = [\"cdylib\"]\n".to_owned();
        return Err(Failure::Failed { error: anyhow!(message), help: Some(help) });
    }
    Ok(package.get("name").and_then(Value::as_str).unwrap_or("app").to_owned())
}

/// Installs the standard library of the target where the toolchain of this folder has none.
fn add_target(folder: &Path) -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .context("rustc cannot be started")?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(sysroot.trim_end()).join("lib/rustlib").join(TARGET);
    if !output.status.success() || library.is_dir() {
        return Ok(());
    }
    eprintln!("the Rust toolchain of {} lacks the target {TARGET}: adding it with rustup", folder.display());
    let done = Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).status();
    let help = || Some(format!("install the target {TARGET} for the toolchain in {}", sysroot.trim_end()));
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => {
            Err(Failure::Failed { error: anyhow!("rustup could not add the target {TARGET}"), help: help() })
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("rustup cannot be started");
            Err(Failure::Failed { error, help: help() })
        }
    }
}

/// Runs cargo, which shows its progress and its complaints on standard error, and finds the module it made.
fn compile(folder: &Path, manifest: &Path) -> Result<PathBuf, Failure> {
    let output = cargo(folder)
        .args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        return Err(anyhow!("the crate does not build").into());
    }
    let artifact = artifact(&output.stdout, manifest);
    Ok(artifact.ok_or_else(|| anyhow!("cargo built no module"))?)
}

/// The module among cargo's messages, a JSON object a line.
fn artifact(messages: &[u8], manifest: &Path) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message.get("reason").and_then(Value::as_str) == Some("compiler-artifact"))
        .filter(|message| is_of(message, manifest) && message.get("target").is_some_and(is_module))
        .find_map(|message| {
            let mut names = entries(&message, "filenames").filter_map(Value::as_str);
            names.find(|name| name.ends_with(".wasm")).map(PathBuf::from)
        })
}

fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn entries<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Whether a package, or a message about one, is of this manifest.
fn is_of(value: &Value, manifest: &Path) -> bool {
    let path = value.get("manifest_path").and_then(Value::as_str).map(Path::new);
    path.is_some_and(|path| path == manifest || path.canonicalize().is_ok_and(|path| path == manifest))
}

/// Whether cargo links this target into a module without a `main`.
fn is_module(target: &Value) -> bool {
    entries(target, "crate_types").any(|kind| kind.as_str() == Some("cdylib"))
}

/// Copies a module to where it was asked for. A server that reads it meanwhile sees the old one or the new one.
fn put(artifact: &Path, out: &Path) -> Result<(), Failure> {
    let mut aside = out.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let done = fs::copy(artifact, &aside).and_then(|_| fs::rename(&aside, out));
    if done.is_err() {
        // Nothing of it may stay; that there was nothing is fine.
        let _ = fs::remove_file(&aside);
    }
    Ok(done.with_context(|| format!("`{}` cannot be written", out.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_among_the_messages() {
        let messages = br#"{"reason":"compiler-artifact","manifest_path":"/d/Cargo.toml","target":{"crate_types":["cdylib"]},"filenames":["/d/dep.wasm"]}
not json
{"reason":"compiler-artifact","manifest_path":"/c/Cargo.toml","target":{"crate_types":["bin"]},"filenames":["/c/bin.wasm"]}
{"reason":"build-script-executed","manifest_path":"/c/Cargo.toml"}
{"reason":"compiler-artifact","manifest_path":"/c/Cargo.toml","target":{"crate_types":["rlib","cdylib"]},"filenames":["/c/libc.rlib","/c/c.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(artifact(messages, Path::new("/c/Cargo.toml")), Some(PathBuf::from("/c/c.wasm")));
        assert_eq!(artifact(messages, Path::new("/x/Cargo.toml")), None);
        assert_eq!(artifact(b"", Path::new("/c/Cargo.toml")), None);
    }

    #[test]
    fn a_module_is_put_in_place_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.wasm"), folder.path().join("b.wasm"));
        fs::write(&from, b"new").unwrap();
        fs::write(&to, b"old, and longer").unwrap();
        put(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert!(put(&from, &folder.path().join("no/such/folder.wasm")).is_err());
        assert!(put(&folder.path().join("missing"), &to).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left aside");
    }
}
