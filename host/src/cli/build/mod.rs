//! `tidegate build`: a project into one module or component, by way of the user's own cargo or of the command that the project's
//! `tidegate.toml` names.

pub(super) mod cargo;
pub(super) mod command;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Failure;
use super::args::BuildArgs;
use super::check;
use super::child::Children;
use super::project::{Maker, Project};
use crate::guest::program::{self, Kind};

/// How cargo is to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// To be built again in a moment.
    Dev,
    /// To be served.
    Release,
}

/// A build that did not come to its end.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// What the tools said, with their colours; empty where that went to the terminal only.
    pub(super) said: String,
}

impl<F: Into<Failure>> From<F> for Broken {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), said: String::new() }
    }
}

pub(super) fn run(args: &BuildArgs) -> Result<(), Failure> {
    let project = Project::open(&args.folder, args.target)?;
    let built =
        build(&project, Profile::Release, &Children::of_terminal()).map_err(|broken| broken.failure)?;
    let out = args.out.clone().unwrap_or_else(|| project.module());
    let same = out.canonicalize().is_ok_and(|out| built.canonicalize().is_ok_and(|built| built == out));
    if !same {
        put(&built, &out)?;
    }
    let kind = kind(&out)?.map_or_else(String::new, |kind| format!(", a {kind}"));
    eprintln!("built {} ({}{kind})", out.display(), project.name);
    for complaint in check::complaints(&out)? {
        eprintln!("warning: it would not be served: {}", complaint.what);
        if !complaint.help.is_empty() {
            eprintln!("help: {}", complaint.help);
        }
    }
    Ok(())
}

/// What a file is by its first bytes; None if it is neither a module nor a component.
fn kind(path: &Path) -> Result<Option<Kind>, Failure> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut start));
    read.with_context(|| format!("`{}` cannot be read", path.display()))?;
    Ok(program::kind(&start).ok())
}

/// Builds a project. The module is where its maker left it.
///
/// # Errors
/// It does not build, or a tool is missing.
pub(super) fn build(project: &Project, profile: Profile, children: &Children) -> Result<PathBuf, Broken> {
    match &project.maker {
        Maker::Cargo(handler) => handler.build(profile, children),
        Maker::Command(settings) => command::build(&project.folder, settings, children),
    }
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
