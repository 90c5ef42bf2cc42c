//! A developer's project in a folder of its own, and the verbs that are run there.
//!
//! All projects share one cargo target folder below ours, so that the SDK is compiled once and not for each of them: give
//! each crate its own name. Cargo stays off the network: what the SDK needs has been fetched for this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::artifacts;

/// A folder with a project in it.
pub struct Project {
    folder: TempDir,
    name: String,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// None when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Panics with all that was said unless the status is this one.
    #[track_caller]
    pub fn ends_with(self, status: i32) -> Self {
        assert!(
            self.status == Some(status),
            "status {:?}, not {status}\n{}\n{}",
            self.status,
            self.out,
            self.err
        );
        self
    }

    /// Panics with all that was said unless standard error has this in it.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in\n{}", self.err);
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Project {
    /// An empty folder called `name`.
    pub fn empty(name: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a folder"), name: name.to_owned() };
        fs::create_dir(project.path("")).expect("the project's folder");
        project
    }

    /// What `tidegate new` makes of a template.
    #[track_caller]
    pub fn from_template(name: &str, template: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a folder"), name: name.to_owned() };
        let said = project.above(&["new", name, "--template", template]).ends_with(0);
        assert!(said.out.contains(&format!("cd {name}\n    tidegate dev\n")), "{}", said.out);
        project
    }

    /// A project that is built by copying `src/handler.wasm` to `out.wasm`, without any compiler. `extra` follows in
    /// `[build]`.
    pub fn copied(name: &str, module: &Path, extra: &str) -> Self {
        let project = Self::empty(name);
        project.put("src/handler.wasm", module);
        let text = format!(
            "[build]\ncommand = \"sh build.sh\"\noutput = \"out.wasm\"\n{extra}\n[[app]]\nname = \"{name}\"\nroutes = [\"/*\"]\n"
        );
        project.write("tidegate.toml", &text);
        project.write("build.sh", "cp src/handler.wasm out.wasm\n");
        project
    }

    /// A path in the project.
    pub fn path(&self, path: &str) -> PathBuf {
        let folder = self.folder.path().join(&self.name);
        if path.is_empty() { folder } else { folder.join(path) }
    }

    /// Writes a file, and the folders that it needs.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("making folders");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Puts a copy of a file in place in one step, as many editors do.
    pub fn put(&self, path: &str, from: &Path) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("making folders");
        let aside = path.with_extension("tmp");
        let done = fs::copy(from, &aside).and_then(|_| fs::rename(&aside, &path));
        done.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Replaces text in a file.
    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{from:?} is not in {path}:\n{text}");
        self.write(path, &text.replace(from, to));
    }

    /// What is in a file.
    pub fn read(&self, path: &str) -> String {
        let path = self.path(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// `tidegate` in the project's folder, ready to run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = artifacts::tidegate();
        command.args(words).current_dir(self.path("")).stdin(Stdio::null());
        surroundings(&mut command);
        command
    }

    /// Runs `tidegate` in the project's folder.
    pub fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().expect("starting tidegate").into()
    }

    /// Runs `tidegate` in the folder above the project's.
    pub fn above(&self, words: &[&str]) -> Said {
        let mut command = self.command(words);
        command.current_dir(self.folder.path()).output().expect("starting tidegate").into()
    }

    /// Runs the user's cargo in the project's folder.
    pub fn cargo(&self, words: &[&str]) -> Said {
        let mut command = Command::new("cargo");
        command.args(words).current_dir(self.path("")).stdin(Stdio::null());
        surroundings(&mut command);
        command.output().expect("starting cargo").into()
    }
}

/// What a developer's shell would have: nothing of the cargo that runs the tests.
pub fn surroundings(command: &mut Command) {
    artifacts::forget_cargo(command);
    command.env("CARGO_NET_OFFLINE", "true").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("CARGO_TARGET_DIR", artifacts::target_folder().join("tidegate-projects"));
    command.env_remove("TIDEGATE_LOG").env_remove("TIDEGATE_TEST_SOCKET").env_remove("MAKEFLAGS");
}

/// A module that answers every request with this text.
pub fn answering(text: &str) -> PathBuf {
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
    let wat = format!(
        r#"(module
            (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{text}")
            (func (export "tidegate_handle") (result i32)
                (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {}))))"#,
        text.len()
    );
    artifacts::wat_text(&format!("answers-{text}"), &wat)
}
