//! The SDK that the binary carries, so that a new project needs nothing that is not there already.
//!
//! In its repository the SDK inherits versions and lints from a workspace. In a project it is a workspace of its own: the
//! tables that it inherits from are taken out of the very manifest that it was built with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use include_dir::{Dir, include_dir};
use toml::{Table, Value};

static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk/src");
static ABI_SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk/abi/src");
static MACROS_SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk/macros/src");
const ABI_MANIFEST: &str = include_str!("../../../../guest-sdk/abi/Cargo.toml");
const MACROS_MANIFEST: &str = include_str!("../../../../guest-sdk/macros/Cargo.toml");
const SDK_MANIFEST: &str = include_str!("../../../../guest-sdk/Cargo.toml");
const WORKSPACE_MANIFEST: &str = include_str!("../../../../Cargo.toml");
const LICENCES: [(&str, &str); 2] = [
    ("LICENSE-APACHE", include_str!("../../../../LICENSE-APACHE")),
    ("LICENSE-MIT", include_str!("../../../../LICENSE-MIT")),
];

/// The C header of the ABI.
pub(super) const HEADER: &str = include_str!("../../../../guest-sdk/tidegate.h");

/// The crates of the SDK, and where they lie in it.
const CRATES: [(&str, &str); 2] = [("tidegate-abi", "abi"), ("tidegate-macros", "macros")];

/// Every file of the SDK as a workspace of its own: its path below the SDK's folder, and what is in it.
///
/// # Errors
/// A manifest of the repository that this was built from is not as this expects it.
pub(super) fn files() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = vec![
        (PathBuf::from("Cargo.toml"), manifest()?.into_bytes()),
        (PathBuf::from("tidegate.h"), HEADER.into()),
        (PathBuf::from("abi/Cargo.toml"), ABI_MANIFEST.into()),
        (PathBuf::from("macros/Cargo.toml"), MACROS_MANIFEST.into()),
    ];
    files.extend(LICENCES.map(|(name, text)| (PathBuf::from(name), text.into())));
    for (folder, sources) in [("src", &SOURCES), ("abi/src", &ABI_SOURCES), ("macros/src", &MACROS_SOURCES)] {
        collect(sources, Path::new(folder), &mut files);
    }
    Ok(files)
}

fn collect(dir: &Dir<'_>, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    files.extend(dir.files().map(|file| (folder.join(file.path()), file.contents().to_vec())));
    for inner in dir.dirs() {
        collect(inner, folder, files);
    }
}

/// The SDK's own manifest, and behind it what it and its crates inherit.
fn manifest() -> Result<String> {
    let root: Table = WORKSPACE_MANIFEST.parse().context("the workspace's manifest")?;
    let workspace = root.get("workspace").and_then(Value::as_table).context("it has no workspace")?;
    let mut inherited = Table::new();
    for key in ["resolver", "package"] {
        let value = workspace.get(key).with_context(|| format!("the workspace has no `{key}`"))?;
        inherited.insert(key.to_owned(), value.clone());
    }
    inherited.insert("dependencies".to_owned(), dependencies(workspace)?.into());
    // What a later compiler warns of in the SDK is not this project's business.
    let quiet = Table::from_iter([("warnings".to_owned(), Value::from("allow"))]);
    inherited.insert("lints".to_owned(), Table::from_iter([("rust".to_owned(), Value::from(quiet))]).into());
    let whole = Table::from_iter([("workspace".to_owned(), Value::from(inherited))]);
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("# The SDK of tidegate {version}. `tidegate new` put it here.\n\n{SDK_MANIFEST}\n{whole}"))
}

/// What the crates of the SDK inherit of the workspace's dependencies.
fn dependencies(workspace: &Table) -> Result<Table> {
    let known = workspace.get("dependencies").and_then(Value::as_table).context("it has no dependencies")?;
    let mut wanted = Table::new();
    for text in [SDK_MANIFEST, ABI_MANIFEST, MACROS_MANIFEST] {
        let manifest: Table = text.parse().context("a manifest of the SDK")?;
        let mut names = Vec::new();
        inherited(&manifest, &mut names);
        for name in names {
            let value = match CRATES.iter().find(|(crate_name, _)| *crate_name == name) {
                Some((_, folder)) => Table::from_iter([("path".to_owned(), Value::from(*folder))]).into(),
                None => known.get(&name).cloned().ok_or_else(|| anyhow!("the workspace lacks `{name}`"))?,
            };
            wanted.insert(name, value);
        }
    }
    Ok(wanted)
}

/// The names of all dependencies, also of those for some target or for tests, that are inherited.
fn inherited(table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            let of_workspace =
                |value: &Value| value.get("workspace").and_then(Value::as_bool).unwrap_or(false);
            names.extend(inner.iter().filter(|(_, value)| of_workspace(value)).map(|(name, _)| name.clone()));
        } else {
            inherited(inner, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn walk(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &name, found);
            } else {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }

    #[test]
    fn all_of_the_sdk_is_carried() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
        let mut there = BTreeMap::new();
        walk(&repository, Path::new(""), &mut there);
        let carried: BTreeMap<_, _> = files().unwrap().into_iter().collect();
        // Tests and examples of the SDK itself stay where they are.
        there.retain(|path, _| !path.starts_with("tests") && !path.starts_with("examples"));
        there.retain(|path, _| path.extension().is_none_or(|extension| extension != "proptest-regressions"));
        for (path, bytes) in &there {
            let ours = carried.get(path).unwrap_or_else(|| panic!("{} is not carried", path.display()));
            if path != Path::new("Cargo.toml") {
                assert!(ours == bytes, "{} is not as it is in the repository", path.display());
            }
        }
        let extra: Vec<_> = carried.keys().filter(|path| !there.contains_key(*path)).collect();
        assert_eq!(extra, [Path::new("LICENSE-APACHE"), Path::new("LICENSE-MIT")]);
    }

    #[test]
    fn the_manifest_stands_alone() {
        let manifest: Table = manifest().unwrap().parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("tidegate-sdk"));
        let workspace = &manifest["workspace"];
        let repository: Table = WORKSPACE_MANIFEST.parse().unwrap();
        assert_eq!(workspace["package"], repository["workspace"]["package"]);
        assert_eq!(workspace["dependencies"]["http"], repository["workspace"]["dependencies"]["http"]);
        assert_eq!(workspace["dependencies"]["tidegate-abi"]["path"].as_str(), Some("abi"));
        assert!(workspace["dependencies"].get("wasmtime").is_none());
    }
}
