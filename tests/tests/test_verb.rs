//! `tidegate test`: the same tests, against the real module in the real host.

use tidegate_tests::Project;
use tidegate_tests::project::answering;

/// A crate whose answers show where they come from.
fn told() -> Project {
    let project = Project::from_template("told", "hello");
    let source = r#"
use tidegate_sdk::{Request, Response, handler};

#[handler]
fn told(request: Request) -> Response {
    if request.path() == "/panic" {
        panic!("on purpose");
    }
    println!("asked for {}", request.path());
    let who = std::env::var("GREETING").unwrap_or_else(|_| "nobody".to_owned());
    Response::text(format!("{} {who}\n", if cfg!(target_arch = "wasm32") { "module" } else { "native" }))
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::test;

    use super::*;

    #[test]
    fn where_it_runs() {
        let answer = test::app(told).get("/");
        answer.assert_status(200);
        let expected = if std::env::var_os("TIDEGATE_TEST_SOCKET").is_some() { "module hello\n" } else { "native nobody\n" };
        assert_eq!(answer.text(), expected);
    }

    #[test]
    fn it_panics() {
        if std::env::var_os("TIDEGATE_TEST_SOCKET").is_some() {
            test::app(told).get("/panic").assert_status(500);
        }
    }

    #[test]
    fn it_fails_when_told_to() {
        assert!(std::env::var_os("FAIL").is_none(), "told to fail");
    }
}
"#;
    project.write("src/lib.rs", source);
    // Also routes that lead nowhere near: tests see the whole app.
    project.edit("tidegate.toml", "routes = [\"/*\"]", "routes = [\"elsewhere.example/x\"]");
    project.edit("tidegate.toml", "# env = { GREETING = \"hello\" }", "env = { GREETING = \"hello\" }");
    project
}

#[test]
fn tests_run_against_the_module() {
    let project = told();
    project.cargo(&["test"]).ends_with(0);
    let said = project.run(&["test"]).ends_with(0);
    assert!(said.out.contains("test result: ok. 3 passed"), "{}", said.out);
    // What the guest logs is inline, and so is why it crashed.
    let said = said.complains("asked for /").complains("on purpose").complains("src/lib.rs:7");
    assert!(!said.out.contains("listening on"), "{}", said.out);

    // Settings of the command line count, arguments are cargo's, and its status is ours.
    let said = project.run(&["test", ".", "--env", "GREETING=you", "--", "where_it"]).ends_with(101);
    assert!(said.out.contains("module you") && said.out.contains("2 filtered out"), "{}", said.out);
    let failed =
        project.command(&["test", "--", "--", "--test-threads=1"]).env("FAIL", "1").output().unwrap();
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(failed.status.code() == Some(101) && text.contains("told to fail"), "{text}");

    project.edit("src/lib.rs", "fn told(request", "fn told(reqest");
    let said = project.run(&["test"]).ends_with(1).complains("error: the crate does not build");
    assert!(!said.out.contains("running"), "{}", said.out);
}

#[test]
fn a_command_tests_what_is_no_crate() {
    let project = Project::copied("scripted", &answering("scripted"), "test = \"sh test.sh\"");
    project.write(
        "test.sh",
        "test -S \"$TIDEGATE_TEST_SOCKET\" && echo found && ls -ld \"$(dirname \"$TIDEGATE_TEST_SOCKET\")\"",
    );
    let said = project.run(&["test"]).ends_with(0);
    assert!(said.out.starts_with("found\ndrwx------ "), "only its user looks into the folder: {}", said.out);
    let folder = said.out.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert!(!std::path::Path::new(&folder).exists(), "{folder} was left behind");

    project.write("test.sh", "exit 9");
    project.run(&["test"]).ends_with(9);
    project.run(&["test", "--", "x"]).ends_with(2).complains("for `cargo test`");
}

#[test]
fn where_there_is_nothing_to_run_that_is_said() {
    let project = Project::copied("untested", &answering("untested"), "");
    project
        .run(&["test"])
        .ends_with(2)
        .complains("there is no test to run")
        .complains("test = \"sh test.sh\"");
    project.run(&["test", "--limit", "cpuu=1s"]).ends_with(2).complains("did you mean `cpu`?");
    let empty = Project::empty("nothing");
    empty.run(&["test"]).ends_with(2).complains("there is no Cargo.toml");
}
