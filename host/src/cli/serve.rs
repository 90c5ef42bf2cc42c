//! `tidegate serve`: a module, a manifest, or a folder with one.

mod host;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::manifest::MANIFEST;
use crate::config::{AppSettings, ServerSettings, Settings, check_app_name, did_you_mean, manifest};
use crate::observe::log;
use crate::server::reload::Reread;

use super::Failure;
use super::args::{Flags, ServeArgs};
pub(super) use host::{SOCKET, is_module};

/// What may stand in the log's filter by itself.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let Some(target) = &args.target else { return host::run(None, &args.flags) };
    let settings = match read(target, &args.flags) {
        Ok(settings) => settings,
        // One that hosts apps serves what it has, whatever has become of the files that its manifest names.
        Err(_) if host::may_start(target, &args.flags) => return host::run(Some(target), &args.flags),
        Err(failure) => return Err(failure),
    };
    if settings.server.admin.is_some() {
        return host::run(Some(target), &args.flags);
    }
    let (target, flags) = (target.clone(), args.flags.clone());
    start(settings, Arc::new(move || read(&target, &flags).map_err(|failure| failure.problems())))
}

/// The settings of what is to be served, with the flags.
fn read(target: &Path, flags: &Flags) -> Result<Settings, Failure> {
    let mut settings = of_target(target)?;
    flags.apply(&mut settings)?;
    Ok(settings)
}

/// Finds a mistyped level: to the filter, a word that is no level is the name of a module to be told everything of.
fn check_log_filter(directives: &str) -> Result<(), Failure> {
    for word in directives.split(',').map(str::trim) {
        let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let number = word.parse::<u8>().is_ok_and(|level| level <= 5);
        if plain && !number && !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            let message =
                format!("the variable {} is not a log filter: `{word}` is no level", log::FILTER_VARIABLE);
            return Err(Failure::usage(message, Some(did_you_mean(word, LEVELS))));
        }
    }
    Ok(())
}

/// Serves until told to stop. `reread` gives the settings as they are by then.
fn start(settings: Settings, reread: Reread) -> Result<(), Failure> {
    let _log = open_log(&settings.server)?;
    Ok(crate::server::run(settings, reread)?)
}

/// Sends the log of this process to standard error, for as long as the guard is kept.
pub(super) fn open_log(server: &ServerSettings) -> Result<log::Guard, Failure> {
    check_log_filter(&std::env::var(log::FILTER_VARIABLE).unwrap_or_default())?;
    match log::init(server.log_format, server.dev) {
        Ok(guard) => Ok(guard),
        Err(error @ log::InitError::Filter(_)) => {
            let help = "as in `debug` or `warn,tidegate=trace`".to_owned();
            Err(Failure::usage(error.to_string(), Some(help)))
        }
        Err(error) => Err(anyhow::Error::new(error).into()),
    }
}

/// The settings of what the first argument names.
pub(super) fn of_target(target: &Path) -> Result<Settings, Failure> {
    let shown = target.display();
    if target.is_dir() {
        let inside = target.join(MANIFEST);
        if inside.is_file() {
            return Ok(manifest::load(&inside)?);
        }
        let help = if target.join("Cargo.toml").is_file() {
            format!("`tidegate dev {shown}` builds this crate and serves it")
        } else {
            format!("name a module, or write a manifest `{}`", inside.display())
        };
        return Err(Failure::usage(format!("there is no {MANIFEST} in the folder `{shown}`"), Some(help)));
    }
    // A pipe may never say anything, nor a device ever end.
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Failure::usage(format!("`{shown}` is not a regular file"), None));
    }
    let mut start = [0; 4];
    let read = File::open(target).and_then(|file| file.take(4).read(&mut start));
    let len = read.map_err(|error| Failure::usage(format!("`{shown}` cannot be read: {error}"), None))?;
    if len == 4 && start == *b"\0asm" {
        let stem = target.file_stem().unwrap_or_default().to_string_lossy();
        return of_module(target.to_owned(), &stem);
    }
    if target.extension().is_some_and(|extension| extension == "toml") {
        return Ok(manifest::load(target)?);
    }
    let help = match target.extension().and_then(OsStr::to_str) {
        Some("js" | "mjs" | "ts" | "py") => {
            "JavaScript and Python become components first: docs/guide-components.md"
        }
        Some("wat") => "turn WebAssembly in its text format into a binary first: `wasm-tools parse`",
        _ => "modules and components begin with the bytes `\\0asm`, a manifest's name ends in `.toml`",
    };
    let what = format!("`{shown}` is neither WebAssembly (a module or a component) nor a manifest");
    Err(Failure::usage(what, Some(help.to_owned())))
}

/// One app for everything, with all settings at their defaults.
pub(super) fn of_module(source: PathBuf, name: &str) -> Result<Settings, Failure> {
    let app = AppSettings::new(app_name(name), source);
    Ok(Settings { server: ServerSettings::default(), apps: vec![app], tcp: Vec::new(), tenants: Vec::new() })
}

/// The name of an app after a file's.
fn app_name(stem: &str) -> String {
    let kept = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let name: String =
        stem.chars().map(|character| if kept(character) { character } else { '-' }).take(64).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    if check_app_name(name).is_ok() { name.to_owned() } else { "app".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_told() {
        for good in [
            "",
            "info",
            "WARN",
            "3",
            "warn,tidegate=trace",
            "info,guest::x=debug, off",
            "tidegate[span]=debug",
        ] {
            assert!(check_log_filter(good).is_ok(), "{good}");
        }
        for bad in ["wran", "info,wran", "tidegate=debug,wran"] {
            let told = check_log_filter(bad).unwrap_err().to_string();
            assert!(told.contains("`wran` is no level") && told.contains("did you mean `warn`?"), "{told}");
        }
        let told = check_log_filter("tidegate").unwrap_err().to_string();
        assert!(told.contains("it is one of: error, warn"), "{told}");
    }

    #[test]
    fn apps_are_called_after_their_file() {
        let table = [
            ("hello", "hello"),
            ("my handler", "my-handler"),
            ("_x", "x"),
            ("...", "app"),
            ("", "app"),
            ("\u{e4}b", "b"),
            ("a\n", "a-"),
        ];
        for (stem, name) in table {
            assert_eq!(app_name(stem), name);
        }
        assert_eq!(app_name(&"a".repeat(100)).len(), 64);
    }

    #[test]
    fn what_a_file_is_shows_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("hello.wasm"), b"\0asm\x01\0\0\0").unwrap();
        std::fs::write(path("other"), b"\0asm\x01\0\0\0").unwrap();
        std::fs::write(path("text.wasm"), b"hello").unwrap();
        std::fs::write(path("empty.wasm"), b"").unwrap();
        std::fs::write(path("app.js"), b"export default {}").unwrap();
        std::fs::write(path("text.wat"), b"(component)").unwrap();
        std::fs::write(path(MANIFEST), "[[app]]\nname = \"m\"\nsource = \"hello.wasm\"\nroutes = [\"/*\"]\n")
            .unwrap();

        let names = |target: &Path| of_target(target).map(|settings| settings.apps[0].name.clone());
        assert_eq!(names(&path("hello.wasm")).unwrap(), "hello");
        assert_eq!(names(&path("other")).unwrap(), "other");
        assert_eq!(names(&path(MANIFEST)).unwrap(), "m");
        assert_eq!(names(folder.path()).unwrap(), "m");

        for (target, message) in [
            ("text.wasm", "neither WebAssembly (a module or a component) nor a manifest"),
            ("empty.wasm", "neither WebAssembly (a module or a component) nor a manifest"),
            ("app.js", "help: JavaScript and Python become components first"),
            ("text.wat", "help: turn WebAssembly in its text format into a binary first"),
            ("/dev/null", "is not a regular file"),
            ("missing.wasm", "cannot be read"),
            ("missing.toml", "cannot be read"),
        ] {
            let failure = of_target(&path(target)).unwrap_err();
            assert!(failure.to_string().contains(message), "{failure}");
            assert_eq!(failure.status(), 2);
        }
    }

    #[test]
    fn a_folder_without_a_manifest_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_target(folder.path()).unwrap_err().to_string().contains("write a manifest"));
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        assert!(of_target(folder.path()).unwrap_err().to_string().contains("help: `tidegate dev "));
    }
}
