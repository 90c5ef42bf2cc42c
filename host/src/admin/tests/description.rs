//! The description of the API and the API, held to each other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::schema::{check, check_schema};
use super::{OPERATOR, Stage, TENANT};
use crate::admin::handlers::OPENAPI;
use crate::admin::problem::tests::KINDS;
use crate::admin::problem::word;
use crate::admin::routes::{ROUTES, Who};

const METHODS: [&str; 6] = ["get", "head", "put", "post", "patch", "delete"];

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Method and path of all that is described, with the operation.
fn operations(description: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if METHODS.contains(&method.as_str()) {
                all.push((method.to_uppercase(), path.clone(), operation));
            } else {
                assert_eq!(method, "parameters", "{path}");
            }
        }
    }
    all
}

#[test]
fn what_is_there_is_described_and_what_is_described_is_there() {
    let description = description();
    let described: BTreeSet<_> =
        operations(&description).into_iter().map(|(method, path, _)| (method, path)).collect();
    let served: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.pattern.to_owned())).collect();
    assert_eq!(described, served);
    for route in &ROUTES {
        let operation = &description["paths"][route.pattern][route.method.to_lowercase()];
        let text = operation["description"].as_str().unwrap_or_default();
        assert_eq!(text.contains("operator alone"), route.who == Who::Operator, "{}", route.pattern);
        assert_eq!(operation.get("security").is_some(), route.who == Who::Anyone, "{}", route.pattern);
    }
    let ids: BTreeSet<_> = operations(&description)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].to_string())
        .collect();
    assert_eq!(ids.len(), ROUTES.len(), "ids are unique");
}

#[test]
fn schemas_say_nothing_that_is_not_checked_and_name_every_kind() {
    let description = description();
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        check_schema(schema, name);
    }
    let kinds =
        description["components"]["schemas"]["Problem"]["properties"]["kind"]["enum"].as_array().unwrap();
    for kind in KINDS {
        assert!(kinds.contains(&word(kind).into()), "{kind:?}");
    }
}

/// The schema of a body of this type among the operation's answers with this status.
fn schema_of<'d>(operation: &'d Value, status: u16, media_type: &str) -> &'d Value {
    let media_type = media_type.split(';').next().unwrap_or_default();
    let found = &operation["responses"][status.to_string()]["content"][media_type]["schema"];
    assert!(found.is_object(), "no schema for {status} {media_type} of {}", operation["operationId"]);
    found
}

#[test]
fn every_answer_is_as_described() {
    let (description, stage) = (description(), Stage::new());
    let module = "0".repeat(64);
    let rule = json!({ "percent": 5, "header": "x-canary: 1", "cookie": null, "failure_percent": 5, "requests_min": 3 });
    let deploy = json!({ "module": module, "settings": { "weight": 2 }, "note": "n", "canary": rule, "inactive": false });
    let bodies = [
        ("deploy", deploy),
        ("rollback", json!({ "version": 1 })),
        ("putCanary", json!({ "version": 1, "rule": rule })),
        ("patchLimits", json!({ "memory": "1MiB", "cpu": null })),
    ];
    for (method, pattern, operation) in operations(&description) {
        let id = operation["operationId"].as_str().unwrap();
        let path = pattern.replace("{app}", "shop").replace("{id}", "r-1").replace("{hash}", &module);
        let body = bodies.iter().find(|(known, _)| *known == id).map(|(_, body)| body);
        let described = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(described.is_object(), body.is_some(), "{id}: a body is sent where one is described");
        if let Some(body) = body {
            check(&description, described, body, id).unwrap();
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let reply = stage.ask(&method, &path, &text);
        assert!(matches!(reply.status, 200 | 201 | 204), "{id}: {reply:?}");
        assert!(operation["responses"].get(reply.status.to_string()).is_some(), "{id}: {}", reply.status);
        assert_eq!(reply.field("cache-control"), Some("no-store"), "{id}");
        let Some(media_type) = reply.field("content-type").filter(|_| method != "HEAD") else {
            assert!(
                reply.body.is_empty()
                    && operation["responses"][reply.status.to_string()].get("content").is_none()
            );
            continue;
        };
        let schema = schema_of(operation, reply.status, media_type);
        let values = match media_type {
            "application/json" => vec![reply.json()],
            "application/x-ndjson" => reply.lines(),
            _ => vec![Value::String(String::from_utf8(reply.body.clone()).unwrap())],
        };
        assert!(!values.is_empty(), "{id}");
        for value in values {
            check(&description, schema, &value, id).unwrap();
        }
    }
}

#[test]
fn every_problem_is_as_described() {
    let (description, stage) = (description(), Stage::new());
    let schema = &description["components"]["schemas"]["Problem"];
    for (method, pattern, operation) in operations(&description) {
        assert_eq!(operation["responses"]["default"]["$ref"], "#/components/responses/Problem");
        let path = pattern.replace("{app}", "missing").replace("{id}", "r-1").replace("{hash}", "x");
        let who = ROUTES.iter().find(|route| route.method == method && route.pattern == pattern).unwrap().who;
        if who == Who::Operator {
            let reply = stage.ask_as(TENANT, &method, &path, "");
            assert_eq!(reply.kind(), "forbidden", "{pattern}");
            check(&description, schema, &reply.json(), &pattern).unwrap();
            assert_eq!(stage.ask_as(OPERATOR, &method, &path, "").status, 200, "{pattern}");
        }
        if pattern.contains("{app}") {
            let text = match operation["operationId"].as_str().unwrap() {
                "deploy" => format!("{{\"module\":\"{}\"}}", "0".repeat(64)),
                "putCanary" => "{\"version\":1,\"rule\":{}}".to_owned(),
                _ => String::new(),
            };
            let reply = stage.ask(&method, &path, &text);
            assert_eq!((reply.status, reply.kind()), (404, "not-found".to_owned()), "{method} {pattern}");
            check(&description, schema, &reply.json(), &pattern).unwrap();
            assert!(operation["responses"].get("404").is_some(), "{method} {pattern}");
        }
    }
}
