//! The `[build]` of a manifest: how a project that is no Rust crate becomes a module, or what becomes of one that is.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use toml::de::DeTable;

use super::walk::{Value, Walk};
use crate::config::problem::ValueError;

const KEYS: &[&str] = &["command", "output", "watch", "test", "target"];
/// Those that say something about the command.
const COMMAND_KEYS: &[&str] = &["output", "watch", "test"];

/// What is to be made of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// What a command makes.
    Command(BuildSettings),
    /// What cargo is told to make.
    Cargo(BuildTarget),
}

/// What cargo is to make of a crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BuildTarget {
    /// A module, for tidegate.
    #[default]
    Module,
    /// A component, for any host of `wasi:http`.
    Component,
}

/// How a project is built by a command of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSettings {
    /// Makes the module. It runs in the manifest's folder.
    pub command: BuildCommand,
    /// The module that it makes.
    pub output: PathBuf,
    /// Files and folders whose changes make another build worth while. Never empty.
    pub watch: Vec<PathBuf>,
    /// Tests the module that is being served, for `tidegate test`. It runs in the manifest's folder.
    pub test: Option<BuildCommand>,
}

/// A command of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildCommand {
    /// A line for `sh -c`.
    Shell(String),
    /// A program and its arguments, run as they are. Never empty.
    Words(Vec<String>),
}

impl fmt::Display for BuildCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// Reads the section. None when it lacks what it cannot do without, which has been told then.
pub(super) fn read(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<Build> {
    let table = walk.table(value)?;
    walk.check_keys(table, KEYS);
    if let Some(value) = table.get("target") {
        if !table.contains_key("command") {
            return of_crate(walk, table).map(Build::Cargo);
        }
        let message =
            "`target` is for crates, which cargo builds: what this project becomes, its `command` says";
        walk.problem(value.span(), ValueError::new(message).help("take out `target`, or `command`"));
    }
    of_command(walk, value, table).map(Build::Command)
}

/// A section without a command.
fn of_crate(walk: &mut Walk<'_>, table: &DeTable<'_>) -> Option<BuildTarget> {
    for (key, value) in COMMAND_KEYS.iter().filter_map(|key| table.get(*key).map(|value| (key, value))) {
        let message =
            format!("`{key}` goes with a `command`, and there is none: with `target`, cargo builds");
        walk.problem(value.span(), ValueError::new(message).help(format!("take out `{key}`")));
    }
    walk.read(table, "target", |given| match given.text()? {
        "module" => Ok(BuildTarget::Module),
        "component" => Ok(BuildTarget::Component),
        other => Err(ValueError::new(format!("`{other}` is no target")).help("`module` or `component`")),
    })
}

fn of_command(walk: &mut Walk<'_>, value: &Value<'_>, table: &DeTable<'_>) -> Option<BuildSettings> {
    for (key, help) in [
        ("command", "the command that makes the module, as in `command = \"make\"`"),
        ("output", "the module that the command makes, as in `output = \"handler.wasm\"`"),
    ] {
        if !table.contains_key(key) {
            let error = ValueError::new(format!("there is no `{key}` in `[build]`"));
            walk.problem(value.span(), error.help(help));
        }
    }
    let folder = walk.folder();
    let test = command(walk, table, "test");
    let watch = match table.get("watch") {
        Some(value) => walk.strings(value).into_iter().map(|(_, path)| within(folder, path)).collect(),
        None => vec![folder.to_path_buf()],
    };
    let output = walk.read(table, "output", |given| match given.text()? {
        "" => Err(ValueError::new("the path is empty")),
        path => Ok(within(folder, path)),
    });
    Some(BuildSettings { command: command(walk, table, "command")?, output: output?, watch, test })
}

/// `folder/path`, without the `./` that a folder of the same place would put before it.
fn within(folder: &Path, path: &str) -> PathBuf {
    folder.join(path).components().collect()
}

fn command(walk: &mut Walk<'_>, table: &DeTable<'_>, key: &str) -> Option<BuildCommand> {
    let value = table.get(key)?;
    if value.get_ref().as_array().is_some() {
        let words: Vec<String> = walk.strings(value).into_iter().map(|(_, word)| word.to_owned()).collect();
        return (!words.is_empty()).then_some(BuildCommand::Words(words));
    }
    walk.read(table, key, |given| match given.text()?.trim() {
        "" => Err(ValueError::new("the command is empty")),
        line => Ok(BuildCommand::Shell(line.to_owned())),
    })
}
