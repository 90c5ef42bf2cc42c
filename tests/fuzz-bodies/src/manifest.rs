//! Manifests: whatever is in one, what is wrong has a place in it, and what is taken can be served; a line in front moves
//! the places and changes nothing.

use std::path::Path;

use tidegate::config::manifest::parse;
use tidegate::config::{Problem, Settings};
use tidegate_proto::router::RouterBuilder;

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = 4096;
const FILE: &str = "m.toml";

/// The line of a problem; the file and the line and column in it are all of its place.
fn line(problem: &Problem) -> Option<usize> {
    let place = problem.place.as_deref()?.strip_prefix(FILE)?.strip_prefix(':')?;
    let (line, column) = place.split_once(':')?;
    let column: usize = column.parse().ok()?;
    line.parse().ok().filter(|line: &usize| *line > 0 && column > 0)
}

fn read(text: &str) -> Result<Settings, Vec<Problem>> {
    // Its own files are there to be named.
    parse(text, FILE, Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|error| error.problems)
}

/// The text has more lines than a problem may name.
fn check_problems(text: &str, problems: &[Problem]) {
    assert!(!problems.is_empty(), "refused without a word");
    let lines = text.split('\n').count();
    for problem in problems {
        let shown = problem.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert!(problem.place.is_none() || line(problem).is_some_and(|line| line <= lines), "{problem:?}");
    }
}

fn check_settings(settings: &Settings) {
    let mut builder = RouterBuilder::new();
    for app in &settings.apps {
        assert!(!app.name.is_empty());
        for route in &app.routes {
            let taken = builder.insert(route, ());
            assert!(taken.is_ok(), "`{route}` was taken, and can not be served: {taken:?}");
        }
    }
}

/// Whether it is the same problem in a text with a line more in front. What is wrong with the text as a whole stays at its
/// beginning; a message that tells another line tells another one then.
fn is_moved(problem: &Problem, other: &Problem) -> bool {
    let message = |problem: &Problem| problem.message.split(" in line ").next().map(str::to_owned);
    let (before, after) = (line(problem), line(other));
    let stays = before == Some(1) && problem.place == other.place;
    message(problem) == message(other) && (stays || before.map(|line| line + 1) == after)
}

/// The whole input is the text of a manifest.
pub fn manifest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(Choices::new(input).rest(INPUT_BYTES_MAX)) else { return };
    // What starts with a byte order mark does not have it anywhere else.
    if text.starts_with('\u{feff}') {
        let _ = read(text);
        return;
    }
    let (result, moved) = (read(text), read(&format!("# a line\n{text}")));
    match (&result, &moved) {
        (Ok(settings), Ok(again)) => {
            assert_eq!(settings, again, "a comment changes it");
            check_settings(settings);
        }
        (Err(problems), Err(again)) => {
            check_problems(text, problems);
            assert_eq!(problems.len(), again.len(), "{problems:?}, then {again:?}");
            for problem in problems {
                let same = again.iter().any(|other| is_moved(problem, other));
                assert!(same, "{problem:?} is not among {again:?}");
            }
        }
        _ => panic!("a comment makes a difference: {result:?}, then {moved:?}"),
    }
}
