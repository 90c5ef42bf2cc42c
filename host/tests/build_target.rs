//! `tidegate build` on a toolchain that lacks the target, with stand-ins for `rustc` and `rustup`.
//!
//! Alone in its process: a program that was just written cannot be started while another thread's child still holds
//! it open for writing.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_missing_target_is_added_by_rustup_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    // Cargo names folders as they are, without symbolic links.
    let folder = folder.path().canonicalize().unwrap();
    std::fs::create_dir_all(folder.join("tiny/src")).unwrap();
    std::fs::write(folder.join("tiny/src/lib.rs"), "").unwrap();
    let manifest =
        "[package]\nname = \"tiny\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    std::fs::write(folder.join("tiny/Cargo.toml"), manifest).unwrap();
    let programs = folder.join("programs");
    std::fs::create_dir(&programs).unwrap();
    let script = |name: &str, text: &str| {
        let path = programs.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    // A toolchain without any target, and so without a way to build: only what comes before that is of interest.
    let rustc = script("rustc", "echo /nowhere/toolchain; [ \"$1\" = --print ]");
    let build = || {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["build", "tiny", "--out", "x.wasm"])
            .current_dir(&folder)
            .env("CARGO", env!("CARGO"))
            .env("RUSTC", &rustc)
            .env("PATH", &programs)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };

    let text = build();
    assert!(text.contains("lacks the target wasm32-wasip1: adding it with rustup"), "{text}");
    assert!(text.contains("error: rustup cannot be started"), "{text}");
    assert!(text.contains("help: install the target wasm32-wasip1"), "{text}");

    script("rustup", "exit 1");
    let text = build();
    assert!(text.contains("error: rustup could not add the target wasm32-wasip1\nhelp: "), "{text}");

    script("rustup", &format!("echo \"$(pwd) $*\" > {}", folder.join("asked").display()));
    let text = build();
    assert!(text.ends_with("error: the crate does not build\n"), "{text}");
    let asked = std::fs::read_to_string(folder.join("asked")).unwrap();
    assert_eq!(asked.trim_end(), format!("{} target add wasm32-wasip1", folder.join("tiny").display()));
}
