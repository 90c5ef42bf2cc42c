//! Requests that fail in every way, by the thousand: every good one is served, and nothing is leaked. The whole of
//! it, 100,000 requests, is the benchmark `soak`.

use tidegate_tests::bench::soak::{Plan, run};

#[test]
fn thousands_of_failing_requests_leave_no_trace() {
    let report = run(&Plan { requests: 3_000, settle: 600, connections: 8 });
    assert_eq!(report.hello_failed, 0, "{report:?}");
    assert!(report.hello_served >= 400, "{report:?}");
    assert!(report.fds_after <= report.fds_settled, "{report:?}");
    // A short run has proportionally more noise in it than the soak's 10 %.
    let allowed = report.rss_settled + report.rss_settled / 4 + (8 << 20);
    assert!(report.rss_after <= allowed, "{report:?}");
}
