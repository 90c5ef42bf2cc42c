//! `tidegate audit`: who did what.

use serde_json::Value;

use super::Failure;
use super::args::AuditArgs;
use super::client::{Client, show};

pub(super) fn run(args: &AuditArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let records: Vec<Value> = client.get(&format!("/v1/audit?lines={}", args.lines))?;
    if client.json {
        return show::json(&records);
    }
    show::table(["WHEN", "BY", "ACTION", "APP", "VERSION", "OUTCOME"], records.iter().map(row).collect())
}

fn row(record: &Value) -> [String; 6] {
    let text = |key: &str| show::dash(record[key].as_str());
    let outcome = match (record["ok"].as_bool(), record["detail"].as_str()) {
        (Some(true), None) => "done".to_owned(),
        (Some(true), Some(detail)) => detail.to_owned(),
        (_, detail) => format!("refused: {}", detail.unwrap_or("-")),
    };
    [
        record["at_ms"].as_u64().map_or_else(|| text("at"), show::time),
        text("by"),
        text("action"),
        text("app"),
        show::dash(record["version"].as_u64()),
        outcome,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_row() {
        let record = serde_json::json!({
            "at_ms": 0, "by": "uid 0", "action": "deploy", "app": "shop", "version": 2, "ok": false, "detail": "no",
        });
        assert_eq!(row(&record).join("|"), "1970-01-01T00:00:00Z|uid 0|deploy|shop|2|refused: no");
    }
}
