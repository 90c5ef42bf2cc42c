//! `tidegate limits`: what an app may use, and changing that while it serves.

use serde_json::{Map, Value};

use super::Failure;
use super::args::LimitsArgs;
use super::client::{Client, part, show};
use super::deploy::outcome;
use crate::hosting::types::Deployed;

pub(super) fn run(args: &LimitsArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let path = format!("/v1/apps/{}/limits", part(&args.app)?);
    if args.changes.is_empty() {
        let limits: Map<String, Value> = client.get(&path)?;
        if client.json {
            return show::json(&limits);
        }
        let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return show::table(
            ["LIMIT", "VALUE"],
            limits.iter().map(|(key, of)| [key.clone(), value(of)]).collect(),
        );
    }
    let changes = changes(&args.changes)?;
    let deployed: Deployed = client.change("PATCH", &path, Some(&Value::Object(changes)))?;
    if client.json { show::json(&deployed) } else { show::print(&format!("{}\n", outcome(&deployed, false))) }
}

/// `KEY=VALUE`, a number where it is one. `KEY=default` takes a limit back.
fn changes(texts: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut changes = Map::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            let message = format!("`{}` is not `KEY=VALUE`", text.escape_debug());
            return Err(Failure::usage(
                message,
                Some("as in `memory=32MiB`, or `memory=default`".to_owned()),
            ));
        };
        let value = match value.trim() {
            "" | "default" => Value::Null,
            number if number.parse::<i64>().is_ok() => number.parse::<i64>().map_or(Value::Null, Value::from),
            text => Value::from(text),
        };
        changes.insert(key.trim().replace('-', "_"), value);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        let of = |texts: &[&str]| changes(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let read = of(&["memory=32MiB", "log-rate=1KiB/s", "queue=5", "cpu=default", "wall="]).unwrap();
        assert_eq!(
            Value::Object(read),
            serde_json::json!({ "memory": "32MiB", "log_rate": "1KiB/s", "queue": 5, "cpu": null, "wall": null })
        );
        for bad in ["memory", "=1", ""] {
            assert_eq!(of(&[bad]).unwrap_err().status(), 2);
        }
    }
}
