//! `tidegate serve`: a module, a manifest, or a folder with one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::{AppSettings, ServerSettings, Settings, check_app_name, manifest};
use crate::observe::log;

use super::Failure;
use super::args::ServeArgs;

/// What a folder's manifest is called.
const MANIFEST: &str = "tidegate.toml";

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let mut settings = of_target(&args.target)?;
    args.flags.apply(&mut settings)?;
    start(settings)
}

/// Serves until told to stop.
pub(super) fn start(settings: Settings) -> Result<(), Failure> {
    let _log = match log::init(settings.server.log_format) {
        Ok(guard) => guard,
        Err(error @ log::InitError::Filter(_)) => {
            let help = "as in `debug` or `warn,tidegate=trace`".to_owned();
            return Err(Failure::usage(error.to_string(), Some(help)));
        }
        Err(error) => return Err(anyhow::Error::new(error).into()),
    };
    Ok(crate::server::run(settings)?)
}

/// The settings of what the first argument names.
fn of_target(target: &Path) -> Result<Settings, Failure> {
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
    let help = "a module begins with the bytes `\\0asm`, a manifest's name ends in `.toml`".to_owned();
    Err(Failure::usage(format!("`{shown}` is neither a WebAssembly module nor a manifest"), Some(help)))
}

/// One app for everything, with all settings at their defaults.
pub(super) fn of_module(source: PathBuf, name: &str) -> Result<Settings, Failure> {
    let app = AppSettings::new(app_name(name), source);
    Ok(Settings { server: ServerSettings::default(), apps: vec![app] })
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
        std::fs::write(path(MANIFEST), "[[app]]\nname = \"m\"\nsource = \"hello.wasm\"\nroutes = [\"/*\"]\n")
            .unwrap();

        let names = |target: &Path| of_target(target).map(|settings| settings.apps[0].name.clone());
        assert_eq!(names(&path("hello.wasm")).unwrap(), "hello");
        assert_eq!(names(&path("other")).unwrap(), "other");
        assert_eq!(names(&path(MANIFEST)).unwrap(), "m");
        assert_eq!(names(folder.path()).unwrap(), "m");

        for (target, message) in [
            ("text.wasm", "neither a WebAssembly module nor a manifest"),
            ("empty.wasm", "neither a WebAssembly module nor a manifest"),
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
