//! `--target component`: the same source as a component for any host of wasi:http.

use std::fs;

use tidegate_tests::oracle::Oracle;
use tidegate_tests::project::answering;
use tidegate_tests::{Project, Server};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[test]
fn a_new_project_is_built_into_either() {
    let project = Project::from_template("either", "router");
    let said = project.run(&["build", "--target", "component", "--out", "component.wasm"]).ends_with(0);
    assert!(said.err.contains("built component.wasm (either, a component)\n"), "{}", said.err);
    assert!(!said.err.contains("would not be served"), "{}", said.err);
    let built = "built module.wasm (either, a module)\n";
    project.run(&["build", "--out", "module.wasm"]).ends_with(0).complains(built);
    assert!(fs::read(project.path("component.wasm")).unwrap().starts_with(COMPONENT));
    assert!(!fs::read(project.path("module.wasm")).unwrap().starts_with(COMPONENT));

    let module = Server::builder().module(project.path("module.wasm")).start().get("x", "/");
    if let Some(oracle) = Oracle::start(&project.path("component.wasm"), &[]) {
        let response = oracle.client().get("x", "/").unwrap();
        assert_eq!((response.status(), response.text()), (module.status(), module.text()));
    }
    let response = Server::builder().module(project.path("component.wasm")).start().get("x", "/");
    assert_eq!((response.status(), response.text()), (module.status(), module.text()));
}

#[test]
fn the_tests_of_a_project_run_against_its_component() {
    let project = Project::from_template("tested", "hello");
    project.run(&["test", "--target", "component"]).ends_with(0);
}

#[test]
fn what_a_command_makes_is_not_for_the_flag_to_say() {
    let project = Project::copied("commanded", &answering("x"), "");
    for verb in ["build", "test", "dev", "check"] {
        let said = project.run(&[verb, "--target", "component"]).ends_with(2);
        said.complains("`--target` is for Rust crates").complains("help: see `");
    }
    project.run(&["build", "--target", "comp"]).ends_with(2).complains("component");
    project.edit("tidegate.toml", "[build]", "[build]\ntarget = \"component\"");
    let said = project.run(&["build"]).ends_with(2).complains("tidegate.toml:2:10: `target` is for crates");
    said.complains("its `command` says\nhelp: take out `target`, or `command`");
}

#[test]
fn the_manifest_says_what_a_crate_becomes() {
    let project = Project::from_template("chosen", "hello");
    let manifest = project.read("tidegate.toml");
    project.write("tidegate.toml", &format!("[build]\ntarget = \"component\"\n\n{manifest}"));
    project.run(&["build"]).ends_with(0).complains("built chosen.wasm (chosen, a component)\n");
    let said = project.run(&["check"]).ends_with(0);
    assert!(said.out.contains(": a component, "), "{}", said.out);
    project.run(&["test"]).ends_with(0);
    let said = project.run(&["check", "--target", "module"]).ends_with(0);
    assert!(said.out.contains(": a module, "), "the flag wins: {}", said.out);

    // With mounts, only one of the two is served.
    project.write("data/x.txt", "");
    project.write(
        "tidegate.toml",
        &manifest.replace("[[app]]", "[[app]]\nmounts = [{ host = \"data\", guest = \"/data\" }]"),
    );
    let said = project.run(&["check", "."]).ends_with(1);
    assert!(said.out.contains("build it with `--target component`, or take them out"), "{}", said.out);
    project.run(&["check", "--target", "component", "."]).ends_with(0);
}

#[test]
fn what_is_not_built_has_no_target() {
    let project = Project::empty("plain");
    project.put("x.wasm", &answering("x"));
    let app = "[[app]]\nname = \"x\"\nsource = \"x.wasm\"\nroutes = [\"/*\"]\n";
    project.write("tidegate.toml", app);
    project.write("other.toml", app);
    for subject in ["x.wasm", "other.toml", "tidegate.toml", "."] {
        project.run(&["check", subject]).ends_with(0);
        let said = project.run(&["check", subject, "--target", "component"]).ends_with(2);
        said.complains("nothing is built of `").complains("help: name the folder of a crate");
    }
}
