//! The module ABI used wrongly, by hand-written guests: each wrong pointer, length, handle and order of calls has its
//! defined error, and none reaches another request.

use tidegate_abi::errno::{EACCES, EALREADY, EBADF, EINVAL, ENOTSUP, EPROTO};
use tidegate_tests::check::{self, logged_problem, success};
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::PATIENCE;
use tidegate_tests::{Addr, App, Client, Response, Server};

fn serve(name: &str) -> Server {
    Server::builder().wat(name).option("--workers", "1").start()
}

/// The numbers that a guest stored and sent as its body.
fn results(name: &str) -> Vec<i32> {
    results_of(&serve(name))
}

fn results_of(server: &Server) -> Vec<i32> {
    let response = server.get("a", "/");
    success(&response);
    // Nothing that was refused has damaged the connection or the app.
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("a", "/").unwrap().body, response.body);
    }
    let words = response.body.chunks_exact(4);
    words.map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

#[test]
fn the_head_comes_before_the_body() {
    assert_eq!(results("before_head"), [-EPROTO, -EPROTO]);
}

#[test]
fn there_is_one_head() {
    assert_eq!(results("head_twice"), [0, -EALREADY, -EALREADY, -EALREADY]);
}

#[test]
fn after_the_end_there_is_nothing() {
    let server = serve("after_finish");
    check::ok(&server.get("a", "/"), b"whole");
    for call in ["write after finish: ", "finish after finish: "] {
        let line = server.wait_for_log(|line| line.contains(call));
        assert!(line.as_ref().is_some_and(|line| line.contains("as documented")), "{call}: {line:?}");
    }
}

#[test]
fn a_body_without_an_end_is_cut() {
    let server = serve("never_finish");
    for path in ["/", "/c"] {
        check::cut(&server.client().get("a", path));
    }
}

#[test]
fn a_pointer_outside_memory_traps() {
    let server = serve("bad_pointers");
    check::ok(&server.get("a", "/z"), b"survived");
    for path in ["/a", "/b", "/c", "/d", "/e", "/f", "/g"] {
        let response = server.get("a", path);
        logged_problem(&server, &response, 500, "guest-trap");
    }
    check::cut(&server.client().get("a", "/h"));
    check::ok(&server.get("a", "/z"), b"survived");
}

#[test]
fn a_bad_handle_is_an_error() {
    let mut wanted = vec![-EBADF; 11];
    wanted[8] = 0;
    assert_eq!(results("bad_handles"), wanted);
}

#[test]
fn a_socket_that_may_not_be_is_an_error() {
    let server = serve("bad_sockets");
    let malformed = [-EINVAL; 3];
    let denied = [-EACCES; 4];
    let looked_up = [5, -EINVAL, 20, 4, 0];
    let no_socket = [-EBADF, -EBADF, -ENOTSUP, -ENOTSUP];
    let closed = [0, -EBADF, -EBADF];
    assert_eq!(results_of(&server), [&malformed[..], &denied, &looked_up, &no_socket, &closed].concat());
    // Who runs the server is told what was denied.
    for what in ["10.0.0.1", "db.example", "192.0.2.53"] {
        let line = server.wait_for_log(|line| line.contains("denied") && line.contains(what));
        assert!(line.is_some(), "{what} is not in the log:\n{}", server.stderr().tail(20));
    }
}

#[test]
fn bad_arguments_are_refused_and_another_try_is_allowed() {
    assert_eq!(results("bad_arguments"), [-EINVAL; 11]);
}

#[test]
fn a_declared_length_is_a_promise() {
    let server = serve("wrong_length");
    check::ok(&server.get("a", "/e"), b"12345");
    for path in ["/s", "/l"] {
        check::cut(&server.client().get("a", path));
    }
    check::ok(&server.get("a", "/e"), b"12345");
}

#[test]
fn a_code_other_than_0_is_guest_error() {
    let server = serve("guest_error");
    let response = server.get("a", "/");
    logged_problem(&server, &response, 500, "guest-error");
}

#[test]
fn full_means_wait_until_there_is_room() {
    let server = serve("backpressure");
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap());
    client.send_get("a", "/").unwrap();
    let full = server.wait_for_log(|line| line.contains("backpressure: "));
    assert!(full.as_ref().is_some_and(|line| line.contains("full, then nothing ready")), "{full:?}");
    let again = |line: &str| line.contains("backpressure: writable again");
    assert_eq!(server.stderr().count(again), 0, "room, although nobody has read");
    success(&client.response().unwrap());
    assert!(server.wait_for_log(again).is_some());
}

#[test]
fn initialize_runs_once_per_instance() {
    let fresh = Server::builder().wat("initialize").option("--workers", "1").start();
    let mut client = fresh.client();
    for _ in 0..3 {
        check::ok(&client.get("a", "/").unwrap(), &[1, 0, 0, 0, 1, 0, 0, 0]);
    }
    let reused = Server::builder().wat("initialize").option("--workers", "1").option("--reuse", "10").start();
    let mut client = reused.client();
    for n in 1..=3 {
        check::ok(&client.get("a", "/").unwrap(), &[1, 0, 0, 0, n, 0, 0, 0]);
    }
}

#[test]
fn all_memories_count_together() {
    let server = Server::builder()
        .app(App::wat("two_memories").named("small").limit("memory", "2MiB"))
        .app(App::wat("two_memories").named("large").limit("memory", "4MiB"))
        .start();
    // 21 pages each are 1.3 MiB, twice that 2.6.
    logged_problem(&server, &server.get("small.test", "/"), 500, "guest-memory");
    success(&server.get("large.test", "/"));
}

#[test]
fn the_host_has_stack_left_where_the_guest_has_none() {
    let mut server = serve("stack_overflow_in_host");
    for _ in 0..3 {
        let response = server.get("a", "/");
        logged_problem(&server, &response, 500, "guest-trap");
    }
    assert!(server.is_running());
}

/// How many 103s a guest says it has sent; as many have arrived.
fn hints_taken(response: &Response) -> usize {
    success(response);
    assert!(response.interim.iter().all(|status| *status == 103), "{:?}", response.interim);
    let taken = u32::from_le_bytes(response.body.as_slice().try_into().unwrap()) as usize;
    assert_eq!(response.interim.len(), taken, "none is lost, none comes twice");
    taken
}

#[test]
fn a_flood_of_hints_is_bounded() {
    let server = Server::builder().wat("hint_flood").option("--workers", "1").listen("unix:hints").start();
    // Nobody reads: some leave, some wait, and the rest are refused.
    let mut client = server.client();
    client.send_get("a", "/y").unwrap();
    assert!(server.wait_for_log(|line| line.contains("hint_flood: done")).is_some());
    let taken = hints_taken(&client.response().unwrap());
    assert!((2..40).contains(&taken), "{taken} of 30 KB are more than a socket and the host may hold");
    // A client that reads them gets as many as a response may have.
    assert_eq!(hints_taken(&client.get("a", "/w").unwrap()), 64);
}

fn refused(name: &str) -> String {
    let (status, told) = Server::builder().wat(name).start_refused();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    told
}

#[test]
fn what_cannot_be_served_is_refused_at_load_with_a_reason() {
    for (name, words) in [
        ("unknown_import", &["tidegate_v1", "teleport"][..]),
        ("wrong_signature", &["respond"]),
        ("start_only", &["_start", "tidegate_handle"]),
        ("no_memory", &["memory"]),
        ("component", &["component"]),
    ] {
        let told = refused(name);
        for word in words {
            assert!(told.contains(word), "{name}: {word:?} is not in {told:?}");
        }
    }
}
