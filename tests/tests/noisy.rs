//! Neighbours that spin, take memory and flood their log are in nobody's way but their own.

use std::time::Duration;

use tidegate_tests::bench::load::{Plan, run};
use tidegate_tests::bench::noisy::{self, Neighbours};
use tidegate_tests::{Addr, wait};

/// The goal is 20 ms for the 99th percentile and belongs to the benchmark `noisy`; here, where other tests share the cores,
/// half of the answers within 100 ms show that everybody has a turn.
#[test]
fn hello_answers_beside_all_of_them_on_one_worker() {
    let server = noisy::server("32MiB", None);
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let neighbours = Neighbours::begin(&server);
    wait::until("they make noise", || neighbours.all_have_begun());
    let plan = Plan {
        addr,
        host: "hello.test".to_owned(),
        path: "/".to_owned(),
        connections: 2,
        requests: 200,
        within: Duration::from_secs(60),
    };
    let hello = run(&plan).unwrap();
    let noise = neighbours.end();
    assert_eq!((hello.served, hello.errors), (200, 0), "{hello:?}");
    assert!(hello.p50 < Duration::from_millis(100), "{hello:?}");
    // They had their turns as well, and were stopped where they are to be.
    assert!(noise.bombs > 0 && noise.floods > 0, "{noise}");
    assert!(
        server.wait_for_log(|line| line.contains("guest-memory") && line.contains("app=\"bomb\"")).is_some()
    );
    assert!(
        server.wait_for_log(|line| line.contains("log records dropped") && line.contains("chatty")).is_some()
    );
}
