//! The key-value store as a guest sees it. What the store itself does is tested where it is.

use super::*;
use crate::config::KvSettings;
use crate::kv::{Access, Service};

/// The texts of these guests: a key at 1024, another at 1040, a value at 1056, a number at 1072, bytes that are no text at
/// 1088; entries of `poll` are made at 2048, and results are read to 4096.
const DATA: &str = r#"(data (i32.const 1024) "visits") (data (i32.const 1040) "other") (data (i32.const 1056) "some value")
    (data (i32.const 1072) "41") (data (i32.const 1088) "\ff\fe")"#;

/// Waits for the handle in the local, reads once, and closes it. What was read, or the error, stays.
const FUNCTIONS: &str = r#"
    (func $wait (param $handle i32)
      (i32.store (i32.const 2048) (local.get $handle))
      (i32.store (i32.const 2052) (i32.const 1))
      (drop (call $poll (i32.const 2048) (i32.const 1) (i64.const -1))))
    (func $done (param $handle i32) (result i32)
      (local $read i32)
      (if (i32.lt_s (local.get $handle) (i32.const 0)) (then (return (local.get $handle))))
      (call $wait (local.get $handle))
      (local.set $read (call $read (local.get $handle) (i32.const 4096) (i32.const 4096)))
      (drop (call $close (local.get $handle)))
      (local.get $read))"#;

fn access(quota: KvSettings) -> Arc<Access> {
    Service::in_memory().access(&"test".into(), None, quota)
}

fn bench() -> Bench {
    Bench { kv: Some(access(KvSettings::default())), ..Bench::new() }
}

impl Bench {
    /// Runs calls with the functions and texts above.
    fn run_kv(&mut self, calls: &str) -> Outcome {
        self.request(b"", false);
        let whole = guest(calls).replacen(
            "(func (export \"tidegate_handle\")",
            &format!("{DATA} {FUNCTIONS} (func (export \"tidegate_handle\")"),
            1,
        );
        let mut runner = Runner::new(std::sync::mpsc::channel().0, engine::Mode::Production);
        self.exchange.slice.set_budget(10_000 * MS);
        self.exchange.slice.begin(self.loader.clock.now(), thread_cpu());
        runner.begin(self.job(self.program(&whole)));
        let give_up = self.loader.clock.now() + 20_000 * MS;
        while self.loader.clock.now() < give_up {
            match runner.poll() {
                Ran::Done(outcome, _) => return outcome,
                Ran::Pending => std::thread::yield_now(),
                Ran::Panicked(text) => panic!("{calls}: the host panicked: {text}"),
            }
        }
        panic!("{calls}: parked for ever");
    }

    fn expect(&mut self, calls: &str, expected: i32) {
        assert_eq!(self.run_kv(calls), Outcome::Returned(expected), "{calls}");
    }
}

const GET: &str = "(call $done (call $kv_get (i32.const 1024) (i32.const 6)))";
const SET: &str =
    "(call $done (call $kv_set (i32.const 1024) (i32.const 6) (i32.const 1056) (i32.const 10)))";
const DELETE: &str = "(call $done (call $kv_delete (i32.const 1024) (i32.const 6)))";
const EXISTS: &str = "(call $done (call $kv_exists (i32.const 1024) (i32.const 6)))";

fn increment(delta: i64) -> String {
    format!("(call $done (call $kv_increment (i32.const 1024) (i32.const 6) (i64.const {delta})))")
}

/// What was read, as a number.
const READ: &str = "(i32.load (i32.const 4096))";

#[test]
fn each_operation_gives_what_came_of_it() {
    let mut bench = bench();
    bench.expect(GET, -ENOENT);
    bench.expect(&format!("(drop {EXISTS}) (i32.load8_u (i32.const 4096))"), 0);
    bench.expect(DELETE, 0);
    bench.expect(SET, 0);
    bench.expect(GET, 10);
    bench.expect(&format!("(drop {GET}) {READ}"), i32::from_le_bytes(*b"some"));
    bench.expect(EXISTS, 1);
    bench.expect(&format!("(drop {EXISTS}) (i32.load8_u (i32.const 4096))"), 1);
    bench.expect(DELETE, 0);
    bench.expect(GET, -ENOENT);
    // An empty value is a value.
    bench.expect("(call $done (call $kv_set (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 0)))", 0);
    bench.expect(GET, 0);
}

#[test]
fn numbers_are_summed() {
    let mut bench = bench();
    bench.expect(&increment(1), 8);
    bench.expect(&format!("(drop {}) {READ}", increment(41)), 42);
    bench.expect(&format!("(drop {}) {READ}", increment(-50)), -8);
    bench.expect(
        &format!("(drop {GET}) (i32.load16_u (i32.const 4096))"),
        i32::from_le_bytes([b'-', b'8', 0, 0]),
    );
    bench.expect(&increment(i64::MIN), -EOVERFLOW);
    bench.expect(SET, 0);
    bench.expect(&increment(1), -EILSEQ);
}

#[test]
fn a_swap_says_whether_it_happened() {
    let mut bench = bench();
    let swap = |old: (u32, u32), new: (u32, u32), flags: u32| {
        format!(
            "(call $done (call $kv_swap (i32.const 1024) (i32.const 6) (i32.const {}) (i32.const {}) (i32.const {})
               (i32.const {}) (i32.const {flags})))",
            old.0, old.1, new.0, new.1
        )
    };
    let happened = |call: String| format!("(drop {call}) (i32.load8_u (i32.const 4096))");
    let (none, some, number) = ((0, 0), (1056, 4), (1072, 2));
    bench.expect(&happened(swap(some, number, 0)), 0);
    bench.expect(&happened(swap(none, some, 1)), 1);
    bench.expect(&happened(swap(none, some, 1)), 0);
    bench.expect(&happened(swap(some, number, 0)), 1);
    bench.expect(&happened(swap(some, none, 2)), 0);
    bench.expect(&happened(swap(number, none, 2)), 1);
    bench.expect(GET, -ENOENT);
    bench.expect(&happened(swap(none, none, 3)), 1);
    bench.expect(&swap(some, none, 1), -EINVAL);
    bench.expect(&swap(none, some, 2), -EINVAL);
    bench.expect(&swap(none, none, 4), -EINVAL);
}

#[test]
fn keys_are_listed_in_pages() {
    let mut bench = bench();
    bench.expect(SET, 0);
    bench.expect("(call $done (call $kv_set (i32.const 1040) (i32.const 5) (i32.const 0) (i32.const 0)))", 0);
    let list = |prefix: (u32, u32), after: (u32, u32)| {
        format!(
            "(call $done (call $kv_list (i32.const {}) (i32.const {}) (i32.const {}) (i32.const {})))",
            prefix.0, prefix.1, after.0, after.1
        )
    };
    // No more, "other", "visits".
    let all = list((0, 0), (0, 0));
    bench.expect(&all, 4 + 4 + 5 + 4 + 6);
    bench.expect(&format!("(drop {all}) {READ}"), 0);
    bench.expect(&format!("(drop {all}) (i32.load (i32.const 4100))"), 5);
    bench.expect(&format!("(drop {all}) (i32.load (i32.const 4104))"), i32::from_le_bytes(*b"othe"));
    bench.expect(&list((0, 0), (1040, 5)), 4 + 4 + 6);
    bench.expect(&list((1024, 3), (0, 0)), 4 + 4 + 6);
    bench.expect(&list((1056, 4), (0, 0)), 4);
    bench.expect(&list((0, 1025), (0, 0)), -EMSGSIZE);
    bench.expect(&list((0, 0), (0, 1025)), -EMSGSIZE);
    bench.expect(&list((1088, 2), (0, 0)), -EINVAL);
}

#[test]
fn a_result_is_read_in_pieces_and_ends() {
    let mut bench = bench();
    bench.expect(SET, 0);
    let began = "(local $h i32) (local.set $h (call $kv_get (i32.const 1024) (i32.const 6))) (call $wait (local.get $h))";
    let read = "(call $read (local.get $h) (i32.const 4096) (i32.const 4))";
    bench.expect(&format!("{began} {read}"), 4);
    bench.expect(&format!("{began} (drop {read}) (drop {read}) {read}"), 2);
    bench.expect(&format!("{began} (drop {read}) (drop {read}) (drop {read}) {read}"), 0);
    // It is ready until it is closed, and then nothing.
    let ready = "(call $poll (i32.const 2048) (i32.const 1) (i64.const 0))";
    bench.expect(&format!("{began} (drop {read}) {ready}"), 1);
    let closed = format!("{began} (drop (call $close (local.get $h)))");
    bench.expect(&format!("{closed} {read}"), -EBADF);
    bench.expect(&format!("{began} (call $error (local.get $h))"), 0);
    for (call, expected) in [
        ("(call $read (local.get $h) (i32.const 0) (i32.const 0))", -EINVAL),
        ("(call $write (local.get $h) (i32.const 0) (i32.const 1))", -EBADF),
        ("(call $finish (local.get $h) (i32.const 0) (i32.const 0))", -EBADF),
        ("(call $trailers (local.get $h) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(call $address (local.get $h) (i32.const 0) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(call $head (local.get $h) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(i32.wrap_i64 (call $forward (local.get $h) (i32.const 4) (i64.const 1)))", -ENOTSUP),
        ("(i32.wrap_i64 (call $forward (i32.const 3) (local.get $h) (i64.const 1)))", -ENOTSUP),
    ] {
        bench.expect(&format!("{began} {call}"), expected);
    }
}

#[test]
fn a_failure_is_told_by_the_handle() {
    let mut bench = bench();
    let began = "(local $h i32) (local.set $h (call $kv_get (i32.const 1024) (i32.const 6))) (call $wait (local.get $h))";
    bench.expect(&format!("{began} (call $error (local.get $h))"), ENOENT);
    let readable_error_hangup = 1 | 4 | 8;
    bench.expect(&format!("{began} (i32.load16_u (i32.const 2054))"), readable_error_hangup);
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let mut bench = bench();
    let get = |key: u32, len: u32| format!("(call $kv_get (i32.const {key}) (i32.const {len}))");
    bench.expect(&get(0, 0), -EINVAL);
    bench.expect(&get(0, 1025), -EMSGSIZE);
    bench.expect(&get(1088, 2), -EINVAL);
    bench.expect(&format!("(drop {}) (i32.const 7)", get(0, 1024)), 7);
    let set = "(call $kv_set (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 1048577))";
    let grow = "(drop (memory.grow (i32.const 32)))";
    bench.expect(&format!("{grow} {set}"), -EMSGSIZE);
    bench.expect(&format!("{grow} (call $done {})", set.replace("1048577", "1048576")), 0);
    // Pointers that leave memory end the guest.
    for calls in [
        get(65_536, 1),
        get(u32::MAX, 2),
        "(call $kv_set (i32.const 1024) (i32.const 6) (i32.const 65530) (i32.const 7))".to_owned(),
        "(call $kv_swap (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0))"
            .to_owned(),
        "(call $kv_list (i32.const 0) (i32.const 0) (i32.const 65535) (i32.const 2))".to_owned(),
        "(call $kv_increment (i32.const 65535) (i32.const 2) (i64.const 1))".to_owned(),
    ] {
        assert!(matches!(bench.run_kv(&calls), Outcome::Trapped(_)), "{calls}");
    }
}

#[test]
fn an_app_that_keeps_nothing_is_denied() {
    let mut bench = Bench::new();
    for calls in [GET, SET, DELETE, EXISTS, &increment(1)] {
        bench.expect(calls, -EACCES);
    }
}

#[test]
fn a_full_store_is_told() {
    let mut bench = Bench { kv: Some(access(KvSettings { keys: 1, bytes: 1024 })), ..Bench::new() };
    bench.expect(SET, 0);
    let second = "(call $done (call $kv_set (i32.const 1040) (i32.const 5) (i32.const 0) (i32.const 0)))";
    bench.expect(second, -EDQUOT);
    let large = "(call $done (call $kv_set (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 1019)))";
    bench.expect(large, -EDQUOT);
    bench.expect(&large.replace("1019", "1018"), 0);
}

#[test]
fn handles_have_their_number() {
    let mut bench = bench();
    let calls = "(local $n i32) (local $last i32)
        (loop $more
          (local.set $last (call $kv_get (i32.const 1024) (i32.const 6)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $more (i32.lt_s (local.get $n) (i32.const 257))))
        (local.get $last)";
    bench.expect(calls, -EMFILE);
}
