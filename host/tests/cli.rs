//! The command line from outside: exit status, and what is said on standard error.
//!
//! Nothing here starts a server: what is served is the business of the integration tests.

use std::path::Path;
use std::process::{Command, Output};

fn tidegate(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(words)
        .current_dir(folder)
        .env_remove("TIDEGATE_LOG")
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with a status, and says each of these.
#[track_caller]
fn fails(folder: &Path, words: &[&str], status: i32, says: &[&str]) {
    let output = tidegate(folder, words);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {text}");
    assert!(text.starts_with("error: "), "{words:?}: {text}");
    for part in says {
        assert!(text.contains(part), "{words:?}: {text}");
    }
    assert!(output.stdout.is_empty(), "{words:?}: a failure belongs on standard error");
}

#[test]
fn help_and_version_are_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["dev", "-h"],
        &["build", "--help"],
        &["new", "-h"],
        &["check", "-h"],
        &["test", "-h"],
    ] {
        let output = tidegate(folder.path(), words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{words:?}");
    }
    let help = tidegate(folder.path(), &["--help"]).stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(help.contains("serve") && help.contains("build") && !help.contains("\n  compile"), "{help}");
}

#[test]
fn wrong_words_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(tidegate(folder, &[]).status.code(), Some(2));
    fails(folder, &["sevre", "x.wasm"], 2, &["'sevre'", "'serve'"]);
    fails(
        folder,
        &["serve", "--route", "/x"],
        2,
        &["there is no app that `--route` could be for", "tidegate deploy"],
    );
    fails(folder, &["serve", "x.wasm", "--worker", "2"], 2, &["'--worker'", "'--workers'"]);
    fails(folder, &["serve", "x.wasm", "--log-format", "xml"], 2, &["xml", "text", "json"]);
    fails(folder, &["build", "x", "y"], 2, &["'y'"]);
    fails(folder, &["check", "missing.wasm"], 2, &["`missing.wasm` cannot be read"]);
    fails(
        folder,
        &["new", "shop", "--template", "helo"],
        2,
        &["no template `helo`", "did you mean `hello`?", "sse"],
    );
    fails(folder, &["test", ".", "--listen", ":80"], 2, &["`--listen` has no meaning for `test`"]);
}

#[test]
fn wrong_flags_name_the_nearest_word() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let table = [
        (["--limit", "cpuu=1s"], "error: --limit: unknown key `cpuu`\nhelp: did you mean `cpu`?\n"),
        (
            ["--limit", "memory=64MB"],
            "error: --limit: memory: `MB` is not a unit of size\nhelp: did you mean `64MiB`?\n",
        ),
        (
            ["--listen", "8080"],
            "error: --listen: `8080` is not an address to listen on\nhelp: a port alone is written `:8080`\n",
        ),
        (["--workers", "0"], "error: --workers: it must be between 1 and 1024\n"),
        (
            ["--allow-connect", "db.example"],
            "error: --allow-connect: `db.example` names no port\n\
             help: say which port: `db.example:5432`, or `db.example:*` for all\n",
        ),
        (
            ["--allow-listen", "*:7000"],
            "error: --allow-listen: `*:7000` names no address to listen on\n\
             help: `0.0.0.0:7000` is every IPv4 address of this machine, `[::]:7000` IPv6, too\n",
        ),
        (["--dns", "1.1.1.1"], "error: --dns: `1.1.1.1` names no port\nhelp: write `1.1.1.1:53`\n"),
        (
            ["--limit", "connects=9"],
            "error: --limit: connects: `9` is ambiguous: a rate needs a unit\nhelp: write `9/s`\n",
        ),
    ];
    for (words, expected) in table {
        let output = tidegate(folder, &[&["serve", "x.wasm"][..], &words].concat());
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), expected));
    }
}

#[test]
fn a_target_that_cannot_be_served_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("text.wasm"), "hello").unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    fails(folder, &["serve", "missing.wasm"], 2, &["`missing.wasm` cannot be read"]);
    fails(
        folder,
        &["serve", "text.wasm"],
        2,
        &["`text.wasm` is neither", "help: modules and components begin with"],
    );
    fails(folder, &["serve", "empty"], 2, &["there is no tidegate.toml in the folder `empty`", "help: "]);
}

#[test]
fn a_wrong_manifest_is_told_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let text = "[server]\nworker = 2\n[[app]]\nname = \"x\"\nsource = \"x.wasm\"\nroutes = [\"/*\"]\nlimits = { cpu = 1 }\n";
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
    let expected = "error: tidegate.toml:2:1: unknown key `worker`\n\
                    help: did you mean `workers`?\n\
                    error: tidegate.toml:7:18: cpu: a plain number is ambiguous: a time needs a unit\n\
                    help: the units are ms, s, min and h, as in `500ms` or `10s`\n";
    let output = tidegate(folder, &["serve", "tidegate.toml"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), expected));
    fails(folder, &["serve", "."], 2, &["tidegate.toml:2:1: unknown key `worker`"]);
}

#[test]
fn flags_of_an_app_are_ambiguous_beside_several() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let app =
        |name: &str| format!("[[app]]\nname = \"{name}\"\nsource = \"x.wasm\"\nroutes = [\"/{name}\"]\n");
    std::fs::write(folder.join("two.toml"), app("a") + &app("b")).unwrap();
    fails(
        folder,
        &["serve", "two.toml", "--limit", "cpu=1s"],
        2,
        &["`--limit` could mean any of the 2 apps", "help: set it in the manifest"],
    );
}

#[test]
fn a_log_filter_that_cannot_be_read_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "x.wasm"])
        .current_dir(folder.path())
        .env("TIDEGATE_LOG", "tidegate=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: the variable TIDEGATE_LOG is not a log filter"));

    // To the filter itself this is a module's name, and hides everything else.
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "x.wasm"])
        .current_dir(folder.path())
        .env("TIDEGATE_LOG", "wran")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).ends_with("help: did you mean `warn`?\n"), "{}", stderr(&output));
}

#[test]
fn every_app_that_can_not_be_loaded_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut manifest = String::new();
    for (name, module) in [("a", "(module)"), ("b", "(module (func (export \"tidegate_handle\")))")] {
        std::fs::write(folder.join(format!("{name}.wasm")), wat::parse_str(module).unwrap()).unwrap();
        manifest +=
            &format!("[[app]]\nname = \"{name}\"\nsource = \"{name}.wasm\"\nroutes = [\"/{name}\"]\n");
    }
    std::fs::write(folder.join("two.toml"), manifest).unwrap();
    fails(
        folder,
        &["serve", "two.toml", "--listen", "127.0.0.1:0"],
        1,
        &[
            "error: app `a`: `a.wasm`: this module is no handler: it does not export a function",
            "\nerror: app `b`: `b.wasm`: this module is no handler: its export `tidegate_handle` is not",
        ],
    );
}

#[test]
fn a_budget_that_is_too_small_is_told_in_large_units() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    // 10 x (2 x 64 KiB + 2 x 16 KiB) and 256 x 64 MiB.
    fails(
        folder.path(),
        &["serve", "x.wasm", "--connections", "10", "--memory-budget", "1GiB"],
        1,
        &["more than the budget of 1 GiB: 1.6 MiB for 10 connections and 16 GiB for guests"],
    );
}

#[test]
fn sockets_of_a_manifest_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let manifest = "[[app]]\nname = \"lines\"\nsource = \"x.wasm\"\n\
                    sockets = { conect = [\"a\"], listen = [\"a.example:1\"], ca = [\"x.wasm\"] }\n\
                    [[listen]]\ntcp = \"127.0.0.1:7000\"\napp = \"line\"\n";
    std::fs::write(folder.join("t.toml"), manifest).unwrap();
    fails(
        folder,
        &["serve", "t.toml"],
        2,
        &[
            "error: t.toml:1:1: the app has no `routes`\n",
            "error: t.toml:4:13: unknown key `conect`\nhelp: did you mean `connect`?\n",
            "error: t.toml:4:39: listen: `a.example:1` names a host: where to listen is an address, or `localhost`\n",
            "error: t.toml:4:61: `x.wasm` has no PEM certificate in it\n",
            "error: t.toml:7:7: app: there is no app `line`\nhelp: did you mean `lines`?\n",
        ],
    );
}

#[test]
fn an_address_given_twice_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let words = ["serve", "x.wasm", "--listen", "127.0.0.1:4711", "--listen", "127.0.0.1:4711"];
    fails(folder.path(), &words, 2, &["--listen: `127.0.0.1:4711` is there twice"]);
}

/// A crate without dependencies, so that nothing is fetched.
fn write_crate(folder: &Path, lib: &str, source: &str) {
    let manifest =
        format!("[package]\nname = \"tiny\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{lib}\n[workspace]\n");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), source).unwrap();
}

#[test]
fn a_folder_that_is_no_handler_crate_is_refused_before_building() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fails(folder, &["build", ".", "--out", "x.wasm"], 2, &["there is no Cargo.toml", "help: "]);
    fails(folder, &["dev", "missing"], 2, &["there is no folder `missing`"]);
    std::fs::write(folder.join("Cargo.toml"), "[workspace]\n").unwrap();
    fails(folder, &["build", ".", "--out", "x.wasm"], 2, &["is a workspace", "help: name the folder"]);
    write_crate(folder, "", "");
    fails(
        folder,
        &["build", ".", "--out", "x.wasm"],
        1,
        &["has no library that can become a module", "crate-type = [\"cdylib\"]"],
    );
    std::fs::remove_file(folder.join("src/lib.rs")).unwrap();
    std::fs::write(folder.join("src/main.rs"), "fn main() {}").unwrap();
    fails(folder, &["build", "."], 1, &["has no library", "crate-type = [\"cdylib\"]"]);
    fails(
        folder,
        &["build", ".", "--target", "component"],
        1,
        &["has no library", "`cargo build --release --target wasm32-wasip2`; name the file as `source`"],
    );
    fails(folder, &["dev", ".", "--limit", "cpuu=1s"], 2, &["did you mean `cpu`?"]);
}

#[test]
fn a_crate_becomes_a_module() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let lib = "[lib]\ncrate-type = [\"cdylib\"]\n";
    write_crate(
        &folder.join("tiny"),
        lib,
        "#[unsafe(no_mangle)]\npub extern \"C\" fn seven() -> i32 { 7 }\n",
    );
    let output = tidegate(folder, &["build", "tiny", "--out", "out.wasm"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(std::fs::read(folder.join("out.wasm")).unwrap().starts_with(b"\0asm"));
    assert!(stderr(&output).contains("built out.wasm (tiny, a module)"));

    write_crate(&folder.join("tiny"), lib, "fn broken( {");
    let output = tidegate(folder, &["build", "tiny", "--out", "broken.wasm"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("src/lib.rs:1"), "cargo's diagnostics are shown: {text}");
    assert!(text.ends_with("error: the crate does not build\n"), "{text}");
    assert!(!folder.join("broken.wasm").exists());
}
