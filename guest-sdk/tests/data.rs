//! JSON, forms, queries and configuration, against the host in memory.
#![cfg(all(feature = "form", feature = "json"))]

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{Error, IntoResponse, Json, Request, Response, Result, StatusCode, config, log::Level};

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    item: String,
    count: u8,
}

fn order(mut request: Request) -> Result<String> {
    let order: Order = request.json()?;
    Ok(format!("{}x{}", order.count, order.item))
}

fn post(content_type: Option<&str>, body: &str) -> Exchange {
    let exchange = Exchange::post("/").body(body);
    match content_type {
        Some(value) => exchange.header("content-type", value),
        None => exchange,
    }
}

/// The answer is a problem with this status whose text has all of `parts`.
#[track_caller]
fn refused(answer: &Answer, status: u16, parts: &[&str]) {
    assert_eq!(answer.status.map(|s| s.as_u16()), Some(status), "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    for part in parts {
        assert!(answer.text().contains(part), "{part:?} is not in {}", answer.text());
    }
}

#[test]
fn json_is_taken_under_each_of_its_types() {
    let body = r#"{"item":"tea","count":2}"#;
    let types = [
        None,
        Some("application/json"),
        Some("Application/JSON ; charset=utf-8"),
        Some("application/problem+json"),
        Some("application/vnd.example.v1+json"),
    ];
    for content_type in types {
        let answer = post(content_type, body).run(order);
        assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), "2xtea"), "{content_type:?}");
    }
}

#[test]
fn other_types_are_415_and_the_body_is_not_read() {
    for content_type in
        ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", "", "json", ";"]
    {
        let answer = post(Some(content_type), "{}").run(order);
        refused(&answer, 415, &["application/json is expected", content_type.trim_matches(';')]);
        assert!(!answer.calls.contains(&"read"), "{content_type:?}: {:?}", answer.calls);
    }
    for content_type in ["", ";"] {
        let answer = post(Some(content_type), "{}").run(order);
        refused(&answer, 415, &["the body is of an empty type; application/json is expected"]);
    }
    let unreadable = Exchange::post("/").body("{}").header("content-type", b"application/json\xff");
    refused(&unreadable.run(order), 415, &["application/json is expected"]);
}

#[test]
fn bad_json_says_where_and_what() {
    let cases = [
        ("", &["the body is empty"][..]),
        ("{", &["line 1, column 1", "EOF"]),
        ("{\n  \"item\": \"tea\",\n  \"count\": 2,\n}", &["line 4, column 1", "trailing comma"]),
        (r#"{"item":"tea","count":256}"#, &["line 1, column 25", "256", "u8"]),
        (r#"{"item":"tea"}"#, &["missing field `count`"]),
        (r#"{"item":1,"count":1}"#, &["line 1, column 9", "expected a string"]),
        (r#"{"item":"a","count":1} {}"#, &["trailing characters"]),
        ("\u{feff}{}", &["line 1, column 1"]),
    ];
    for (body, parts) in cases {
        refused(&post(None, body).run(order), 400, parts);
    }
    let not_text = Exchange::post("/").body(b"{\"item\":\"\xff\",\"count\":1}".as_slice());
    refused(&not_text.run(order), 400, &["line 1, column 10", "unicode"]);
}

#[test]
fn nesting_without_end_is_refused_before_the_stack_is_full() {
    let deep = "[".repeat(100_000);
    let answer =
        post(None, &deep).run(|mut request: Request| request.json::<serde_json::Value>().map(|_| "read"));
    refused(&answer, 400, &["recursion limit"]);
}

#[test]
fn an_error_repeats_no_more_than_a_little_of_what_was_sent() {
    let long = "\u{e9}".repeat(100_000);
    let body = format!(r#"{{"item":"a","count":"{long}"}}"#);
    let answer = post(None, &body).run(order);
    refused(&answer, 400, &["invalid type: string", "...", "line 1, column"]);
    assert!(answer.body.len() < 500, "{}", answer.body.len());

    let answer = post(Some(&"x".repeat(5_000)), "{}").run(order);
    assert!(answer.status == Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) && answer.body.len() < 500);

    let form = format!("count=1&{long}=1&item=a");
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[allow(dead_code)]
        count: u8,
    }
    let answer = post(Some(FORM), &form)
        .run(|mut request: Request| request.form::<Strict>().map(|strict| format!("{strict:?}")));
    refused(&answer, 400, &["unknown field"]);
    assert!(answer.body.len() < 700, "{}", answer.body.len());
}

#[test]
fn json_has_a_limit_of_its_own() {
    let list = |mut request: Request| request.json_limited::<Vec<u8>>(9).map(|list| list.len().to_string());
    assert_eq!(post(None, "[1,2,3,4]").run(list).text(), "4");
    refused(&post(None, "[1,2,3,4,5]").run(list), 413, &["at most 9 bytes"]);
    refused(&Exchange::post("/").chunk("[1,2,").chunk("3,4,5]").run(list), 413, &["at most 9 bytes"]);
}

#[test]
fn async_handlers_read_the_same() {
    let json = async |mut request: Request| request.json_async::<Order>().await.map(|order| order.item);
    let body = r#"{"item":"tea","count":2}"#;
    assert_eq!(Exchange::post("/").chunk(&body[..9]).chunk(&body[9..]).run(json).text(), "tea");
    refused(&post(None, "{").run(json), 400, &["line 1, column 1"]);
    refused(&post(Some("text/plain"), body).run(json), 415, &["application/json is expected"]);

    let form = async |mut request: Request| request.form_async::<SignUp>().await.map(|form| form.name);
    let exchange = || Exchange::post("/").header("content-type", FORM);
    assert_eq!(exchange().chunk("name=").chunk("Ann").run(form).text(), "Ann");
    refused(&exchange().chunk("age=1").run(form), 400, &["missing field `name`"]);
    refused(&post(None, "name=a").run(form), 415, &[FORM]);
}

#[test]
fn values_become_json() {
    let order = || Order { item: "\"tea\"\n".into(), count: 2 };
    let answers = [
        Exchange::get("/").run(move |_: Request| Json(order())),
        Exchange::get("/").run(move |_: Request| Response::json(&order())),
        Exchange::get("/").run(move |_: Request| Ok::<_, Error>(Json(order()))),
    ];
    for answer in answers {
        assert_eq!(answer.status, Some(StatusCode::OK));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.text(), r#"{"item":"\"tea\"\n","count":2}"#);
    }
    let created = Exchange::get("/").run(|_: Request| (StatusCode::CREATED, Json([1, 2])));
    assert_eq!((created.status, created.text()), (Some(StatusCode::CREATED), "[1,2]"));
}

#[test]
fn a_value_that_is_no_json_is_a_500_and_the_log_says_why() {
    let answer = Exchange::get("/").run(|_: Request| Json(BTreeMap::from([((1, 2), 3)])));
    refused(&answer, 500, &[]);
    assert!(!answer.text().contains("key"), "{}", answer.text());
    let (level, text) = &answer.logs[0];
    assert!(*level == Level::Error && text.contains("key must be a string"), "{text}");
}

const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Debug, Default, Deserialize, PartialEq)]
struct SignUp {
    name: String,
    age: Option<u8>,
    #[serde(default)]
    topic: Vec<String>,
    #[serde(default)]
    news: bool,
}

fn sign_up(mut request: Request) -> Result<String> {
    request.form::<SignUp>().map(|form| format!("{form:?}"))
}

fn search(request: Request) -> Result<String> {
    request.query_as::<SignUp>().map(|form| format!("{form:?}"))
}

#[test]
fn forms_and_queries_become_types() {
    let name = |name: &str| SignUp { name: name.to_owned(), ..SignUp::default() };
    let topics = |of: &[&str]| of.iter().map(|&t| t.to_owned()).collect();
    let cases = [
        ("name=Ann", name("Ann")),
        ("name=Ann+Lee%21&age=7", SignUp { age: Some(7), ..name("Ann Lee!") }),
        ("name=", name("")),
        ("name", name("")),
        ("age=&name=a", name("a")),
        ("topic=b&name=a&topic=a&topic=", SignUp { topic: topics(&["b", "a", ""]), ..name("a") }),
        ("topic=only&name=a", SignUp { topic: topics(&["only"]), ..name("a") }),
        ("name=a&news=on&other=1&other=2", SignUp { news: true, ..name("a") }),
        ("&&name=a&", name("a")),
        ("name=%C3%A9%ff", name("\u{e9}\u{fffd}")),
    ];
    for (text, wanted) in cases {
        let form = post(Some("application/x-www-form-urlencoded; charset=UTF-8"), text).run(sign_up);
        assert_eq!((form.status, form.text()), (Some(StatusCode::OK), &*format!("{wanted:?}")), "{text}");
        let query = Exchange::get(&format!("/a?{text}")).run(search);
        assert_eq!((query.status, query.text()), (Some(StatusCode::OK), &*format!("{wanted:?}")), "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_form_is_named() {
    let cases = [
        ("", "missing field `name`", ""),
        ("age=1", "missing field `name`", ""),
        ("name=a&age=old", "`age`", "invalid digit"),
        ("topic=a&topic=b&name=c&age=300", "`age`", "too large"),
        ("name=a&news=perhaps", "`news`", "perhaps"),
        ("age=1&name=a&name=b", "`name`, given 2 times", ""),
        ("x=1&x=2&%61ge=1&age=2&name=", "`age`, given 2 times", ""),
    ];
    for (text, named, why) in cases {
        refused(&post(Some(FORM), text).run(sign_up), 400, &["the form", named, why]);
        refused(&Exchange::get(&format!("/?{text}")).run(search), 400, &["the query", named, why]);
    }
    // A field that was fine is not blamed for one that is missing.
    refused(&post(Some(FORM), "age=1").run(sign_up), 400, &["\"the form: missing field `name`\""]);
    refused(&Exchange::get("/").run(search), 400, &["missing field `name`"]);
    refused(&Exchange::get("/?name=a&age=x").run(search), 400, &["parameter `age`"]);
    refused(&post(Some(FORM), "name=a&age=x").run(sign_up), 400, &["field `age`"]);
}

#[test]
fn the_field_is_named_behind_wrappers_too() {
    #[derive(Debug, Deserialize)]
    struct Wrapped(#[allow(dead_code)] SignUp);
    let wrapped = |request: Request| request.query_as::<Wrapped>().map(|form| format!("{form:?}"));
    assert_eq!(Exchange::get("/?name=a").run(wrapped).status, Some(StatusCode::OK));
    refused(&Exchange::get("/?name=a&age=x").run(wrapped), 400, &["`age`"]);

    let map = |request: Request| request.query_as::<HashMap<String, u8>>().map(|map| format!("{map:?}"));
    assert_eq!(Exchange::get("/?a=1").run(map).text(), r#"{"a": 1}"#);
    refused(&Exchange::get("/?a=1&b=2&c=z").run(map), 400, &["`c`"]);

    let pairs =
        |request: Request| request.query_as::<Vec<(String, String)>>().map(|list| format!("{list:?}"));
    assert_eq!(Exchange::get("/?b=1&a=2&b=3").run(pairs).text(), r#"[("b", "1"), ("a", "2"), ("b", "3")]"#);
    let nothing = |request: Request| request.query_as::<()>().map(|()| "nothing");
    assert_eq!(Exchange::get("/").run(nothing).text(), "nothing");
}

#[test]
fn only_a_form_is_a_form() {
    for content_type in ["application/json", "multipart/form-data; boundary=a", "text/plain", ""] {
        refused(&post(Some(content_type), "name=a").run(sign_up), 415, &[FORM]);
    }
    refused(&post(None, "name=a").run(sign_up), 415, &["of no given type", FORM]);
    let not_text = Exchange::post("/").header("content-type", FORM).body(b"name=\xff".as_slice());
    refused(&not_text.run(sign_up), 400, &["not valid UTF-8"]);
    let limited = |mut request: Request| request.form_limited::<SignUp>(5).map(|form| form.name);
    refused(&post(Some(FORM), "name=ab").run(limited), 413, &["at most 5 bytes"]);
}

fn pairs(request: Request) -> String {
    format!("{:?}", request.query_pairs().collect::<Vec<_>>())
}

#[test]
fn a_query_is_split_as_browsers_do() {
    let cases = [
        ("/", "[]"),
        ("/?", "[]"),
        ("/?&&", "[]"),
        ("/?a", r#"[("a", "")]"#),
        ("/?=", r#"[("", "")]"#),
        ("/?=b&a=b=c", r#"[("", "b"), ("a", "b=c")]"#),
        ("/?a=1&b=2&a=3", r#"[("a", "1"), ("b", "2"), ("a", "3")]"#),
        ("/?a+b=c%20d%2Be", r#"[("a b", "c d+e")]"#),
        ("/?a=%zz%4", r#"[("a", "%zz%4")]"#),
        ("/?a=%E2%82%AC%ff", "[(\"a\", \"\u{20ac}\u{fffd}\")]"),
        ("/?a=%26%3D&b?=/", r#"[("a", "&="), ("b?", "/")]"#),
        ("http://x.example/a?a=1", r#"[("a", "1")]"#),
    ];
    for (target, wanted) in cases {
        assert_eq!(Exchange::get(target).run(pairs).text(), wanted, "{target}");
    }
}

#[test]
fn the_first_of_a_name_is_the_parameter() {
    let param = |request: Request| format!("{:?}", request.query_param("a b"));
    for (target, wanted) in
        [("/?a+b=1&a%20b=2", "Some(\"1\")"), ("/?c=1", "None"), ("/", "None"), ("/?c=1&a+b", "Some(\"\")")]
    {
        assert_eq!(Exchange::get(target).run(param).text(), wanted, "{target}");
    }
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pairs_of_a_query_round_trip(wanted in prop::collection::vec((".{0,8}", ".{0,8}"), 0..6)) {
        let query: Vec<_> = wanted.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        // Plus signs are spaces as well.
        let query = query.join("&").replace("%20", "+");
        let answer = Exchange::get(&format!("/?{query}")).run(pairs);
        prop_assert_eq!(answer.text(), format!("{wanted:?}"));
    }

    #[test]
    fn any_query_reads_the_same_as_pairs_and_as_a_list(query in "[a-c=&+%0-9A-F\u{e9}]{0,40}") {
        let list = |request: Request| {
            request.query_as::<Vec<(String, String)>>().map(|list| format!("{list:?}"))
        };
        let target = format!("/?{query}");
        let (as_pairs, as_list) = (Exchange::get(&target).run(pairs), Exchange::get(&target).run(list));
        prop_assert_eq!(as_pairs.text(), as_list.text());
    }

    #[test]
    fn any_bytes_are_json_or_a_400(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let read = |mut request: Request| request.json::<serde_json::Value>().map(|value| Json(value).into_response());
        let status = Exchange::post("/").body(body).run(read).status.unwrap().as_u16();
        prop_assert!(status == 200 || status == 400, "{status}");
    }
}

#[test]
fn variables_are_read_and_parsed() {
    let _set = [config::for_test("D_NAME", "tide"), config::for_test("D_PORT", "8080")];
    assert_eq!(config::var("D_NAME").unwrap(), "tide");
    assert_eq!(config::parse::<u16>("D_PORT").unwrap(), 8080);
    assert_eq!(config::parse_or("D_PORT", 1_u16).unwrap(), 8080);
    assert_eq!(config::parse_or("D_NONE", 1_u16).unwrap(), 1);
    // Cargo sets this one: the real environment is there as well.
    assert_eq!(config::var("CARGO_PKG_NAME").unwrap(), "tidegate-sdk");
}

#[test]
fn a_variable_for_a_test_ends_with_it_and_the_last_one_counts() {
    let first = config::for_test("D_TWICE", "1");
    let second = config::for_test("D_TWICE", "2");
    assert_eq!(config::var("D_TWICE").unwrap(), "2");
    drop(second);
    assert_eq!(config::var("D_TWICE").unwrap(), "1");
    drop(first);
    assert!(config::var("D_TWICE").is_err());
}

#[test]
fn what_is_missing_or_wrong_is_told_to_the_operator_only() {
    let _set = config::for_test("D_COUNT", "s3cret");
    type Handler = fn(Request) -> Result<String>;
    let cases: [(Handler, &[&str]); 3] = [
        (
            |_| config::var("D_GREETING"),
            &["D_GREETING is not set", "env = { D_GREETING", "--env D_GREETING="],
        ),
        (|_| config::parse::<u8>("D_COUNT").map(|n| n.to_string()), &["D_COUNT", "u8", "invalid digit"]),
        (|_| config::parse_or("D_COUNT", 7_u8).map(|n| n.to_string()), &["D_COUNT", "u8", "invalid digit"]),
    ];
    for (handler, parts) in cases {
        let answer = Exchange::get("/").run(handler);
        refused(&answer, 500, &[]);
        assert!(!answer.text().contains("D_"), "{}", answer.text());
        let (level, text) = &answer.logs[0];
        assert_eq!(*level, Level::Error);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }
}
