//! What a `wasi:http` component may do, and must not, in a table: each row names a behaviour of the component
//! `tests/components/rust/crates/behaviours` and what a client sees of it. The same table is held against the server, under
//! both policies, and against `wasmtime serve`, whose answers are the ones that components were written for. Where the two
//! differ on purpose the row says why, and has the oracle's answer too.

mod answers;
mod bodies;
mod exchanges;
mod fields;
mod row;
mod world;

use std::collections::BTreeSet;

use tidegate_tests::Server;
use tidegate_tests::check::success;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::wait::{PATIENCE, poll_for};

use row::Row;

fn rows() -> Vec<Row> {
    [answers::rows(), fields::rows(), bodies::rows(), world::rows()].into_iter().flatten().collect()
}

fn serve(options: &[&str]) -> Server {
    let builder = Server::builder().module(rust_component("behaviours")).option("--workers", "1");
    options.iter().fold(builder, |builder, option| builder.flag(option)).start()
}

/// All rows, so that one run tells of everything that is wrong.
fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// A row's answer, and what the log says of it: a body that its guest left is not one whose guest has trapped.
fn check(row: &Row, server: &Server) -> Result<(), String> {
    let Some(code) = row.logs() else { return row.check(server.addr()) };
    let error = format!("error={code:?}");
    let told = || server.stderr().count(|line| line.contains(&error));
    let before = told();
    row.check(server.addr())?;
    match poll_for(PATIENCE, || (told() > before).then_some(())) {
        Some(()) => Ok(()),
        None => {
            Err(row.wrong(&format!("the log does not say {error}; it ends in\n{}", server.stderr().tail(5))))
        }
    }
}

fn all_hold(server: &mut Server) {
    let wrong: Vec<_> = rows().iter().filter_map(|row| check(row, server).err()).collect();
    assert!(server.is_running(), "the server has ended; wrong so far:\n{}", wrong.join("\n"));
    report(&wrong);
}

#[test]
fn a_fresh_instance_answers_as_the_table_says() {
    all_hold(&mut serve(&[]));
}

/// What one request does to its instance, the next one must not see. Between the rows the instances are asked how many
/// calls they have had, so that it is known which rows were told to one that had served others.
#[test]
fn a_reused_instance_answers_as_the_table_says() {
    let mut server = serve(&["--reuse", "1000"]);
    let mut client = server.client();
    let mut calls = || {
        let response = client.get("a.test", "/calls").unwrap();
        success(&response);
        response.text().trim().parse::<u32>().expect("a number")
    };
    let (mut wrong, mut shared, mut good) = (Vec::new(), 0, 0);
    let mut before = calls();
    for row in &rows() {
        wrong.extend(check(row, &server).err());
        let after = calls();
        good += u32::from(row.logs().is_none());
        // The row's own, and this one: the same instance before, at and after it.
        shared += u32::from(row.logs().is_none() && after == before + 2);
        before = after;
    }
    assert!(server.is_running(), "the server has ended; wrong so far:\n{}", wrong.join("\n"));
    report(&wrong);
    // Not all: a call that comes before the one before it has returned gets another instance.
    assert!(
        shared >= good / 2,
        "of {good} rows without a failure an instance that was used before had {shared}"
    );
}

#[test]
fn the_oracle_answers_as_the_table_says() {
    let Some(oracle) = Oracle::start(&rust_component("behaviours"), &[]) else { return };
    let wrong: Vec<_> = rows().iter().filter_map(|row| row.check_oracle(oracle.addr()).err()).collect();
    report(&wrong);
    exchanges::expectation(oracle.addr());
    exchanges::next_request(oracle.addr());
    exchanges::bodiless(oracle.addr());
    exchanges::no_state(oracle.addr());
}

#[test]
fn exchanges_go_on_with_fresh_instances() {
    let server = serve(&[]);
    exchanges::expectation(server.addr());
    exchanges::next_request(server.addr());
    exchanges::bodiless(server.addr());
    exchanges::goes_on_after_its_answer(&server);
    exchanges::reads_on_after_its_answer(&server);
    exchanges::no_state(server.addr());
}

#[test]
fn exchanges_go_on_with_reused_instances() {
    let server = serve(&["--reuse", "1000"]);
    exchanges::expectation(server.addr());
    exchanges::next_request(server.addr());
    exchanges::bodiless(server.addr());
    exchanges::goes_on_after_its_answer(&server);
    exchanges::reads_on_after_its_answer(&server);
    exchanges::state(server.addr());
    exchanges::kept_handles(server.addr());
}

#[test]
fn the_oracle_keeps_state_where_it_reuses_instances() {
    let reuse = ["--max-instance-reuse-count", "1000"];
    let Some(oracle) = Oracle::start(&rust_component("behaviours"), &reuse) else { return };
    exchanges::state(oracle.addr());
}

/// The component lists its behaviours: each has a row, and each row is one of them.
#[test]
fn the_table_is_complete() {
    let server = serve(&[]);
    let text = server.get("a.test", "/").text();
    let there: BTreeSet<&str> = text.lines().collect();
    let rows = rows();
    let mut named: BTreeSet<&str> = rows.iter().map(Row::behaviour).collect();
    // What it says depends on the rows before it; the test of reused instances asks for it.
    named.insert("calls");
    assert!(there.len() >= 45, "{} behaviours", there.len());
    assert_eq!(there.difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new(), "behaviours without a row");
    let unknown: Vec<_> = named.difference(&there).filter(|name| **name != "no-such-behaviour").collect();
    assert!(unknown.is_empty(), "rows without a behaviour: {unknown:?}");
}
