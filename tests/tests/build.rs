//! `tidegate build` and `serve` with a `[build]` of a project's own.

use tidegate_tests::project::answering;
use tidegate_tests::{Project, Server, wat_guest};

#[test]
fn a_command_builds_what_the_manifest_serves() {
    let project = Project::copied("copied", &answering("built"), "");
    let before = project.run(&["serve", "."]).ends_with(2);
    before.complains("out.wasm`: No such file").complains("help: `tidegate build .` makes it");
    project.run(&["build"]).ends_with(0).complains("built out.wasm (copied, a module)");
    let server = Server::builder().module(project.path("")).start();
    assert_eq!(server.get("x", "/").text(), "built");
}

#[test]
fn the_module_goes_where_it_is_asked_for() {
    let project = Project::copied("moved", &answering("moved"), "");
    project.run(&["build", "--out", "elsewhere.wasm"]).ends_with(0).complains("built elsewhere.wasm");
    project.above(&["build", "moved", "--out", "above.wasm"]).ends_with(0);
    let server = Server::builder().module(project.path("../above.wasm")).start();
    assert_eq!(server.get("x", "/").text(), "moved");
    project.run(&["build", "--out", "no/such/folder.wasm"]).ends_with(1).complains("cannot be written");
}

#[test]
fn a_command_may_be_a_list_of_words() {
    let project = Project::copied("words", &answering("words"), "");
    project.edit("tidegate.toml", "\"sh build.sh\"", "[\"cp\", \"src/handler.wasm\", \"out.wasm\"]");
    project.run(&["build"]).ends_with(0);
    project.edit("tidegate.toml", "\"cp\"", "\"no-such-program-zz\"");
    project
        .run(&["build"])
        .ends_with(1)
        .complains("`no-such-program-zz src/handler.wasm out.wasm` cannot be started");
}

#[test]
fn failures_say_what_failed_and_how() {
    let project = Project::copied("fails", &answering("fails"), "");
    for (script, complaints) in [
        ("echo no luck >&2; exit 7", ["no luck\n", "`sh build.sh` failed: exit status: 7"]),
        ("no-such-compiler-zz x.c", ["no-such-compiler-zz", "help: that status says that a program"]),
        ("true", ["did not make `", "out.wasm`\nhelp: that is the file which `output`"]),
    ] {
        project.write("build.sh", script);
        let mut said = project.run(&["build"]).ends_with(1);
        for complaint in complaints {
            said = said.complains(complaint);
        }
    }
}

#[test]
fn a_wrong_section_is_told_line_by_line() {
    let project = Project::empty("wrong");
    project.write("tidegate.toml", "[build]\ncomand = \"make\"\noutput = 1\nwatch = []\n");
    let said = project.run(&["build"]).ends_with(2);
    let said = said.complains("tidegate.toml:2:1: unknown key `comand`\nhelp: did you mean `command`?");
    let said = said.complains("tidegate.toml:1:1: there is no `command` in `[build]`");
    said.complains("tidegate.toml:3:10: output: a string").complains("tidegate.toml:4:9: the list is empty");
}

#[test]
fn a_section_wins_over_a_crate() {
    let project = Project::copied("both", &answering("both"), "");
    project.write("Cargo.toml", "this is no manifest of cargo's");
    project.run(&["build"]).ends_with(0).complains("built out.wasm");
}

#[test]
fn a_crate_is_built_to_where_its_manifest_says() {
    let project = Project::from_template("placed", "hello");
    project.edit("tidegate.toml", "source = \"placed.wasm\"", "source = \"served.wasm\"");
    project.run(&["build"]).ends_with(0).complains("built served.wasm (placed, a module)");
    let server = Server::builder().module(project.path("")).start();
    assert_eq!(server.get("x", "/").text(), "Hello from /\n");
}

/// It is built, as asked; what to do about it is not left to the server to tell.
#[test]
fn a_module_that_would_not_be_served_is_told_of() {
    let project = Project::copied("commanded", &wat_guest("start_only"), "");
    let said = project.run(&["build"]).ends_with(0);
    said.complains("warning: it would not be served: it is a command").complains("help: ");
    let project = Project::copied("served", &answering("x"), "");
    let said = project.run(&["build"]).ends_with(0);
    assert!(!said.err.contains("warning"), "{}", said.err);
}
