//! `tidegate limits`: what an app may use, and changing that while it serves.
//!
//! What a server does not say of an app is as it is for everybody: shown, too, as it is what holds.

use serde_json::{Map, Value};

use super::Failure;
use super::args::LimitsArgs;
use super::client::{Client, part, show};
use super::deploy::outcome;
use crate::config::{APP_KEYS, AppLimits, Given};
use crate::hosting::types::Deployed;

pub(super) fn run(args: &LimitsArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let path = format!("/v1/apps/{}/limits", part(&args.app)?);
    if args.changes.is_empty() {
        let limits: Map<String, Value> = client.get(&path)?;
        if client.json {
            return show::json(&limits);
        }
        return show::table(["LIMIT", "VALUE", "FROM"], rows(&limits));
    }
    let changes = changes(&args.changes)?;
    let deployed: Deployed = client.change("PATCH", &path, Some(&Value::Object(changes)))?;
    if client.json { show::json(&deployed) } else { show::print(&format!("{}\n", outcome(&deployed, false))) }
}

/// All that holds: what the app has, then what it leaves as it is.
fn rows(limits: &Map<String, Value>) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let own = limits.iter().map(|(key, value)| [key.clone(), text(value), "app".to_owned()]);
    let left = APP_KEYS.iter().map(|key| key.name).filter(|key| !limits.contains_key(*key));
    own.chain(left.map(|key| [key.to_owned(), default_of(key), "default".to_owned()])).collect()
}

/// A limit that nobody has set, as one would write it.
fn default_of(key: &str) -> String {
    let limits = AppLimits::default();
    let unlimited = || "unlimited".to_owned();
    let number = |value: Option<u32>, unit: &str| value.map_or_else(unlimited, |n| format!("{n}{unit}"));
    match key {
        "memory" => Given::size_text(limits.memory_bytes),
        "cpu" => format!("{}s", limits.cpu.as_secs()),
        "wall" => format!("{}s", limits.wall.as_secs()),
        "concurrency" => limits.concurrency.to_string(),
        "queue" => limits.queue.to_string(),
        "body" => limits.body_bytes.map_or_else(unlimited, Given::size_text),
        "log_rate" => format!("{}/s", Given::size_text(limits.log_bytes_per_s)),
        "table_elements" => limits.table_elements.to_string(),
        "sockets" => limits.sockets_max.to_string(),
        "socket_bytes" if limits.socket_bytes_max == u64::MAX => unlimited(),
        "socket_bytes" => Given::size_text(limits.socket_bytes_max),
        "connects" => format!("{}/s", limits.connects_per_s),
        "requests" => number(limits.requests_per_s, "/s"),
        "connections" => number(limits.connections_max, ""),
        "response" => limits.response_bytes.map_or_else(unlimited, Given::size_text),
        "log_lines" => number(limits.log_lines_per_s, "/s"),
        "cpu_share" => number(limits.cpu_percent, "%"),
        _ => "-".to_owned(),
    }
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
    use std::time::Duration;

    use super::*;
    use crate::config::set_from_flag;

    #[test]
    fn all_that_holds_is_shown() {
        let set = serde_json::json!({ "memory": "32MiB", "queue": 5 });
        let rows = rows(set.as_object().unwrap());
        assert_eq!(rows.len(), APP_KEYS.len());
        assert_eq!(rows[0], ["memory", "32MiB", "app"]);
        assert!(rows.contains(&["wall".to_owned(), "30s".to_owned(), "default".to_owned()]), "{rows:?}");
        // Each default is written as it would be set: all of them together make what nobody has changed.
        let mut limits = AppLimits {
            memory_bytes: 1,
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            concurrency: 1,
            queue: 1,
            body_bytes: Some(1),
            log_bytes_per_s: 1,
            table_elements: 1,
            sockets_max: 1,
            socket_bytes_max: 1,
            connects_per_s: 1,
            requests_per_s: Some(1),
            connections_max: Some(1),
            response_bytes: Some(1),
            log_lines_per_s: Some(1),
            cpu_percent: Some(1),
            ..AppLimits::default()
        };
        for key in APP_KEYS {
            let text = format!("{}={}", key.name, default_of(key.name));
            set_from_flag(&APP_KEYS, &mut limits, &text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        }
        assert_eq!(limits, AppLimits::default());
    }

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
