//! Clients that hang up while their guest waits on a socket leave nothing behind. Ten thousand of them are the benchmark
//! `hangups`.

use tidegate_tests::App;
use tidegate_tests::bench::hangups::{Plan, Report, run};

/// Two batches that are counted, the second of which closes where the first resets.
const PLAN: Plan = Plan { requests: 300, at_once: 30 };

fn nothing_is_left(report: &Report) {
    assert_eq!(report.open, 0, "{report:?}");
    assert!(report.fds.1 <= report.fds.0, "{report:?}");
    // Of so few, what one of them left would be lost in the noise: this bounds what a page for each would be.
    assert!(report.rss.1 <= report.rss.0 + (4 << 20), "{report:?}");
}

#[test]
fn a_module_on_a_socket() {
    let app = |upstream: &tidegate_tests::Upstream| {
        App::guest("redis_module").env("REDIS", upstream.addr()).connect(upstream.addr())
    };
    nothing_is_left(&run(&PLAN, app, "/get/key").unwrap());
}

#[test]
fn a_component_on_a_socket() {
    let app = |upstream: &tidegate_tests::Upstream| {
        App::guest("redis_std").env("REDIS", upstream.addr()).connect(upstream.addr())
    };
    nothing_is_left(&run(&PLAN, app, "/get/key").unwrap());
}

#[test]
fn a_module_on_an_upstream() {
    let app = |upstream: &tidegate_tests::Upstream| {
        App::guest("proxy").env("UPSTREAM", format!("http://{}", upstream.addr())).connect(upstream.addr())
    };
    nothing_is_left(&run(&PLAN, app, "/").unwrap());
}
