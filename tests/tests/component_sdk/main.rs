//! Guests built as components: what was written with the SDK for tidegate runs on any host of wasi:http.
//!
//! Two ways to show it. `everywhere` has the same questions for a guest as a module, as a component in tidegate and as the
//! same component in `wasmtime serve`. And the tests of the modules are here once more, word for word: in this binary
//! `artifacts::guest` gives components.

mod everywhere;
mod imports;
mod kept;
mod same_request;
mod same_response;

#[path = "../cancel.rs"]
mod cancel;
#[path = "../cookbook_async_fanout.rs"]
mod cookbook_async_fanout;
#[path = "../cookbook_cookies.rs"]
mod cookbook_cookies;
#[path = "../cookbook_resize.rs"]
mod cookbook_resize;
#[path = "../cookbook_router.rs"]
mod cookbook_router;
#[path = "../cookbook_ticker.rs"]
mod cookbook_ticker;
#[path = "../cookbook_upload.rs"]
mod cookbook_upload;
#[path = "../echo.rs"]
mod echo;
#[path = "../failures.rs"]
mod failures;
#[path = "../fairness.rs"]
mod fairness;
#[path = "../flood.rs"]
mod flood;
#[path = "../hello.rs"]
mod hello;
#[path = "../isolation.rs"]
mod isolation;
#[path = "../many.rs"]
mod many;
#[path = "../streams.rs"]
mod streams;

use std::path::Path;

use tidegate_tests::artifacts::{component_guest, module_guest};
use tidegate_tests::oracle::Oracle;
use tidegate_tests::{Addr, Client, Server};

/// A guest that is served somewhere.
struct Host {
    /// For messages.
    name: &'static str,
    addr: Addr,
    _served: Served,
}

/// What ends when it is dropped.
enum Served {
    Tidegate { _server: Box<Server> },
    Oracle { _oracle: Oracle },
}

impl Host {
    fn tidegate(name: &'static str, guest: &Path, env: &[(&str, &str)]) -> Self {
        let mut server = Server::builder().module(guest);
        for (key, value) in env {
            server = server.option("--env", &format!("{key}={value}"));
        }
        let server = Box::new(server.start());
        Self { name, addr: server.addr().clone(), _served: Served::Tidegate { _server: server } }
    }

    /// `None` where there is no oracle.
    fn oracle(guest: &Path, env: &[(&str, &str)]) -> Option<Self> {
        let env: Vec<String> = env.iter().map(|(key, value)| format!("--env={key}={value}")).collect();
        // Its own limit is four gigabytes: a guest that takes what it gets would have them.
        let options: Vec<&str> =
            ["-Wmax-memory-size=67108864"].into_iter().chain(env.iter().map(String::as_str)).collect();
        let oracle = Oracle::start(guest, &options)?;
        let addr = oracle.addr().clone();
        Some(Self { name: "component in wasmtime serve", addr, _served: Served::Oracle { _oracle: oracle } })
    }

    #[track_caller]
    fn client(&self) -> Client {
        Client::connect(&self.addr).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Asks the guest the same wherever it can be served.
fn everywhere(guest: &str, env: &[(&str, &str)], ask: impl Fn(&Host)) {
    let component = component_guest(guest);
    let hosts = [
        Some(Host::tidegate("module in tidegate", &module_guest(guest), env)),
        Some(Host::tidegate("component in tidegate", &component, env)),
        Host::oracle(&component, env),
    ];
    for host in hosts.iter().flatten() {
        // Shown if what follows fails.
        println!("{guest}: {}", host.name);
        ask(host);
    }
}
