//! `tidegate test`: a project's own tests against the real module in the real host.
//!
//! The host runs in this process, on a Unix socket in a folder that only its user can look into. What the tests need to
//! know is one variable, [`SOCKET`]: `tidegate_sdk::test` goes there instead of into its simulated host.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::args::TestArgs;
use super::build::{self, Profile, cargo, command};
use super::child::{Children, Output};
use super::project::{Maker, Project};
use super::{Failure, serve};
use crate::config::{BuildSettings, ListenAddr, Settings};
use crate::server::Server;

/// Where tests find the module that is served.
const SOCKET: &str = "TIDEGATE_TEST_SOCKET";
/// When the tests are over, nobody waits for an answer any more.
const DRAIN_MAX: Duration = Duration::from_millis(100);

pub(super) fn run(args: &TestArgs) -> Result<(), Failure> {
    args.flags.check()?;
    if args.flags.listens() {
        let help = "the tests find it by themselves, on a socket of its own";
        return Err(Failure::usage("`--listen` has no meaning for `test`", Some(help.to_owned())));
    }
    let project = Project::open(&args.folder, args.target)?;
    let tester = Tester::of(&project, args)?;
    let settings = project.settings(&project.module())?;
    let _log = serve::open_log(&settings.server)?;
    let children = Children::guarded(Output::Terminal, || {}).context("cannot listen for signals")?;
    let module = build::build(&project, Profile::Release, &children).map_err(|broken| broken.failure)?;

    let folder = Folder::make().context("cannot make a folder for the socket")?;
    let socket = folder.0.join("s");
    let server = Server::start(settings_for(args, project.settings(&module)?, &socket)?, None)?;
    if children.is_over() {
        // The signal may have come before the server heard any.
        server.stop();
    }
    let done = tester.run(&project, &children, &socket);
    if !children.is_over() {
        // Otherwise the signal drains it, and being told twice it would end at once.
        server.stop();
    }
    server.join()?;
    finish(done?)
}

/// What runs the tests.
enum Tester<'p> {
    /// Cargo does.
    Cargo(&'p TestArgs),
    /// The `test` of `[build]`.
    Command(&'p BuildSettings),
}

impl<'p> Tester<'p> {
    fn of(project: &'p Project, args: &'p TestArgs) -> Result<Self, Failure> {
        let Maker::Command(build) = &project.maker else { return Ok(Self::Cargo(args)) };
        if build.test.is_none() {
            let help = format!(
                "name a command in `[build]`, as in `test = \"sh test.sh\"`: it finds the module on the Unix socket \
                 that the variable {SOCKET} names"
            );
            return Err(Failure::usage("there is no test to run", Some(help)));
        }
        if !args.rest.is_empty() {
            return Err(Failure::usage(
                "arguments behind `--` are for `cargo test`, which is not run here",
                None,
            ));
        }
        Ok(Self::Command(build))
    }

    fn run(&self, project: &Project, children: &Children, socket: &Path) -> Result<ExitStatus, Failure> {
        let (mut ready, failure) = match self {
            Self::Command(build) => {
                let test = build.test.as_ref().unwrap_or(&build.command);
                (
                    command::command_in(&project.folder, test),
                    format!("the command `{test}` cannot be started"),
                )
            }
            Self::Cargo(args) => {
                let mut ready = cargo::cargo(&project.folder);
                ready.arg("test").args(&args.rest);
                (ready, "cargo cannot be started".to_owned())
            }
        };
        ready.env(SOCKET, socket);
        Ok(children.run(&mut ready, false).context(failure)?.status)
    }
}

/// The settings that the tests run with: those of the manifest and of the flags, and all paths lead to the module.
fn settings_for(args: &TestArgs, mut settings: Settings, socket: &Path) -> Result<Settings, Failure> {
    args.flags.apply(&mut settings)?;
    let server = &mut settings.server;
    server.dev = true;
    server.listen = vec![ListenAddr::Unix(socket.to_path_buf())];
    server.access_log = None;
    server.drain = DRAIN_MAX;
    if let [app] = settings.apps.as_mut_slice()
        && !app.routes.is_empty()
    {
        app.routes = vec!["/*".to_owned()];
    }
    Ok(settings)
}

/// Ends as the tests did.
fn finish(status: ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        // It has said itself what failed.
        Some(code) => Err(Failure::Said(u8::try_from(code).unwrap_or(1))),
        None => Err(anyhow!("the tests were ended: {status}").into()),
    }
}

/// A folder of our own, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        loop {
            let mut random = [0; 8];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
            let path = parent.join(format!("tidegate-{:016x}", u64::from_le_bytes(random)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is an empty folder among temporary ones.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn nobody_else_looks_into_the_folder() {
        let folder = Folder::make().unwrap();
        assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.0.join("s"), "").unwrap();
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn it_ends_as_the_tests_did() {
        assert!(finish(ExitStatus::from_raw(0)).is_ok());
        let failed = finish(ExitStatus::from_raw(101 << 8)).unwrap_err();
        assert_eq!((failed.status(), failed.to_string().as_str()), (101, ""));
        let killed = finish(ExitStatus::from_raw(9)).unwrap_err();
        assert!(killed.status() == 1 && killed.to_string().contains("signal: 9"), "{killed}");
    }
}
