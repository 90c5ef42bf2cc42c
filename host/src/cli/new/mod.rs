//! `tidegate new`: a project in an empty folder, ready to be built, served and tested.

mod sdk;
mod template;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::Failure;
use super::args::NewArgs;
use crate::config::did_you_mean;
use template::{TEMPLATES, Template};

/// Where the SDK goes in a project.
const VENDORED: &str = "vendor/tidegate-sdk";

/// Names that cargo or the compiler keep for themselves, or that the project needs for a dependency.
const TAKEN: [&str; 63] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tidegate-abi",
    "tidegate-macros",
    "tidegate-sdk",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "con",
    "nul",
];

pub(super) fn run(args: &NewArgs) -> Result<(), Failure> {
    let template = template(&args.template)?;
    let name = name(&args.path)?;
    let (path, vendored) = match &args.sdk {
        Some(path) => (sdk_at(path)?, false),
        None => (VENDORED.to_owned(), template.needs_sdk()),
    };
    check_empty(&args.path)?;
    for (file, text) in template.files(&name, &path) {
        write(&args.path.join(file), text.as_bytes())?;
    }
    if vendored {
        for (file, bytes) in sdk::files().context("the SDK that this binary carries")? {
            write(&args.path.join(VENDORED).join(file), &bytes)?;
        }
    }
    start_repository(&args.path);
    announce(&args.path, &name, template)?;
    if template.needs_sdk()
        && let Some(outer) = workspace_around(&args.path)
    {
        announce_workspace(&outer, &args.path);
    }
    Ok(())
}

fn template(name: &str) -> Result<&'static Template, Failure> {
    TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| {
        let help = did_you_mean(name, TEMPLATES.iter().map(|template| template.name));
        let all: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
        let help =
            if help.starts_with("did") { format!("{help} there are {}", all.join(", ")) } else { help };
        Failure::usage(format!("there is no template `{name}`"), Some(help))
    })
}

/// The project's name: that of its folder.
fn name(path: &Path) -> Result<String, Failure> {
    let whole = std::path::absolute(path).context("the path cannot be read")?;
    // `.` and `..` have no name of their own.
    let whole = whole.canonicalize().unwrap_or(whole);
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    check_name(&name)?;
    Ok(name)
}

/// A name that a crate can have.
fn check_name(name: &str) -> Result<(), Failure> {
    let refuse = |message: String, help: &str| Err(Failure::usage(message, Some(help.to_owned())));
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !fits || !name.starts_with(|first: char| first.is_ascii_alphabetic()) || name.len() > 64 {
        return refuse(
            format!("`{}` cannot be the name of a crate", name.escape_debug()),
            "up to 64 letters of ASCII, digits, `-` and `_`, a letter first",
        );
    }
    let plain = name.to_ascii_lowercase().replace('_', "-");
    if TAKEN.contains(&plain.as_str()) {
        return refuse(
            format!(
                "`{name}` cannot be the name of a crate: it has another meaning to Rust or to the project"
            ),
            "choose another, as in `my-handler`",
        );
    }
    Ok(())
}

/// The SDK in a folder of the user's, as an absolute path.
fn sdk_at(path: &Path) -> Result<String, Failure> {
    let refuse = |why: &str| {
        let help =
            "name the folder with the Cargo.toml of tidegate-sdk, `guest-sdk` in tidegate's repository";
        Failure::usage(format!("--sdk: `{}` {why}", path.display()), Some(help.to_owned()))
    };
    let text = fs::read_to_string(path.join("Cargo.toml")).map_err(|_| refuse("has no Cargo.toml"))?;
    let manifest: toml::Table = text.parse().map_err(|_| refuse("has a Cargo.toml that is not valid"))?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    if name != Some("tidegate-sdk") {
        return Err(refuse("is another crate"));
    }
    let whole = path.canonicalize().context("the path of the SDK cannot be read")?;
    whole.to_str().map(str::to_owned).ok_or_else(|| refuse("has a path that is not UTF-8"))
}

/// A folder that is not there yet, or has nothing in it but an empty repository.
fn check_empty(path: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::usage(format!("`{}`: {error}", path.display()), None)),
    };
    let mut names = entries.flatten().map(|entry| entry.file_name()).filter(|name| name != ".git");
    match names.next() {
        None => Ok(()),
        Some(first) => {
            let first = first.to_string_lossy().into_owned();
            let message = format!("the folder `{}` is not empty: `{first}` is in it", path.display());
            Err(Failure::usage(message, Some("name another folder, or empty this one".to_owned())))
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let done = fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes));
    Ok(done.with_context(|| format!("`{}` cannot be written", path.display()))?)
}

/// A repository around the project, where git is installed and there is none yet. Without one all works, too.
fn start_repository(path: &Path) {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(words).current_dir(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !git(&["rev-parse", "--is-inside-work-tree"]) {
        git(&["init", "--quiet"]);
    }
}

/// What was made, and what comes next.
fn announce(path: &Path, name: &str, template: &Template) -> Result<(), Failure> {
    let here = path.canonicalize().ok() == PathBuf::from(".").canonicalize().ok();
    let (first, second) = if here {
        ("tidegate dev".to_owned(), "tidegate test")
    } else {
        (format!("cd {}", quoted(&path.to_string_lossy())), "tidegate dev")
    };
    let text =
        format!("made {name} from the template {}; now:\n\n    {first}\n    {second}\n", template.name);
    let mut out = io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")?)
}

/// The manifest of the workspace that the project lies in, if it lies in one. Cargo takes the nearest that has a table
/// for it.
fn workspace_around(path: &Path) -> Option<PathBuf> {
    let whole = path.canonicalize().ok()?;
    whole.ancestors().skip(1).map(|folder| folder.join("Cargo.toml")).find(|manifest| {
        let text = fs::read_to_string(manifest).unwrap_or_default();
        text.parse::<toml::Table>().is_ok_and(|manifest| manifest.contains_key("workspace"))
    })
}

/// A project is a workspace of its own. One around it that takes it for a member would not build any more.
fn announce_workspace(outer: &Path, path: &Path) {
    let folder = outer.parent().unwrap_or(Path::new("/"));
    let inside = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let inside = inside.strip_prefix(folder).unwrap_or(&inside);
    let text = format!(
        "note: `{}` is another workspace; where its `members` reach this folder, it needs `exclude = [{}]`\n",
        outer.display(),
        toml::Value::from(inside.to_string_lossy().into_owned())
    );
    // The project is there, whether this is read or not.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+,:@".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["shop", "my-shop", "a1_b", "Shop"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1shop",
            "-shop",
            "my shop",
            "sh\u{f6}p",
            "a.b",
            "test",
            "fn",
            "Self",
            "tidegate_sdk",
            &"a".repeat(65),
        ] {
            let told = check_name(bad).unwrap_err();
            assert!(told.to_string().contains("help: ") && told.status() == 2, "{bad}: {told}");
        }
        let told = check_name("sh\u{f6}p\u{1b}").unwrap_err().to_string();
        assert!(told.contains("`sh\u{f6}p\\u{1b}` cannot be"), "as it was typed, and steers nothing: {told}");
    }

    #[test]
    fn templates_are_listed() {
        assert_eq!(template("sse").unwrap().name, "sse");
        let told = template("zzz").err().unwrap().to_string();
        assert!(
            told.contains("there is no template `zzz`\nhelp: it is one of: hello, router, stream, sse, c"),
            "{told}"
        );
        let told = template("helo").err().unwrap().to_string();
        assert!(told.contains("did you mean `hello`? there are hello, router"), "{told}");
    }

    #[test]
    fn words_for_the_shell() {
        assert_eq!(quoted("../shop"), "../shop");
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
    }

    #[test]
    fn the_workspace_around_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().canonicalize().unwrap();
        let project = whole.join("crates/shop");
        fs::create_dir_all(&project).unwrap();
        fs::write(project.join("Cargo.toml"), "[workspace]").unwrap();
        fs::write(whole.join("crates/Cargo.toml"), "[package]\nname = \"no-workspace\"\n").unwrap();
        assert_ne!(workspace_around(&project), Some(project.join("Cargo.toml")), "its own");
        fs::write(whole.join("Cargo.toml"), "[workspace]\nmembers = [\"crates/*\"]\n").unwrap();
        assert_eq!(workspace_around(&project), Some(whole.join("Cargo.toml")));
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_empty(folder.path()).is_ok() && check_empty(&folder.path().join("new")).is_ok());
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert!(check_empty(folder.path()).is_ok(), "an empty repository");
        fs::write(folder.path().join("notes"), "").unwrap();
        let told = check_empty(folder.path()).unwrap_err().to_string();
        assert!(told.contains("is not empty: `notes` is in it"), "{told}");
        assert!(check_empty(&folder.path().join("notes")).is_err(), "a file");
    }
}
