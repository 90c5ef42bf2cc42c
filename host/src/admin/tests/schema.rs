//! As much of JSON Schema as the description of the API uses, and a refusal of all that it does not.

use serde_json::Value;

const KNOWN: [&str; 15] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "$ref",
    "description",
    "default",
    "format",
];

/// Checks that a schema says nothing that [`check`] would pass over.
pub(super) fn check_schema(schema: &Value, at: &str) {
    let schema = schema.as_object().unwrap_or_else(|| panic!("{at}: no schema"));
    for (key, value) in schema {
        assert!(KNOWN.contains(&key.as_str()), "{at}: `{key}` is not checked");
        match key.as_str() {
            "properties" => {
                for (name, schema) in value.as_object().unwrap() {
                    check_schema(schema, &format!("{at}.{name}"));
                }
            }
            "items" => check_schema(value, &format!("{at}[]")),
            "anyOf" | "oneOf" => {
                value.as_array().unwrap().iter().for_each(|schema| check_schema(schema, at));
            }
            _ => {}
        }
    }
}

/// Says what of a value is not as its schema says. `root` is the document that references are into.
pub(super) fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(target) = schema.get("$ref") {
        let pointer =
            target.as_str().and_then(|target| target.strip_prefix('#')).ok_or("a reference elsewhere")?;
        let target = root.pointer(pointer).ok_or_else(|| format!("{at}: nothing at {pointer}"))?;
        return check(root, target, value, at);
    }
    if let Some(expected) = schema.get("type") {
        let fits = |name: &Value| name.as_str().is_some_and(|name| is(name, value));
        let fits = expected.as_array().map_or_else(|| fits(expected), |all| all.iter().any(fits));
        if !fits {
            return Err(format!("{at}: {value} is not of type {expected}"));
        }
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        return Err(format!("{at}: {value} is none of {allowed:?}"));
    }
    if schema.get("pattern").is_some_and(|pattern| pattern == "^[0-9a-f]{64}$") {
        let text = value.as_str().unwrap_or_default();
        if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("{at}: {value} is no hash"));
        }
    }
    if let Some(number) = value.as_i64() {
        let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
        if bound("minimum").is_some_and(|min| number < min)
            || bound("maximum").is_some_and(|max| number > max)
        {
            return Err(format!("{at}: {number} is out of bounds"));
        }
    }
    for (key, exactly) in [("anyOf", false), ("oneOf", true)] {
        let Some(choices) = schema.get(key).and_then(Value::as_array) else { continue };
        let fits = choices.iter().filter(|choice| check(root, choice, value, at).is_ok()).count();
        if fits == 0 || (exactly && fits > 1) {
            return Err(format!("{at}: {value} fits {fits} of {key}"));
        }
    }
    if let Some(items) = value.as_array() {
        let schema = schema.get("items").unwrap_or(&Value::Null);
        for (n, item) in items.iter().enumerate() {
            check(root, schema, item, &format!("{at}[{n}]"))?;
        }
    }
    if let Some(object) = value.as_object() {
        let named = |key: &str| schema.get("properties").and_then(|properties| properties.get(key));
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !object.contains_key(key.as_str().unwrap_or_default()) {
                return Err(format!("{at}: {key} is missing"));
            }
        }
        for (key, value) in object {
            match named(key) {
                Some(schema) => check(root, schema, value, &format!("{at}.{key}"))?,
                None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                    return Err(format!("{at}: `{key}` is not described"));
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[test]
fn it_finds_what_does_not_fit() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": { "type": "integer", "minimum": 1 },
            "b": { "type": ["string", "null"] },
            "c": { "type": "array", "items": { "enum": ["x"] } },
            "d": { "oneOf": [{ "type": "string" }, { "type": "null" }] },
        },
    });
    check_schema(&schema, "schema");
    let fits = |value: Value| check(&schema, &schema, &value, "value").is_ok();
    use serde_json::json;
    assert!(fits(json!({ "a": 1, "b": null, "c": ["x"], "d": "y" })));
    for wrong in [
        json!([]),
        json!({}),
        json!({ "a": 0 }),
        json!({ "a": "1" }),
        json!({ "a": 1, "e": 1 }),
        json!({ "a": 1, "b": 1 }),
        json!({ "a": 1, "c": ["y"] }),
        json!({ "a": 1, "d": 1 }),
    ] {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
}
