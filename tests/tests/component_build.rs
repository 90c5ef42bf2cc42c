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
    assert!(!said.err.contains("would not be served"), "{}", said.err);
    project.run(&["build", "--out", "module.wasm"]).ends_with(0);
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
    for verb in ["build", "test", "dev"] {
        let said = project.run(&[verb, "--target", "component"]).ends_with(2);
        said.complains("`--target` is for Rust crates").complains("help: see `");
    }
    project.run(&["build", "--target", "comp"]).ends_with(2).complains("component");
}
