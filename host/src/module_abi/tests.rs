//! The boundary as a table: one hostcall, or a few, made by a guest written by hand; the handler's return value is what
//! the last of them returned.

mod fetch;
mod forwarding;
mod kv;
mod sockets;

use std::sync::Arc;

use tidegate_abi::errno::*;
use tidegate_proto::pipe::Watermarks;

use super::add_to_linker;
use crate::clock::{Clock, MS, thread_cpu};
use crate::config::sockets::{Rule, SocketSettings};
use crate::config::{AppLimits, Instances};
use crate::exchange::{Exchange, Fault, Stage};
use crate::guest::anatomy::Needs;
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::cost;
use crate::guest::engine;
use crate::guest::module::ModuleSide;
use crate::guest::mounts::FileThreads;
use crate::guest::outcome::Outcome;
use crate::guest::program::{Kind, Linkers, Loader, Program, Spec, Wants};
use crate::guest::state::{GuestState, Outside};
use crate::guest::task::{Call, Job, Ran, Runner};
use crate::net::access::{Access, Tally};
use crate::net::hub::Hub;
use crate::net::policy::{OwnAddresses, Policy};
use crate::net::resolve::Resolver;

/// Everything that can be imported, a memory of one page with texts in it, and `$calls` as the handler's body.
/// A packed head without fields stands at 16, one field "a: b" at 64, one with a line break at 128.
fn guest(calls: &str) -> String {
    format!(
        r#"(module
        (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
        (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
        (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "forward" (func $forward (param i32 i32 i64) (result i64)))
        (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "trailers" (func $trailers (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
        (import "tidegate_v1" "close" (func $close (param i32) (result i32)))
        (import "tidegate_v1" "error" (func $error (param i32) (result i32)))
        (import "tidegate_v1" "usage" (func $usage (param i32 i32) (result i32)))
        (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "connect" (func $connect (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "resolve" (func $resolve (param i32 i32) (result i32)))
        (import "tidegate_v1" "socket_address" (func $address (param i32 i32 i32 i32) (result i32)))
        (import "tidegate_fetch_v1" "request" (func $fetch (param i32 i32 i32 i32) (result i32)))
        (import "tidegate_fetch_v1" "head" (func $head (param i32 i32 i32) (result i32)))
        (import "tidegate_fetch_v1" "reason" (func $reason (param i32 i32 i32) (result i32)))
        (import "tidegate_kv_v1" "get" (func $kv_get (param i32 i32) (result i32)))
        (import "tidegate_kv_v1" "set" (func $kv_set (param i32 i32 i32 i32) (result i32)))
        (import "tidegate_kv_v1" "delete" (func $kv_delete (param i32 i32) (result i32)))
        (import "tidegate_kv_v1" "exists" (func $kv_exists (param i32 i32) (result i32)))
        (import "tidegate_kv_v1" "increment" (func $kv_increment (param i32 i32 i64) (result i32)))
        (import "tidegate_kv_v1" "swap" (func $kv_swap (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "tidegate_kv_v1" "list" (func $kv_list (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $oneoff (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "\10\00\00\00\01\00\10\00\00\00\00\00\00\00\00\00")
        (data (i32.const 64)
            "\22\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00\20\00\00\00\01\00\00\00\21\00\00\00\01\00\00\00ab")
        (data (i32.const 128)
            "\22\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00\20\00\00\00\01\00\00\00\21\00\00\00\01\00\00\00a\0a")
        (data (i32.const 256) "\04\00\00\00\02\00\00\00")
        (data (i32.const 264) "\03\00\00\00\01\00\00\00")
        (data (i32.const 272) "\63\00\00\00\01\00\00\00")
        (func (export "tidegate_handle") (result i32) {calls}))"#
    )
}

/// A guest in its Store, the exchange it works on, and a loop for its sockets.
struct Bench {
    loader: Loader,
    exchange: Arc<Exchange>,
    poll: mio::Poll,
    outside: Outside,
    tally: Arc<Tally>,
    /// What the app keeps in the key-value store.
    kv: Option<Arc<crate::kv::Access>>,
}

impl Bench {
    /// Whose app may use no sockets.
    fn new() -> Self {
        Self::allowing(&[])
    }

    /// Whose app may connect where these rules say.
    fn allowing(rules: &[&str]) -> Self {
        Self::with(rules, AppLimits::default())
    }

    fn with(rules: &[&str], limits: AppLimits) -> Self {
        let engine = engine::serving(engine::Mode::Production).unwrap();
        let mut linkers = Linkers::new(&engine);
        add_to_linker(&mut linkers.module).unwrap();
        let clock = Clock::start();
        let compiler = Compiler::this_binary(engine::Mode::Production).unwrap();
        let (cache, file_threads) = (Cache::none(), FileThreads::default());
        let residency = Arc::default();
        let loader = Loader { engine, linkers, compiler, cache, clock, file_threads, residency };
        let poll = mio::Poll::new().unwrap();
        let hub = Hub::new(poll.registry().try_clone().unwrap(), clock, Resolver::new(&[]));
        let connect = rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
        let settings = SocketSettings { connect, ..SocketSettings::default() };
        let policy = Policy::new(&settings, OwnAddresses::default());
        let tally = Arc::new(Tally::default());
        let access = Access::new("test".into(), 1, policy, limits, Arc::clone(&tally));
        Self {
            loader,
            exchange: Exchange::new(clock),
            poll,
            outside: Outside { hub, access },
            tally,
            kv: None,
        }
    }

    /// A fresh request whose body is `body`, complete or not.
    fn request(&mut self, body: &[u8], complete: bool) {
        self.exchange = Exchange::new(self.loader.clock);
        let inner = &mut *self.exchange.lock();
        inner.begin(false, Watermarks::new(64, 16).unwrap());
        inner.request.pipe.write(body);
        if complete {
            inner.request.pipe.end();
        }
    }

    fn program(&self, wat: &str) -> Arc<Program> {
        self.program_of(wat, Instances::Fresh)
    }

    fn program_of(&self, wat: &str, instances: Instances) -> Arc<Program> {
        let code = self.loader.engine.precompile_module(&wat::parse_str(wat).unwrap()).unwrap();
        let spec = Spec {
            name: "test".into(),
            limits: AppLimits::default(),
            instances,
            env: vec![("KEY".into(), "value".into())],
            mounts: Vec::new(),
            kv: self.kv.clone(),
            wants: Wants { http: true, ..Wants::default() },
        };
        let compiled = self.loader.deserialize(Kind::Module, &code).unwrap();
        Arc::new(self.loader.link(&compiled, Needs::UNKNOWN, spec).unwrap())
    }

    fn runner(&self, wat: &str) -> Runner {
        let program = self.program(wat);
        let mut runner = Runner::new(std::sync::mpsc::channel().0, engine::Mode::Production);
        self.exchange.slice.set_budget(10_000 * MS);
        self.exchange.slice.begin(self.loader.clock.now(), thread_cpu());
        runner.begin(self.job(program));
        runner
    }

    fn job(&self, program: Arc<Program>) -> Job {
        let (exchange, outside) = (Arc::clone(&self.exchange), self.outside.clone());
        let code = program.code();
        Job { program, exchange, outside, call: Call::Request, code, place: None }
    }

    /// Runs the calls to their end; a guest that parks for ever is a failure.
    fn run(&self, calls: &str) -> Outcome {
        let mut runner = self.runner(&guest(calls));
        let give_up = self.loader.clock.now() + 20_000 * MS;
        while self.loader.clock.now() < give_up {
            match runner.poll() {
                Ran::Done(outcome, _) => return outcome,
                Ran::Pending => {}
                Ran::Panicked(text) => panic!("{calls}: the host panicked: {text}"),
            }
        }
        panic!("{calls}: parked for ever");
    }
}

const HEAD: &str = "(drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))";

#[test]
fn every_wrong_call_has_its_error() {
    let mut bench = Bench::new();
    for (calls, expected) in [
        // Handles.
        ("(call $read (i32.const 99) (i32.const 0) (i32.const 8))", -EBADF),
        ("(call $read (i32.const 0) (i32.const 0) (i32.const 8))", -EBADF),
        ("(call $read (i32.const 4) (i32.const 0) (i32.const 8))", -EBADF),
        ("(call $read (i32.const -1) (i32.const 0) (i32.const 8))", -EBADF),
        ("(call $write (i32.const 3) (i32.const 0) (i32.const 8))", -EBADF),
        ("(call $finish (i32.const 3) (i32.const 0) (i32.const 0))", -EBADF),
        ("(call $trailers (i32.const 4) (i32.const 0) (i32.const 0))", -EBADF),
        ("(call $close (i32.const 5))", -EBADF),
        ("(call $error (i32.const 5))", -EBADF),
        ("(call $address (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0))", -EBADF),
        ("(call $address (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(call $head (i32.const 3) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(call $reason (i32.const 4) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(call $head (i32.const 5) (i32.const 0) (i32.const 0))", -EBADF),
        ("(call $reason (i32.const 5) (i32.const 0) (i32.const 0))", -EBADF),
        ("(i32.wrap_i64 (call $forward (i32.const 4) (i32.const 3) (i64.const 1)))", -EBADF),
        ("(drop (call $close (i32.const 3))) (call $read (i32.const 3) (i32.const 0) (i32.const 8))", -EBADF),
        ("(drop (call $close (i32.const 3))) (call $close (i32.const 3))", -EBADF),
        // Lengths.
        ("(call $read (i32.const 3) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $poll (i32.const 0) (i32.const 257) (i64.const 0))", -EINVAL),
        ("(call $poll (i32.const 0) (i32.const -1) (i64.const 0))", -EINVAL),
        ("(call $log (i32.const 0) (i32.const 0) (i32.const 1))", -EINVAL),
        ("(call $log (i32.const 6) (i32.const 0) (i32.const 1))", -EINVAL),
        (
            "(call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65))",
            -EMSGSIZE,
        ),
        ("(call $random_get (i32.const 0) (i32.const 65536))", 0),
        ("(call $clock (i32.const 9) (i64.const 0) (i32.const 0))", 28),
        ("(call $fd_write (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0))", 8),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 0))", 28),
        ("(call $oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", 28),
        ("(call $unlink (i32.const 3) (i32.const 0) (i32.const 0))", 76),
        // Order.
        ("(call $write (i32.const 4) (i32.const 0) (i32.const 1))", -EPROTO),
        ("(call $finish (i32.const 4) (i32.const 0) (i32.const 0))", -EPROTO),
        ("(i32.wrap_i64 (call $forward (i32.const 3) (i32.const 4) (i64.const 1)))", -EPROTO),
        ("(call $trailers (i32.const 3) (i32.const 0) (i32.const 64))", -EAGAIN),
        // Heads.
        ("(call $response_head (i32.const 99) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $response_head (i32.const 100) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $response_head (i32.const 600) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $response_head (i32.const 65736) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $response_head (i32.const 200) (i32.const 128) (i32.const 34))", -EINVAL),
        ("(call $response_head (i32.const 200) (i32.const 64) (i32.const 33))", -EINVAL),
        ("(call $response_head (i32.const 200) (i32.const 0) (i32.const 16))", -EINVAL),
        ("(call $response_head (i32.const 103) (i32.const 64) (i32.const 34))", 0),
        ("(call $response_head (i32.const 200) (i32.const 16) (i32.const 16))", 0),
        ("(call $response_head (i32.const 200) (i32.const 64) (i32.const 34))", 0),
        ("(call $respond (i32.const 200) (i32.const 64) (i32.const 34) (i32.const 0) (i32.const 64))", 0),
    ] {
        bench.request(b"", false);
        assert_eq!(bench.run(calls), Outcome::Returned(expected), "{calls}");
    }
}

#[test]
fn calls_after_the_head_have_their_errors_too() {
    let mut bench = Bench::new();
    let finish = "(drop (call $finish (i32.const 4) (i32.const 0) (i32.const 0)))";
    for (calls, expected) in [
        (format!("{HEAD} (call $response_head (i32.const 200) (i32.const 0) (i32.const 0))"), -EALREADY),
        (format!("{HEAD} (call $response_head (i32.const 103) (i32.const 0) (i32.const 0))"), -EALREADY),
        (
            format!(
                "{HEAD} (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"
            ),
            -EALREADY,
        ),
        (format!("{HEAD} (call $write (i32.const 4) (i32.const 0) (i32.const 0))"), 0),
        (format!("{HEAD} (call $write (i32.const 4) (i32.const 0) (i32.const 65))"), 64),
        (
            format!(
                "{HEAD} (drop (call $write (i32.const 4) (i32.const 0) (i32.const 64)))
                 (call $write (i32.const 4) (i32.const 0) (i32.const 1))"
            ),
            -EAGAIN,
        ),
        (format!("{HEAD} {finish} (call $write (i32.const 4) (i32.const 0) (i32.const 1))"), -EPIPE),
        (format!("{HEAD} {finish} (call $finish (i32.const 4) (i32.const 0) (i32.const 0))"), -EALREADY),
        (format!("{HEAD} (call $finish (i32.const 4) (i32.const 128) (i32.const 34))"), -EINVAL),
        (
            format!(
                "{HEAD} (drop (call $close (i32.const 4))) (call $write (i32.const 4) (i32.const 0) (i32.const 1))"
            ),
            -EBADF,
        ),
    ] {
        bench.request(b"", false);
        assert_eq!(bench.run(&calls), Outcome::Returned(expected), "{calls}");
    }
}

#[test]
fn a_pointer_that_leaves_memory_is_a_trap() {
    let mut bench = Bench::new();
    for calls in [
        "(call $request_head (i32.const 65000) (i32.const 1000))",
        "(call $request_head (i32.const -1) (i32.const 2))",
        "(call $respond (i32.const 200) (i32.const 65536) (i32.const 1) (i32.const 0) (i32.const 0))",
        "(call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 65535) (i32.const 2))",
        "(call $response_head (i32.const 200) (i32.const 0) (i32.const -1))",
        "(call $read (i32.const 3) (i32.const 65536) (i32.const 1))",
        "(call $write (i32.const 4) (i32.const -8) (i32.const 16))",
        "(call $finish (i32.const 4) (i32.const 65536) (i32.const 1))",
        "(call $trailers (i32.const 3) (i32.const 65536) (i32.const 1))",
        "(call $poll (i32.const 65535) (i32.const 1) (i64.const 0))",
        "(call $usage (i32.const 65530) (i32.const 48))",
        "(call $log (i32.const 3) (i32.const 65530) (i32.const 48))",
        "(call $connect (i32.const 0) (i32.const 65530) (i32.const 48))",
        "(call $connect (i32.const 9) (i32.const -1) (i32.const 1))",
        "(call $resolve (i32.const 65530) (i32.const 48))",
        "(call $address (i32.const 5) (i32.const 0) (i32.const 65530) (i32.const 48))",
        "(call $fetch (i32.const 65530) (i32.const 48) (i32.const 0) (i32.const 0))",
        "(call $fetch (i32.const 16) (i32.const 16) (i32.const 65530) (i32.const 48))",
        "(call $head (i32.const 5) (i32.const 65530) (i32.const 48))",
        "(call $reason (i32.const 5) (i32.const 65530) (i32.const 48))",
        "(call $random_get (i32.const 65535) (i32.const 2))",
        "(call $clock (i32.const 1) (i64.const 0) (i32.const 65530))",
        "(call $fd_write (i32.const 1) (i32.const 65530) (i32.const 1) (i32.const 0))",
        "(call $oneoff (i32.const 65530) (i32.const 0) (i32.const 1) (i32.const 0))",
    ] {
        bench.request(b"", false);
        let outcome = bench.run(calls);
        assert!(
            matches!(&outcome, Outcome::Trapped(t) if t.contains("out of bounds")),
            "{calls}: {outcome:?}"
        );
    }
}

#[test]
fn bodies_are_read_and_forwarded_and_their_failures_have_numbers() {
    let mut bench = Bench::new();
    let read = "(call $read (i32.const 3) (i32.const 0) (i32.const 8))";
    let twice = format!("(drop {read}) {read}");
    bench.request(b"twelve bytes", true);
    assert_eq!(bench.run(read), Outcome::Returned(8));
    bench.request(b"twelve bytes", true);
    assert_eq!(bench.run(&twice), Outcome::Returned(4));
    bench.request(b"", true);
    assert_eq!(bench.run(read), Outcome::Returned(0));
    bench.request(b"", false);
    assert_eq!(bench.run(read), Outcome::Returned(-EAGAIN));
    for (fault, errno) in [
        (Fault::Gone, ECONNRESET),
        (Fault::TooLarge, EFBIG),
        (Fault::TooSlow, ETIMEDOUT),
        (Fault::Malformed, ECONNRESET),
    ] {
        bench.request(b"4444", false);
        bench.exchange.lock().fail(fault);
        assert_eq!(bench.run(read), Outcome::Returned(4), "bytes before the fault are there");
        assert_eq!(bench.run(read), Outcome::Returned(-errno));
        assert_eq!(bench.run("(call $error (i32.const 3))"), Outcome::Returned(errno));
        assert_eq!(
            bench.run("(call $response_head (i32.const 200) (i32.const 0) (i32.const 0))"),
            Outcome::Returned(-errno)
        );
    }
    bench.request(b"forwarded", true);
    let forward = "(i32.wrap_i64 (call $forward (i32.const 3) (i32.const 4) (i64.const -1)))";
    assert_eq!(bench.run(&format!("{HEAD} {forward}")), Outcome::Returned(9));
    assert_eq!(bench.exchange.lock().response.pipe.len(), 9);
    assert_eq!(bench.exchange.lock().response.stage(), Stage::Cut, "never finished");
}

#[test]
fn poll_parks_until_there_is_something_and_tells_what() {
    let mut bench = Bench::new();
    // Two entries: the response body for writing, the request body for reading.
    let both = "(drop (call $poll (i32.const 256) (i32.const 2) (i64.const -1)))
        (i32.or (i32.load16_u (i32.const 262)) (i32.shl (i32.load16_u (i32.const 270)) (i32.const 8)))";
    bench.request(b"", true);
    assert_eq!(bench.run(&format!("{HEAD} {both}")), Outcome::Returned(2 | 1 << 8));
    // A bad handle is an error of its entry.
    let bad =
        "(drop (call $poll (i32.const 272) (i32.const 1) (i64.const -1))) (i32.load16_u (i32.const 278))";
    bench.request(b"", false);
    assert_eq!(bench.run(bad), Outcome::Returned(4));
    // Time is up.
    let reading = "(call $poll (i32.const 264) (i32.const 1) (i64.const 2000000))";
    assert_eq!(bench.run(reading), Outcome::Returned(0));
    // A client that is gone is told even to who did not ask.
    bench.exchange.lock().fail(Fault::Gone);
    let told =
        "(drop (call $poll (i32.const 264) (i32.const 1) (i64.const -1))) (i32.load16_u (i32.const 270))";
    assert_eq!(bench.run(told), Outcome::Returned(1 | 4 | 8));
}

#[test]
fn a_parked_guest_names_what_wakes_it() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let mut runner = bench.runner(&guest("(call $poll (i32.const 264) (i32.const 1) (i64.const -1))"));
    assert!(matches!(runner.poll(), Ran::Pending));
    let exchange = Arc::clone(&bench.exchange);
    let park = exchange.lock().park.unwrap();
    assert!(park.readable && !park.writable && park.until.is_none());
    assert!(exchange.lock().request.is_wanted(), "asking for the body sends a 100");
    assert!(!exchange.lock().wakes_guest());
    exchange.lock().request.pipe.write(b"x");
    assert!(exchange.lock().wakes_guest());
    assert!(matches!(runner.poll(), Ran::Done(Outcome::Returned(1), _)));
}

#[test]
fn yielding_gives_the_slice_up() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let mut runner = bench.runner(&guest("(call $yield)"));
    assert!(matches!(runner.poll(), Ran::Pending));
    assert!(bench.exchange.slice.has_yielded());
    assert!(matches!(runner.poll(), Ran::Done(Outcome::Returned(0), _)));
}

#[test]
fn a_start_function_may_not_call_the_host() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let wat = r#"(module
        (import "tidegate_v1" "usage" (func $usage (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $start (drop (call $usage (i32.const 0) (i32.const 0))))
        (start $start)
        (func (export "tidegate_handle") (result i32) (i32.const 0)))"#;
    let mut runner = bench.runner(wat);
    let Ran::Done(Outcome::Trapped(text), _) = runner.poll() else { panic!("not trapped") };
    assert!(text.contains("start function"), "{text}");
}

/// A guest with a list at 65536: `count` entries that all name the same "a" and the same `len` spaces.
fn with_list(count: usize, len: usize, calls: &str) -> String {
    let text = 16 + 16 * count;
    let mut numbers = vec![text + 1 + len, 1 | 16 << 16, count, 0];
    for _ in 0..count {
        numbers.extend([text, 1, text + 1, len]);
    }
    let bytes = numbers.iter().flat_map(|n| u32::try_from(*n).unwrap().to_le_bytes());
    let table: String = bytes.map(|byte| format!("\\{byte:02x}")).collect();
    let list = format!("(data (i32.const 65536) \"{table}a{}\")", " ".repeat(len));
    guest(calls).replace("(memory (export \"memory\") 1)", &format!("(memory (export \"memory\") 64) {list}"))
}

/// What a list claims is refused before it is looked at: a call may be long, but not without bound.
#[test]
fn a_list_is_bounded_before_it_is_looked_at() {
    let mut bench = Bench::new();
    for (count, len, size, expected) in [
        // Longer than a list may be.
        (1, 1 << 20, (1 << 20) + 33, -EMSGSIZE),
        // So many entries that all name the same spaces.
        (1_000, 59_000, 75_017, -EINVAL),
        // More entries than there may be.
        (1_025, 0, 16_417, -EMSGSIZE),
        // One that claims more than was given.
        (1, 60_000, 1_000, -EINVAL),
        // A list within its bounds whose value is nothing but white space: it counts as it is.
        (1, 59_000, 59_033, -EMSGSIZE),
        (1, 15_000, 15_033, 0),
    ] {
        let list = format!("(i32.const 65536) (i32.const {size})");
        for calls in [
            format!("{HEAD} (call $finish (i32.const 4) {list})"),
            format!("(call $response_head (i32.const 200) {list})"),
            format!("(call $response_head (i32.const 103) {list})"),
            format!("(call $respond (i32.const 200) {list} (i32.const 0) (i32.const 0))"),
        ] {
            bench.request(b"", false);
            let ran = bench.runner(&with_list(count, len, &calls)).poll();
            let Ran::Done(outcome, _) = ran else { panic!("{calls}: {ran:?}") };
            assert_eq!(outcome, Outcome::Returned(expected), "{count} x {len} in {size}: {calls}");
        }
    }
}

const RANDOM: &str = "(drop (call $random_get (i32.const 0) (i32.const 65536)))";

/// 3.5 s of random numbers in a row, without a loop: a guest that meets no epoch on the way.
fn a_long_row() -> String {
    guest(&format!("{} (i32.const 0)", RANDOM.repeat(20_000)))
}

#[test]
fn host_calls_in_a_row_do_not_hold_a_worker() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let mut runner = bench.runner(&a_long_row());
    bench.exchange.slice.begin(bench.loader.clock.now(), thread_cpu());
    let before = thread_cpu();
    let ran = runner.poll();
    let took = thread_cpu() - before;
    let Ran::Done(Outcome::Trapped(text), _) = ran else { panic!("{ran:?}") };
    assert!(text.contains("held its worker"), "{text}");
    assert!(took < 100 * MS, "{took} ns");
}

#[test]
fn host_calls_in_a_row_end_with_the_cpu_time() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let mut runner = bench.runner(&a_long_row());
    bench.exchange.slice.set_budget(5 * MS);
    let before = thread_cpu();
    let ran = runner.poll();
    let took = thread_cpu() - before;
    assert!(matches!(ran, Ran::Done(Outcome::CpuExceeded, _)), "{ran:?}");
    assert!(took < 50 * MS, "{took} ns");
}

/// A guest that loops yields in time although nobody moves the epoch on, and is not stopped for its host calls.
#[test]
fn a_loop_of_host_calls_yields_whatever_the_ticker_does() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let mut runner = bench.runner(&guest(&format!("(loop {RANDOM} (br 0)) (i32.const 0)")));
    for _ in 0..20 {
        bench.exchange.slice.begin(bench.loader.clock.now(), thread_cpu());
        let ran = runner.poll();
        assert!(matches!(ran, Ran::Pending), "{ran:?}");
        assert!(bench.exchange.slice.has_yielded());
    }
}

/// Module, name and a call of it with zeros, for every function that a guest can import.
fn imports(bench: &Bench) -> Vec<(String, String, String, String)> {
    let program = bench.program(&guest("(i32.const 0)"));
    let state = GuestState::new(
        program,
        Arc::clone(&bench.exchange),
        bench.outside.clone(),
        None,
        ModuleSide::new(engine::Mode::Production),
    );
    let mut store = wasmtime::Store::new(&bench.loader.engine, state);
    let found: Vec<_> = bench.loader.linkers.module.iter(&mut store).collect();
    let functions = found.into_iter().filter_map(|(module, name, item)| {
        let ty = item.into_func()?.ty(&store);
        let params: String = ty.params().map(|p| format!(" {p}")).collect();
        let result = ty.results().next().map_or(String::new(), |r| format!("(result {r})"));
        let zeros: String = ty.params().map(|p| format!("({p}.const 0)")).collect();
        let drops = if ty.results().len() == 0 { "" } else { "drop" };
        let import = format!("(func $f (param{params}) {result})");
        Some((module.to_owned(), name.to_owned(), import, format!("(call $f {zeros}) {drops}")))
    });
    functions.collect()
}

#[test]
fn every_function_that_can_be_imported_spends() {
    let mut bench = Bench::new();
    bench.request(b"", false);
    let all = imports(&bench);
    assert!(all.len() > 50, "{}", all.len());
    for (module, name, import, call) in all {
        if name == "proc_exit" {
            // It ends the call.
            continue;
        }
        bench.request(b"", false);
        let wat = format!(
            r#"(module (import "{module}" "{name}" {import}) (memory (export "memory") 1)
            (func (export "tidegate_handle") (result i32) {call} (i32.const 0)))"#
        );
        let mut runner = bench.runner(&wat);
        if matches!(runner.poll(), Ran::Pending) {
            assert_eq!(name, "sched_yield");
        }
        assert!(bench.exchange.slice.spent() >= cost::CALL, "{module} {name}");
    }
}
