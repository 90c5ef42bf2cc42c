//! `tidegate logs`: what an app's guests printed and how its requests failed, so far and, with `--follow`, as it comes.

use std::ops::ControlFlow;

use serde_json::Value;

use super::Failure;
use super::args::LogsArgs;
use super::client::{Client, FOR_EVER, WORK, part, refused, show};

pub(super) fn run(args: &LogsArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let path = format!("/v1/apps/{}/logs?lines={}&follow={}", part(&args.app)?, args.lines, args.follow);
    let patience = if args.follow { FOR_EVER } else { WORK };
    let mut stopped = None;
    client.lines("GET", &path, None, patience, &mut |line| {
        if let Some(why) = left(line) {
            stopped = Some(why);
            return ControlFlow::Break(());
        }
        // In JSON a line is a document by itself, so that each can be taken up as it comes.
        let text = if client.json { line.to_owned() } else { plain(line) };
        match show::print(&format!("{text}\n")) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                stopped = Some(failure);
                ControlFlow::Break(())
            }
        }
    })?;
    stopped.map_or(Ok(()), Err)
}

/// Why a log is followed no further, if that is what a line says. A record is none: it has the time it was made.
fn left(line: &str) -> Option<Failure> {
    let line: Value = serde_json::from_str(line).ok().filter(|line: &Value| line.get("at").is_none())?;
    let text = |key: &str| line["error"][key].as_str();
    Some(refused(text("kind")?, text("message")?, text("help")))
}

/// A record as people read it: when, how bad, of which request, and what. One that is something else stays as it is.
fn plain(line: &str) -> String {
    let record: Value = match serde_json::from_str(line) {
        Ok(record @ Value::Object(_)) => record,
        _ => return show::one_line(line),
    };
    let mut text = String::new();
    for key in ["at", "level", "request"] {
        if let Some(part) = record[key].as_str() {
            let width = if key == "level" { 5 } else { 0 };
            text.push_str(&format!("{:width$} ", show::one_line(part)));
        }
    }
    if let Some(words) = record["text"].as_str() {
        text.push_str(&show::one_line(words));
    }
    let known = ["at", "level", "request", "text", "version", "app"];
    for (key, value) in
        record.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str()))
    {
        text.push_str(&format!(" {}={}", show::one_line(key), show::one_line(&value.to_string())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_lines_and_steer_nothing() {
        let line =
            r#"{"at":"t","level":"info","request":"r-1","version":2,"text":"a\u001b[2J\nb","error":"x"}"#;
        assert_eq!(plain(line), "t info  r-1 a\\u{1b}[2J\\nb error=\"x\"");
        assert_eq!(plain("no JSON\u{7}"), "no JSON\\u{7}");
    }

    #[test]
    fn the_end_is_told_from_records() {
        let error = r#""error":{"kind":"unavailable","message":"it ends","help":"again"}"#;
        let told = left(&format!("{{{error}}}")).unwrap().to_string();
        assert!(told.contains("it ends") && told.contains("again"), "{told}");
        for record in [&format!("{{\"at\":\"t\",{error}}}"), r#"{"error":"x"}"#, "{}", "no JSON"] {
            assert!(left(record).is_none(), "{record}");
        }
    }
}
