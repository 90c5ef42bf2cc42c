//! A handler crate into a module or a component, by way of the user's own cargo.
//!
//! It says what is missing before it builds: a library that cargo can link into a module, and the standard library
//! of the target. The latter it installs, and says so.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::super::Failure;
use super::super::child::Children;
use super::{Broken, Profile};
use crate::config::BuildTarget;

/// A crate that becomes a module or a component.
#[derive(Debug)]
pub(in crate::cli) struct Crate {
    /// Its name.
    pub(in crate::cli) package: String,
    /// Its folder, as an absolute path.
    pub(in crate::cli) folder: PathBuf,
    manifest: PathBuf,
    target: BuildTarget,
}

impl Crate {
    /// Looks at the crate in a folder.
    ///
    /// # Errors
    /// There is none, cargo does not accept it, or it has no library that becomes a module.
    pub(in crate::cli) fn open(folder: &Path, target: BuildTarget) -> Result<Self, Failure> {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            let help =
                "name the folder of a handler crate, or one whose tidegate.toml has a `command` in `[build]`"
                    .to_owned();
            let shown = folder.display();
            let message = if folder.is_dir() {
                format!("there is no Cargo.toml in `{shown}`")
            } else {
                format!("there is no folder `{shown}`")
            };
            return Err(Failure::usage(message, Some(help)));
        }
        let manifest = manifest.canonicalize().context("the crate's folder cannot be read")?;
        let folder = manifest.parent().unwrap_or(folder).to_path_buf();
        let package = package(&folder, &manifest, target)?;
        Ok(Self { package, folder, manifest, target })
    }

    /// Builds it. The module is in cargo's target folder.
    ///
    /// # Errors
    /// A tool is missing, or it does not build.
    pub(super) fn build(&self, profile: Profile, children: &Children) -> Result<PathBuf, Broken> {
        let triple = triple(self.target);
        add_target(triple, &self.folder)?;
        let mut command = cargo(&self.folder);
        command.args(["build", "--lib", "--target", triple, "--message-format=json-render-diagnostics"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        if children.keeps_output() {
            // What is kept is to have colours; the terminal gets them only if it wants any.
            command.arg("--color=always");
        }
        command.arg("--manifest-path").arg(&self.manifest);
        let done = children.run(&mut command, true).context("cargo cannot be started")?;
        let said = String::from_utf8_lossy(&done.said).into_owned();
        if !done.status.success() {
            return Err(Broken { failure: anyhow!("the crate does not build").into(), said });
        }
        let artifact = artifact(&done.stdout, &self.manifest);
        artifact.ok_or_else(|| anyhow!("cargo built no module").into())
    }

    /// The folders of the crate and of all that it depends on by path, wherever they are. What cargo cannot tell without
    /// the network is left out.
    pub(in crate::cli) fn sources(&self) -> Vec<PathBuf> {
        let output = cargo(&self.folder)
            .args([
                "metadata",
                "--offline",
                "--format-version",
                "1",
                "--filter-platform",
                triple(self.target),
                "--manifest-path",
            ])
            .arg(&self.manifest)
            .stderr(Stdio::null())
            .output();
        let metadata = output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
        let mut folders = vec![self.folder.clone()];
        folders.extend(metadata.iter().flat_map(|metadata| local(metadata, &self.manifest)));
        folders
    }
}

/// The name of a target among those that rustc knows.
fn triple(target: BuildTarget) -> &'static str {
    match target {
        BuildTarget::Module => "wasm32-wasip1",
        BuildTarget::Component => "wasm32-wasip2",
    }
}

/// The folders of what a crate depends on by path.
fn local(metadata: &Value, manifest: &Path) -> Vec<PathBuf> {
    let packages: Vec<&Value> = entries(metadata, "packages").collect();
    let id = |package: &Value| package.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut wanted: Vec<String> = packages
        .iter()
        .filter(|package| is_of(package, manifest))
        .filter_map(|package| id(package))
        .collect();
    let nodes = metadata.get("resolve").map_or(&Value::Null, |resolve| resolve);
    // Every node is looked at once: `wanted` only grows, and never by what is in it.
    let mut at = 0;
    while let Some(next) = wanted.get(at).cloned() {
        at += 1;
        let node = entries(nodes, "nodes").find(|node| node.get("id").and_then(Value::as_str) == Some(&next));
        for dependency in
            node.into_iter().flat_map(|node| entries(node, "dependencies")).filter_map(Value::as_str)
        {
            if !wanted.iter().any(|known| known == dependency) {
                wanted.push(dependency.to_owned());
            }
        }
    }
    let is_local = |package: &&&Value| package.get("source").is_none_or(Value::is_null);
    let is_wanted = |package: &&&Value| id(package).is_some_and(|id| wanted.contains(&id));
    packages
        .iter()
        .filter(is_local)
        .filter(is_wanted)
        .filter_map(|package| package.get("manifest_path").and_then(Value::as_str))
        .filter_map(|path| Path::new(path).parent().map(Path::to_path_buf))
        .collect()
}

/// The crate's name, once it is known to have a library that becomes a module.
fn package(folder: &Path, manifest: &Path, target: BuildTarget) -> Result<String, Failure> {
    let output = cargo(folder)
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("cargo does not accept {}:\n{}", manifest.display(), said.trim_end()).into());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo's metadata cannot be read")?;
    let Some(package) = entries(&metadata, "packages").find(|package| is_of(package, manifest)) else {
        let message = format!("`{}` is a workspace without a crate of its own", folder.display());
        return Err(Failure::usage(message, Some("name the folder of one of its members".to_owned())));
    };
    if !entries(package, "targets").any(is_module) {
        let message = format!("the crate `{}` has no library that can become a module", folder.display());
        let is_program = target == BuildTarget::Component && entries(package, "targets").any(is_program);
        let help = if is_program {
            "a program with a `main` is built by `cargo build --release --target wasm32-wasip2`; name the file as \
             `source`"
        } else {
            "add to its Cargo.toml:\n\n    [lib]\n    crate-type = [\"cdylib\"]\n"
        };
        return Err(Failure::Failed { error: anyhow!(message), help: Some(help.to_owned()) });
    }
    Ok(package.get("name").and_then(Value::as_str).unwrap_or("app").to_owned())
}

/// Installs the standard library of the target where the toolchain of this folder has none.
fn add_target(triple: &str, folder: &Path) -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .context("rustc cannot be started")?;
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(sysroot.trim_end()).join("lib/rustlib").join(triple);
    if !output.status.success() || library.is_dir() {
        return Ok(());
    }
    eprintln!("the Rust toolchain of {} lacks the target {triple}: adding it with rustup", folder.display());
    let done = Command::new("rustup").args(["target", "add", triple]).current_dir(folder).status();
    let help = || Some(format!("install the target {triple} for the toolchain in {}", sysroot.trim_end()));
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => {
            Err(Failure::Failed { error: anyhow!("rustup could not add the target {triple}"), help: help() })
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("rustup cannot be started");
            Err(Failure::Failed { error, help: help() })
        }
    }
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

/// The user's cargo, in a folder.
pub(in crate::cli) fn cargo(folder: &Path) -> Command {
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

/// Whether it has a `main`.
fn is_program(target: &Value) -> bool {
    entries(target, "kind").any(|kind| kind.as_str() == Some("bin"))
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
    fn a_folder_without_a_crate_is_told_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let told = |folder: &Path| Crate::open(folder, BuildTarget::Module).unwrap_err().to_string();
        assert!(told(folder.path()).contains("there is no Cargo.toml in `"));
        assert!(told(&folder.path().join("shpo")).contains("there is no folder `"));
    }

    #[test]
    fn what_a_crate_depends_on_by_path_is_found() {
        let metadata = serde_json::json!({
            "packages": [
                { "id": "a", "source": null, "manifest_path": "/p/a/Cargo.toml" },
                { "id": "b", "source": null, "manifest_path": "/p/b/Cargo.toml" },
                { "id": "c", "source": "registry", "manifest_path": "/r/c/Cargo.toml" },
                { "id": "d", "source": null, "manifest_path": "/q/d/Cargo.toml" },
                { "id": "e", "source": null, "manifest_path": "/p/e/Cargo.toml" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "dependencies": ["b", "c"] },
                { "id": "b", "dependencies": ["c", "d"] },
                { "id": "c", "dependencies": [] },
                { "id": "d", "dependencies": [] },
                { "id": "e", "dependencies": ["a"] },
            ] },
        });
        let found = local(&metadata, Path::new("/p/a/Cargo.toml"));
        assert_eq!(found, ["/p/a", "/p/b", "/q/d"].map(PathBuf::from));
        assert!(local(&Value::Null, Path::new("/p/a/Cargo.toml")).is_empty());
    }
}
