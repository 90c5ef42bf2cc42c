//! `tidegate new`: what every template makes builds, passes its own tests in both hosts, and would be served.

use std::fs;

use tidegate_tests::artifacts::{has_wasi_libc, workspace};
use tidegate_tests::{Project, Server};

/// Runs all that a newcomer would run.
#[track_caller]
fn try_all(template: &str, requests: &[(&str, u16)]) {
    let name = format!("fresh-{template}");
    let project = Project::from_template(&name, template);
    assert!(project.path("vendor/tidegate-sdk/src/lib.rs").is_file());

    let tests = project.read("src/lib.rs").matches("#[test]").count();
    assert!(tests > 0);
    let passed = format!("test result: ok. {tests} passed");
    let said = project.cargo(&["test"]).ends_with(0);
    assert!(said.out.contains(&passed) && !said.err.contains("warning"), "{}{}", said.out, said.err);
    let said = project.run(&["test"]).ends_with(0);
    assert!(said.out.contains(&passed), "{}{}", said.out, said.err);

    project.run(&["build"]).ends_with(0).complains(&format!("built {name}.wasm ({name}, a module)"));
    let said = project.run(&["check", &format!("{name}.wasm")]).ends_with(0);
    assert!(said.out.contains("would be served: yes"), "{}", said.out);

    let server = Server::builder().module(project.path("")).start();
    for (target, status) in requests {
        assert_eq!(server.get("x", target).status(), *status, "{target}");
    }
}

#[test]
fn hello() {
    try_all("hello", &[("/", 200), ("/anything?x", 200)]);
}

#[test]
fn router() {
    try_all("router", &[("/", 200), ("/hello/Ada", 200), ("/orders", 405), ("/nowhere", 404)]);
}

#[test]
fn stream() {
    try_all("stream", &[("/", 200)]);
}

#[test]
fn sse() {
    try_all("sse", &[("/?count=1", 200)]);
}

#[test]
fn c() {
    let project = Project::from_template("fresh-c", "c");
    assert!(project.path("tidegate.h").is_file() && !project.path("vendor").exists());
    if !has_wasi_libc() {
        return;
    }
    let said = project.run(&["test"]).ends_with(0);
    assert!(said.out.contains("all is well"), "{}{}", said.out, said.err);
    project.run(&["build"]).ends_with(0).complains("built fresh-c.wasm (fresh-c, a module)");
    project.run(&["check"]).ends_with(0);
    let server = Server::builder().module(project.path("")).start();
    assert_eq!(server.get("x", "/world").text(), "Hello from /world\n");
}

#[test]
fn a_compiler_that_is_not_there_is_named() {
    let project = Project::from_template("bare-c", "c");
    // make and sh are needed to say so; a clang of that name is nowhere.
    project.edit("Makefile", "CC = clang", "CC = no-such-clang");
    let said = project.run(&["build"]).ends_with(1);
    said.complains("there is no no-such-clang; install it").complains("apt install clang lld wasi-libc");
}

#[test]
fn the_sdk_may_be_elsewhere() {
    let project = Project::empty("inner");
    let sdk = workspace().join("guest-sdk");
    let sdk = sdk.to_str().unwrap();
    project.run(&["new", "shop", "--sdk", sdk]).ends_with(0);
    assert!(!project.path("shop/vendor").exists());
    let manifest = project.path("shop/Cargo.toml");
    let said =
        project.cargo(&["metadata", "--format-version", "1", "--manifest-path", manifest.to_str().unwrap()]);
    let said = said.ends_with(0);
    let metadata: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let found =
        metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "tidegate-sdk");
    let found = found.unwrap()["manifest_path"].as_str().unwrap();
    assert_eq!(fs::canonicalize(found).unwrap(), fs::canonicalize(format!("{sdk}/Cargo.toml")).unwrap());

    project.run(&["new", "other", "--sdk", "shop"]).ends_with(2).complains("`shop` is another crate");
    assert!(!project.path("other").exists());
}

#[test]
fn an_empty_folder_will_do() {
    let project = Project::empty("here");
    let said = project.run(&["new", "."]).ends_with(0);
    assert!(said.out.contains("tidegate dev\n    tidegate test\n"), "{}", said.out);
    assert!(project.read("Cargo.toml").contains("name = \"here\""));
    assert!(project.path(".git").is_dir() || !has_git());
}

fn has_git() -> bool {
    std::process::Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn there_is_no_repository_within_a_repository() {
    if !has_git() {
        return;
    }
    let project = Project::empty("outer");
    let mut git = std::process::Command::new("git");
    let made = git.args(["init", "--quiet"]).current_dir(project.path("")).status().unwrap();
    assert!(made.success());
    project.run(&["new", "inner"]).ends_with(0);
    assert!(!project.path("inner/.git").exists());
}

/// A project is a workspace of its own: a workspace around it that takes it for a member has to leave it out, as it is
/// told.
#[test]
fn a_workspace_around_it_is_told_what_it_needs() {
    let project = Project::empty("around");
    let outer = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n";
    project.write("Cargo.toml", outer);
    project.write("crates/other/Cargo.toml", "[package]\nname = \"other\"\nedition = \"2024\"\n");
    project.write("crates/other/src/lib.rs", "");
    let metadata = ["metadata", "--no-deps", "--format-version", "1"];
    let exclude = "exclude = [\"crates/shop\"]";
    project.run(&["new", "crates/shop"]).ends_with(0).complains(exclude);
    project.cargo(&metadata).ends_with(101);
    project.write("Cargo.toml", &format!("{outer}{exclude}\n"));
    let said = project.cargo(&metadata).ends_with(0);
    assert!(
        said.out.contains("\"name\":\"other\"") && !said.out.contains("\"name\":\"shop\""),
        "{}",
        said.out
    );
}

#[test]
fn what_is_there_stays() {
    let project = Project::empty("full");
    project.write("notes.txt", "mine");
    project.run(&["new", "."]).ends_with(2).complains("is not empty: `notes.txt` is in it");
    project.run(&["new", "notes.txt"]).ends_with(2);
    for bad in ["1st", "fn", "tidegate-sdk", "a b"] {
        project.run(&["new", bad]).ends_with(2).complains("cannot be the name of a crate");
    }
    project
        .run(&["new", "shop", "--template", "zzz"])
        .ends_with(2)
        .complains("hello, router, stream, sse, c");
    let left: Vec<_> = fs::read_dir(project.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was made: {left:?}");
}
