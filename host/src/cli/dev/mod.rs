//! `tidegate dev`: builds a project and serves it on this machine, and again whenever its files change.
//!
//! The server starts first, so that a port that is taken is told before a build that takes a minute; it shows that the
//! build is on its way. Each build that succeeds is swapped in without dropping a connection. One that does not is shown
//! in its place, until it does.

mod made;
mod page;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::args::DevArgs;
use super::build::{self, Broken, Profile};
use super::child::{Children, Output};
use super::project::{Maker, Project};
use super::{Failure, serve};
use crate::config::manifest::MANIFEST;
use crate::config::{LogTarget, ServerSettings, Settings, TcpListen};
use crate::observe::log::say;
use crate::server::{Deployer, Server};
use made::Made;
use watch::{Event, Id, Roots, Snapshot, Waited, Watch};

/// How long running requests may take once it is to end: someone is waiting for the prompt.
const DRAIN_MAX: Duration = Duration::from_secs(1);

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    // A wrong flag should not cost a build.
    args.flags.check()?;
    let project = Project::open(&args.folder, args.target)?;
    let settings = settings(args, project.settings(&project.module())?)?;
    let _log = serve::open_log(&settings.server)?;
    let (events, inbox) = mpsc::channel();
    let stop = events.clone();
    let children = Children::guarded(Output::Kept, move || {
        // Nobody waits any more: it ends already.
        let _ = stop.send(Event::Stop);
    });
    let children = children.context("cannot listen for signals")?;
    let started = Started { server: settings.server.clone(), tcp: settings.tcp.clone() };
    let server = Server::start(settings, Some(page::building(&project.name)))?;
    if children.is_over() {
        // The signal may have come before the server heard any.
        server.stop();
    }
    let mut dev = Dev {
        args,
        children,
        watch: Watch::new(events, inbox, args.poll),
        deployer: server.deployer(),
        project,
        started,
        sources: None,
        said: said(),
        serves: false,
    };
    let done = dev.serve(server.urls());
    if !dev.children.is_over() {
        // Otherwise the signal drains it, and being told twice it would end at once.
        server.stop();
    }
    server.join()?;
    done
}

/// What the flags and `dev` itself make of a project's settings.
fn settings(args: &DevArgs, mut settings: Settings) -> Result<Settings, Failure> {
    settings.server.dev = true;
    settings.server.access_log.get_or_insert(LogTarget::Stdout);
    settings.server.drain = settings.server.drain.min(DRAIN_MAX);
    args.flags.apply(&mut settings)?;
    Ok(settings)
}

/// The settings that only a restart changes.
struct Started {
    server: ServerSettings,
    tcp: Vec<TcpListen>,
}

struct Dev<'a> {
    args: &'a DevArgs,
    children: Children,
    watch: Watch,
    deployer: Deployer,
    project: Project,
    /// What the server was started with; the rest of the settings changes with the manifest.
    started: Started,
    /// The folders of the crate and of what it depends on; None until cargo was asked.
    sources: Option<Vec<PathBuf>>,
    /// The files that we write to by what we say.
    said: BTreeSet<Id>,
    /// Whether something was deployed before.
    serves: bool,
}

impl Dev<'_> {
    /// Builds, deploys and waits, until a signal comes.
    fn serve(&mut self, urls: &[String]) -> Result<(), Failure> {
        let mut since = Instant::now();
        let mut told = false;
        let mut made = Made::default();
        // Whether it is built again for no other reason than what changed while it was.
        let mut again = false;
        let (mut before, _) = self.watch.widen(self.roots(), Snapshot::default());
        loop {
            self.turn(since);
            if self.children.is_over() {
                return Ok(());
            }
            if !told {
                announce(urls)?;
                told = true;
            }
            let after = self.watch.look();
            let mut during = made.sort(&before.changes(&after), again);
            let (after, meanwhile) = self.watch.widen(self.roots(), after);
            during.extend(meanwhile);
            // Edited while it was being built, or made by the build: the next one will tell.
            self.note_changes(&during);
            let within = (!during.is_empty()).then(|| made.patience(&during));
            match self.watch.wait(&after, within) {
                Waited::Changed(now, at) => {
                    self.note_changes(&after.changes(&now));
                    (before, since, again) = (now, at, false);
                }
                Waited::Quiet => (before, since, again) = (self.watch.look(), Instant::now(), true),
                Waited::Stopped => return Ok(()),
            }
        }
    }

    /// One build, and what comes of it.
    fn turn(&mut self, since: Instant) {
        let began = Instant::now();
        let broken = match self.build() {
            Ok(settings) => {
                let built = began.elapsed();
                match self.deployer.deploy(&settings.apps) {
                    Ok(changed) => {
                        if changed {
                            self.tell(&settings, since, built);
                        }
                        self.tell_of_server(&settings);
                        return;
                    }
                    // The compiler belongs to the terminal, too, and ends with the same Ctrl-C.
                    Err(_) if self.children.is_over() => return,
                    Err(error) => Broken::from(error),
                }
            }
            // What it was told to end says nothing.
            Err(_) if self.children.is_over() => return,
            Err(broken) => broken,
        };
        say(format_args!("{}", broken.failure));
        self.deployer.show(page::broken(&self.project.name, &broken.failure, &broken.said));
    }

    /// Builds the project as it is now. What to serve then.
    fn build(&mut self) -> Result<Settings, Broken> {
        self.project = Project::open(&self.args.folder, self.args.target)?;
        let profile = if self.args.release { Profile::Release } else { Profile::Dev };
        let module = build::build(&self.project, profile, &self.children);
        // Also when it does not build: what is wrong may lie in another folder.
        if let Maker::Cargo(handler) = &self.project.maker
            && self.sources.is_none()
        {
            self.sources = Some(handler.sources());
        }
        Ok(settings(self.args, self.project.settings(&module?)?)?)
    }

    /// Says that a build is served.
    fn tell(&mut self, settings: &Settings, since: Instant, built: Duration) {
        let name = match settings.apps.as_slice() {
            [app] => app.name.clone(),
            apps => format!("{} apps", apps.len()),
        };
        let verb = if self.serves { "reloaded" } else { "loaded" };
        let (whole, built) = (since.elapsed().as_secs_f64(), built.as_secs_f64());
        say(format_args!("{verb} {name} in {whole:.1} s (build {built:.1} s)"));
        self.serves = true;
    }

    /// Says that what was changed in the server's settings needs a restart.
    fn tell_of_server(&mut self, settings: &Settings) {
        let Started { server, tcp } = &mut self.started;
        let changed = [("[server]", settings.server != *server), ("[[listen]]", settings.tcp != *tcp)];
        for (section, _) in changed.iter().filter(|(_, changed)| *changed) {
            say(format_args!(
                "note: `{section}` of {MANIFEST} has changed; restart `tidegate dev` to take that up"
            ));
        }
        // Once is enough.
        server.clone_from(&settings.server);
        tcp.clone_from(&settings.tcp);
    }

    /// What cargo was asked may have another answer now.
    fn note_changes(&mut self, changed: &BTreeSet<PathBuf>) {
        // The manifest says for which target, and that which of them.
        if changed.iter().any(|path| path.ends_with("Cargo.toml") || path.ends_with(MANIFEST)) {
            self.sources = None;
        }
    }

    fn roots(&self) -> Roots {
        let mut paths = match &self.project.maker {
            Maker::Command(build) => build.watch.clone(),
            Maker::Cargo(handler) => self.sources.clone().unwrap_or_else(|| vec![handler.folder.clone()]),
        };
        paths.push(self.args.folder.join(MANIFEST));
        let mut written = Vec::new();
        if let Some(LogTarget::File(log)) = &self.started.server.access_log {
            // Each request writes to it.
            written.push(log.clone());
        }
        // What guests write is no source. A manifest that is wrong has been told.
        let served = self.project.settings(&self.project.module()).ok();
        let apps = served.and_then(|served| settings(self.args, served).ok()).map(|settings| settings.apps);
        let mounts = apps.iter().flatten().flat_map(|app| &app.mounts).filter(|mount| mount.write);
        written.extend(mounts.map(|mount| mount.host.clone()));
        let mut apart = self.said.clone();
        // Not the module, which may be a link to what it was made from.
        apart.extend(written.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| Id::of(&meta)));
        let mut made = written;
        made.push(self.project.module());
        let whole = |paths: Vec<PathBuf>| paths.iter().map(|path| whole(path)).collect();
        Roots { paths: whole(paths), made: whole(made), apart }
    }
}

/// The files that standard output and standard error are, where they are any: each line is a change.
fn said() -> BTreeSet<Id> {
    let stat = |stream: BorrowedFd<'_>| fs::File::from(stream.try_clone_to_owned().ok()?).metadata().ok();
    let streams = [io::stdout().as_fd(), io::stderr().as_fd()].map(stat);
    streams.iter().flatten().filter(|meta| meta.is_file()).map(Id::of).collect()
}

/// A path by which a file is known however it was named. The file itself need not be there.
fn whole(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.canonicalize().unwrap_or_else(|_| match (absolute.parent(), absolute.file_name()) {
        (Some(folder), Some(name)) => {
            folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()).join(name)
        }
        _ => absolute.clone(),
    })
}

/// The addresses, as `serve` prints them.
fn announce(urls: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let lines: String = urls.iter().map(|url| format!("listening on {url}\n")).collect();
    Ok(out.write_all(lines.as_bytes()).and_then(|()| out.flush()).context("standard output")?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Verb};
    use super::*;
    use crate::config::{ListenAddr, LogFormat};

    fn settings_of(line: &str) -> Settings {
        let Verb::Dev(args) = Cli::try_parse_from(line.split(' ')).unwrap().verb else { panic!("{line}") };
        settings(&args, serve::of_module("target/hello.wasm".into(), "hello").unwrap()).unwrap()
    }

    #[test]
    fn it_serves_this_machine_and_logs_each_request() {
        let settings = settings_of("tidegate dev guests/hello");
        let expected = ServerSettings {
            dev: true,
            access_log: Some(LogTarget::Stdout),
            drain: DRAIN_MAX,
            ..ServerSettings::default()
        };
        assert_eq!(settings.server, expected);
        assert_eq!(settings.server.listen, [ListenAddr::parse("127.0.0.1:8080").unwrap()]);
        assert_eq!(settings.server.log_format, LogFormat::Text);
        assert_eq!((settings.apps.len(), settings.apps[0].name.as_str()), (1, "hello"));
    }

    #[test]
    fn flags_override_what_it_chooses() {
        let settings = settings_of(
            "tidegate dev --listen :0 --access-log a.log --name other --drain 5s --release --poll",
        );
        assert_eq!(settings.server.listen, [ListenAddr::parse(":0").unwrap()]);
        assert_eq!(settings.server.access_log, Some(LogTarget::File("a.log".into())));
        assert_eq!(settings.server.drain, Duration::from_secs(5));
        assert_eq!(settings.apps[0].name, "other");
    }
}
