//! The command line: one file a verb.
//!
//! It turns words into checked settings and hands them on; it decides how a failure is shown, and the exit status:
//! 0 done, 1 it failed, 2 wrong usage (a flag, a file that is not what it should be, a manifest).

mod ansi;
mod apps;
mod args;
mod audit;
mod build;
mod canary;
mod check;
mod child;
mod client;
mod compile;
mod deploy;
mod dev;
mod limits;
mod logs;
mod new;
mod project;
mod ps;
mod reload;
mod rollback;
mod serve;
mod test;
mod versions;

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{ConfigError, Problem, ValueError};
use crate::hosting::types::Refusal;
use crate::observe::log::say;
use crate::server::LoadFailures;
use args::{Cli, Verb};

/// What to do about an address that somebody else listens on.
const TAKEN_HELP: &str = "another server has it: give another address with `--listen` (raw TCP: `--listen-tcp`, or its `[[listen]]`)";

/// Why a verb did not do what it should.
#[derive(Debug)]
enum Failure {
    /// What was asked cannot be meant.
    Usage(ConfigError),
    /// It was meant well and went wrong.
    Failed { error: anyhow::Error, help: Option<String> },
    /// It has been said already; this is the status.
    Said(u8),
}

impl Failure {
    /// Wrong usage of no particular place.
    fn usage(message: impl Into<String>, help: Option<String>) -> Self {
        let problem = Problem { place: None, message: message.into(), help };
        Self::Usage(ConfigError { problems: vec![problem] })
    }

    /// What is wrong, each problem by itself in one line, for a log.
    fn problems(&self) -> Vec<String> {
        let line = |problem: &Problem| {
            let Problem { place, message, help } = problem;
            let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{place}{message}{help}")
        };
        match self {
            Self::Usage(error) => error.problems.iter().map(line).collect(),
            Self::Failed { error, .. } => vec![format!("{error:#}")],
            Self::Said(status) => vec![format!("status {status}")],
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            Self::Usage(_) => 2,
            Self::Said(status) => *status,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Said(_) => Ok(()),
            Self::Failed { error, help } => {
                let problem =
                    |error| Problem { place: None, message: format!("{error:#}"), help: help.clone() };
                // A manifest that is not applied says in a line what is wrong with each app.
                let lines = error.downcast_ref::<Refusal>().map(|refusal| refusal.message.lines());
                match (error.downcast_ref::<LoadFailures>(), lines) {
                    (Some(LoadFailures(all)), _) => {
                        ConfigError { problems: all.iter().map(problem).collect() }.fmt(f)
                    }
                    (None, Some(lines)) => {
                        let mut problems: Vec<_> = lines
                            .map(|line| Problem { place: None, message: line.to_owned(), help: None })
                            .collect();
                        problems.last_mut().iter_mut().for_each(|last| last.help.clone_from(help));
                        ConfigError { problems }.fmt(f)
                    }
                    (None, None) => problem(error).fmt(f),
                }
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let io_errors = || error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        let taken = io_errors().any(|error| error.kind() == io::ErrorKind::AddrInUse);
        let refused = error.downcast_ref::<Refusal>().and_then(|refusal| refusal.help.clone());
        let help = refused.or(taken.then(|| TAKEN_HELP.to_owned()));
        Self::Failed { error, help }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error)
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Self {
        Self::usage(error.message, error.help)
    }
}

/// What `main` does.
pub fn main() -> ExitCode {
    // First of all, while nobody else looks at the environment.
    if let Err(error) = crate::server::birth::record() {
        say(format_args!("error: {error:#}"));
        return ExitCode::FAILURE;
    }
    // Clap prints its own errors and the help, and ends with 2 or 0.
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::New(args) => new::run(&args),
        Verb::Dev(args) => dev::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Deploy(args) => deploy::run(&args),
        Verb::Rollback(args) => rollback::run(&args),
        Verb::Canary(args) => canary::run(&args),
        Verb::Apps(args) => apps::run(&args),
        Verb::Versions(args) => versions::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Ps(args) => ps::run(&args),
        Verb::Limits(args) => limits::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Audit(args) => audit::run(&args),
        Verb::Compile(args) => compile::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Said(_)) {
                say(format_args!("{failure}"));
            }
            ExitCode::from(failure.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosting::types::RefusalKind;

    #[test]
    fn what_a_refusal_says_is_shown_line_by_line_with_its_help() {
        let refusal = Refusal::new(RefusalKind::Module, "app `a`: one\napp `b`: two").help("mend it");
        let failure = Failure::from(anyhow::Error::from(refusal));
        assert_eq!(failure.to_string(), "error: app `a`: one\nerror: app `b`: two\nhelp: mend it");
        assert_eq!(failure.status(), 1);
    }
}
