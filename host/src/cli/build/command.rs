//! A module made by the command of `[build]`: a Makefile, a script, another language's compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::anyhow;

use crate::config::{BuildCommand, BuildSettings};

use super::super::Failure;
use super::super::child::Children;
use super::Broken;

/// What a shell says with its status when there is no such program.
const NOT_FOUND: i32 = 127;

/// Runs the command in the project's folder, and finds what it made.
///
/// # Errors
/// It cannot be started or fails, or what it was to make is not there.
pub(super) fn build(folder: &Path, settings: &BuildSettings, children: &Children) -> Result<PathBuf, Broken> {
    let command = &settings.command;
    let done = children
        .run(&mut command_in(folder, command), false)
        .map_err(|error| cannot_start(command, &error))?;
    let said = String::from_utf8_lossy(&done.said).into_owned();
    if !done.status.success() {
        return Err(Broken { failure: failed(command, done.status), said });
    }
    let output = &settings.output;
    if !output.is_file() {
        let message = format!("the command `{command}` succeeded, and did not make `{}`", output.display());
        let help = "that is the file which `output` of `[build]` names".to_owned();
        return Err(Broken { failure: Failure::Failed { error: anyhow!(message), help: Some(help) }, said });
    }
    Ok(output.clone())
}

/// A command of the manifest, ready to run.
pub(in crate::cli) fn command_in(folder: &Path, command: &BuildCommand) -> Command {
    let mut ready = match command {
        BuildCommand::Shell(line) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(line);
            shell
        }
        BuildCommand::Words(words) => {
            let (program, arguments) =
                words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
            let mut ready = Command::new(program);
            ready.args(arguments);
            ready
        }
    };
    // An empty path is the current folder to us, and an error to the system.
    if !folder.as_os_str().is_empty() {
        ready.current_dir(folder);
    }
    ready
}

/// Why a command that could not be started failed.
pub(in crate::cli) fn cannot_start(command: &BuildCommand, error: &std::io::Error) -> Failure {
    let error = anyhow!("the command `{command}` cannot be started: {error}");
    let help = matches!(command, BuildCommand::Words(_))
        .then(|| "the first word is the program; a line for the shell is a string, not a list".to_owned());
    Failure::Failed { error, help }
}

fn failed(command: &BuildCommand, status: ExitStatus) -> Failure {
    let error = anyhow!("the command `{command}` failed: {status}");
    let help = (status.code() == Some(NOT_FOUND)).then(|| {
        "that status says that a program of the command is not installed, or not in the PATH".to_owned()
    });
    Failure::Failed { error, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::child::Output;

    fn build_with(command: BuildCommand) -> (tempfile::TempDir, Result<PathBuf, Broken>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = BuildSettings {
            command,
            output: folder.path().join("out.wasm"),
            watch: vec![folder.path().to_path_buf()],
            test: None,
        };
        let children = Children::guarded(Output::Kept, || {}).unwrap();
        let built = build(folder.path(), &settings, &children);
        (folder, built)
    }

    fn shell(line: &str) -> BuildCommand {
        BuildCommand::Shell(line.to_owned())
    }

    #[test]
    fn a_command_makes_its_output_in_the_folder() {
        let (folder, built) = build_with(shell("printf x > out.wasm"));
        assert_eq!(built.unwrap(), folder.path().join("out.wasm"));
        let words = ["touch", "out.wasm"].map(str::to_owned).to_vec();
        assert!(build_with(BuildCommand::Words(words)).1.is_ok());
    }

    #[test]
    fn failures_say_what_and_why() {
        let table = [
            (shell("echo broken >&2; exit 3"), "failed: exit status: 3", "", "broken\n"),
            (shell("no-such-compiler-zz x.c"), "exit status: 127", "not installed", "no-such-compiler-zz"),
            (shell("true"), "did not make `", "`output` of `[build]`", ""),
            (BuildCommand::Words(vec!["no-such-compiler-zz".into()]), "cannot be started", "a list", ""),
        ];
        for (command, message, help, said) in table {
            let broken = build_with(command).1.unwrap_err();
            let shown = broken.failure.to_string();
            assert!(shown.contains(message) && shown.contains(help), "{shown}");
            assert_eq!(shown.contains("help: "), !help.is_empty(), "{shown}");
            assert!(broken.said.contains(said), "{}", broken.said);
        }
    }
}
