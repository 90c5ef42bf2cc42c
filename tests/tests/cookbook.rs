//! The tests that guests have of their own: natively, as a reader of the cookbook would run them first, and against the
//! real module.

use std::fs;

use tidegate_tests::artifacts::{guests_cargo, tidegate, workspace};

/// The guests that have tests.
fn tested() -> Vec<String> {
    let guests = fs::read_dir(workspace().join("guests")).unwrap().flatten();
    let has_tests = |name: &String| {
        let source = workspace().join("guests").join(name).join("src/lib.rs");
        fs::read_to_string(source).is_ok_and(|text| text.contains("#[cfg(test)]"))
    };
    let mut names: Vec<_> =
        guests.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(has_tests).collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    names
}

#[test]
fn guests_pass_their_own_tests() {
    let mut cargo = guests_cargo();
    cargo.args(["test", "--locked"]).args(tested().iter().flat_map(|name| ["-p", name]));
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.matches("test result: ok.").count() >= tested().len(), "{said}");
}

#[test]
fn modules_of_guests_pass_the_same_tests() {
    for name in tested() {
        let folder = workspace().join("guests").join(&name);
        // Built alone a guest gets an SDK with the features that it names itself: not to be mixed with the others'.
        let target = workspace().join("guests/target/alone");
        let output = tidegate().arg("test").arg(&folder).env("CARGO_TARGET_DIR", target).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("test result: ok."), "{name}: {said}");
    }
}
