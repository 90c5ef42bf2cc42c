//! The flags of the verbs that ask a running server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AppFlags, Flags};
use crate::config::BuildTarget;

/// Where the server is, and who asks.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
pub(in crate::cli) struct AdminFlags {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "ADDR",
        help = "Where the server's admin side is, as unix:PATH or HOST:PORT [default: $TIDEGATE_ADMIN, else the usual socket]"
    )]
    pub(in crate::cli) admin: Option<String>,
    /// A file with the token to show [default: $TIDEGATE_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// Say it in JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What is not said stays as it is in the version that serves; a first version has the defaults."
)]
pub(in crate::cli) struct DeployArgs {
    /// A module, a component, a manifest (each of its apps, or the one that `--name` names), or a folder that is built first.
    #[arg(value_name = "FILE.wasm|MANIFEST.toml|FOLDER", default_value = ".")]
    pub(in crate::cli) subject: PathBuf,
    /// What to make of a project's crate: a module for tidegate, the default, or a component for any host of wasi:http
    #[arg(long, value_name = "KIND")]
    pub(in crate::cli) target: Option<BuildTarget>,
    /// A word for people: a commit, a ticket
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) note: Option<String>,
    /// Keep the version, and go on with the one that serves
    #[arg(long, conflicts_with_all = ["canary", "canary_header", "canary_cookie"])]
    pub(in crate::cli) inactive: bool,
    /// Serve it to so many hundredths of the requests
    #[arg(long, value_name = "PERCENT", value_parser = hundredths)]
    pub(in crate::cli) canary: Option<u8>,
    /// Serve it to requests with this header, as NAME or `NAME: VALUE`
    #[arg(long, value_name = "HEADER")]
    pub(in crate::cli) canary_header: Option<String>,
    /// Serve it to requests with this cookie, as NAME or NAME=VALUE
    #[arg(long, value_name = "COOKIE")]
    pub(in crate::cli) canary_cookie: Option<String>,
    /// Roll the canary back when more than so many hundredths of its requests fail [default: 5]
    #[arg(long, value_name = "PERCENT", value_parser = hundredths)]
    pub(in crate::cli) failure_percent: Option<u8>,
    /// But not before it has had so many, unless it fails for sure [default: 20]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) requests_min: Option<u32>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
    #[command(flatten)]
    app: AppFlags,
}

/// A share, with or without its sign.
fn hundredths(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| "a whole number from 0 to 100 is meant".to_owned())
}

impl DeployArgs {
    /// The flags of the app, as `serve` has them.
    pub(in crate::cli) fn flags(&self) -> Flags {
        Flags { app: self.app.clone(), ..Flags::default() }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    /// The app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: String,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(value_name = "VERSION", help = "The version to go back to [default: the one that served before]")]
    pub(in crate::cli) version: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CanaryArgs {
    /// The app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: String,
    /// What to do: status, promote (everybody gets it), abort (nobody does), or hundredths of the requests that get it.
    #[arg(value_name = "status|promote|abort|PERCENT", default_value = "status")]
    pub(in crate::cli) change: String,
    /// Begin one with this version, which is kept
    #[arg(long, value_name = "N")]
    pub(in crate::cli) version: Option<u64>,
    /// Serve it to requests with this header, as NAME or `NAME: VALUE`
    #[arg(long, value_name = "HEADER")]
    pub(in crate::cli) header: Option<String>,
    /// Serve it to requests with this cookie, as NAME or NAME=VALUE
    #[arg(long, value_name = "COOKIE")]
    pub(in crate::cli) cookie: Option<String>,
    /// Roll it back when more than so many hundredths of its requests fail
    #[arg(long, value_name = "PERCENT", value_parser = hundredths)]
    pub(in crate::cli) failure_percent: Option<u8>,
    /// But not before it has had so many
    #[arg(long, value_name = "N")]
    pub(in crate::cli) requests_min: Option<u32>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct AppsArgs {
    #[command(subcommand)]
    pub(in crate::cli) verb: Option<AppsVerb>,
    /// One app, in full.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AppsVerb {
    /// Write a manifest of what is there.
    Export {
        // No doc comment: rustdoc would take the brackets for links.
        #[arg(short, long, value_name = "FILE", help = "Where to [default: standard output]")]
        out: Option<PathBuf>,
        #[command(flatten)]
        at: AdminFlags,
    },
    /// Take an app and its versions away.
    Remove {
        /// The app.
        #[arg(value_name = "APP")]
        app: String,
        #[command(flatten)]
        at: AdminFlags,
    },
}

/// Verbs that take nothing but an app.
#[derive(Debug, Args)]
pub(in crate::cli) struct OfAppArgs {
    /// The app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: String,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// The app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: String,
    /// Go on with what comes
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(in crate::cli) lines: usize,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct PsArgs {
    #[command(subcommand)]
    pub(in crate::cli) verb: Option<PsVerb>,
    /// Those of one app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: Option<String>,
    /// List them again every so many seconds, until Ctrl-C [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    pub(in crate::cli) watch: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

/// A pause between two looks.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let number = number.filter(|seconds| (0.1..=3600.0).contains(seconds));
    let told = "seconds from 0.1 to 3600 are meant; an app's name goes before the flag";
    number.map(Duration::from_secs_f64).ok_or_else(|| told.to_owned())
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PsVerb {
    /// End a request.
    Cancel {
        /// Its id, as `ps` and the log show it.
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        at: AdminFlags,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LimitsArgs {
    /// The app.
    #[arg(value_name = "APP")]
    pub(in crate::cli) app: String,
    /// Limits to change, such as memory=32MiB; KEY=default takes one back.
    #[arg(value_name = "KEY=VALUE")]
    pub(in crate::cli) changes: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReloadArgs {
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AuditArgs {
    /// How many of the last records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(in crate::cli) lines: usize,
    #[command(flatten)]
    pub(in crate::cli) at: AdminFlags,
}
