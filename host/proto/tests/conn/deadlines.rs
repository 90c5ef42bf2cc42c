//! Every wait has a deadline, and leaving it clears the deadline.

use tidegate_proto::conn::{NEVER, Timeout};
use tidegate_proto::limits::Limits;

use crate::answer::Answer;
use crate::server::{End, Server};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";

#[test]
fn a_first_head_is_timed_from_accept() {
    let mut silent = Server::naming();
    assert_eq!(silent.deadline(), 10_000);
    assert_eq!(silent.advance(9_999), None);
    assert_eq!(silent.advance(10_000), Some(Timeout::Idle), "there is nobody to tell");
    assert_eq!((silent.end, silent.wire.len()), (Some(End::Closed), 0));

    let mut slow = Server::naming();
    slow.now = 9_000;
    slow.receive("G");
    assert_eq!(slow.deadline(), 10_000);
    slow.now = 9_999;
    slow.receive("E");
    assert_eq!(slow.deadline(), 10_000, "further bytes buy no time");
    assert_eq!(slow.advance(10_000), Some(Timeout::Head));
    assert_eq!((slow.statuses(), slow.end), (vec![408], Some(End::Lingering)));
    assert_eq!(slow.deadline(), 12_000);
}

#[test]
fn a_later_head_is_timed_from_its_first_byte() {
    let mut server = Server::naming();
    server.now = 1_000;
    server.receive(GET);
    assert_eq!(server.deadline(), 66_000, "idle");
    server.now = 65_900;
    server.receive("G");
    assert_eq!(server.deadline(), 75_900, "however long it was idle before");
    assert_eq!(server.advance(75_900), Some(Timeout::Head));
    assert_eq!(server.statuses(), [200, 408]);
}

#[test]
fn a_head_may_take_longer_than_idling() {
    let limits = Limits { idle_ms_max: 50, head_ms_max: 1_000, ..Limits::default() };
    let mut server = Server::with_limits(limits, |_| Answer::new(""));
    server.receive([GET, "G"].concat());
    assert_eq!(server.deadline(), 1_000);
}

#[test]
fn an_idle_connection_closes_without_a_word() {
    let mut server = Server::naming();
    server.receive(GET);
    let sent = server.wire.len();
    assert_eq!(server.advance(64_999), None);
    assert_eq!(server.advance(65_000), Some(Timeout::Idle));
    assert_eq!((server.end, server.wire.len()), (Some(End::Closed), sent));
}

#[test]
fn a_guest_at_work_is_not_the_clients_fault() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive(GET);
    assert_eq!(server.deadline(), NEVER);
    server.unstall();
    assert_eq!(server.deadline(), 65_000, "answered, and idle again");
}

#[test]
fn a_body_has_to_keep_its_rate() {
    let mut server = Server::naming();
    server.now = 3_000;
    server.receive(POST);
    assert_eq!(server.deadline(), 8_000);
    server.receive("x".repeat(480));
    assert_eq!(server.advance(8_000), None, "480 bytes are worth two seconds");
    assert_eq!(server.deadline(), 10_000);
    assert_eq!(server.advance(10_000), Some(Timeout::Body));
    assert_eq!((server.statuses(), server.end), (vec![408], Some(End::Lingering)));
}

#[test]
fn no_burst_buys_a_body_the_right_to_stand_still() {
    let mut server = Server::naming();
    server.receive(POST);
    server.receive("x".repeat(90_000));
    assert_eq!(server.advance(5_000), None);
    assert_eq!(server.advance(10_000), Some(Timeout::Body));
}

#[test]
fn a_whole_body_has_no_deadline() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    assert_eq!(server.deadline(), 5_000);
    server.receive("y");
    assert_eq!(server.deadline(), NEVER);
}

#[test]
fn a_body_that_we_do_not_read_has_no_deadline() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive(POST);
    server.conn.pause_input();
    assert_eq!(server.deadline(), NEVER);
    server.conn.resume_input(70_000);
    assert_eq!(server.deadline(), 75_000, "its grace begins afresh");
    server.conn.resume_input(71_000);
    assert_eq!(server.deadline(), 75_000, "but only once");
}

#[test]
fn a_reader_has_to_keep_its_rate() {
    let mut server = Server::new(|_| Answer::new("x".repeat(60_000)));
    server.room = 0;
    server.now = 1_000;
    server.receive(GET);
    assert_eq!(server.deadline(), 11_000);
    server.writable(2_400);
    assert_eq!(server.deadline(), 11_000, "still blocked: the same clock");
    assert_eq!(server.advance(11_000), None);
    assert_eq!(server.deadline(), 21_000, "2,400 bytes are worth ten seconds");
    server.conn.handle_drained(240, 21_000, &server.limits);
    assert_eq!(server.advance(21_000), None, "what the system could get rid of counts too");
    assert_eq!(server.deadline(), 22_000);
    assert_eq!(server.advance(22_000), Some(Timeout::Reader));
    assert_eq!(server.end, Some(End::Aborted));
}

#[test]
fn a_reader_that_catches_up_has_no_deadline() {
    let mut server = Server::new(|_| Answer::new("").streamed(&["one", "two"]));
    server.room = 0;
    server.stalled = true;
    server.receive(GET);
    server.conn.send_head(&Answer::new("").head, None, b"now", None, &mut server.out).expect("the first");
    server.drive();
    assert_eq!(server.deadline(), 10_000);
    server.now = 9_000;
    server.writable(usize::MAX);
    assert_eq!(server.deadline(), NEVER, "nothing is queued: a stream may rest");
    server.room = 0;
    server.now = 50_000;
    server.flush();
    assert_eq!(server.deadline(), NEVER);
}

#[test]
fn after_a_half_close_the_answer_has_to_move() {
    let mut server = Server::new(|_| Answer::new("x".repeat(10_000)));
    server.room = 0;
    server.receive(GET);
    server.receive_eof();
    assert_eq!(server.deadline(), 2_000);
    server.now = 1_500;
    server.writable(1);
    assert_eq!(server.deadline(), 3_500, "it moved");
    server.now = 3_000;
    server.writable(0);
    assert_eq!(server.deadline(), 3_500, "it did not");
    assert_eq!(server.advance(3_500), Some(Timeout::HalfClose));
    assert_eq!(server.end, Some(End::Closed));
}

#[test]
fn a_hang_up_that_was_only_feared_is_forgotten_with_the_answer() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive([GET, GET].concat());
    server.receive_eof();
    assert_eq!(server.deadline(), 2_000, "known before the second request is taken");
    server.unstall();
    assert_eq!((server.statuses(), server.deadline()), (vec![200, 200], 65_000));
}

#[test]
fn a_refusal_is_under_the_readers_clock() {
    let mut server = Server::naming();
    server.room = 10;
    server.receive("rubbish\n");
    assert_eq!(server.deadline(), 10_000);
    server.now = 1_000;
    server.writable(usize::MAX);
    assert_eq!((server.end, server.deadline()), (Some(End::Lingering), 3_000));
}

#[test]
fn the_earlier_of_two_deadlines_counts() {
    let mut server = Server::new(|_| Answer::new("").streamed(&["x"]).reads(crate::answer::Reads::Late));
    server.room = 0;
    server.receive(POST);
    // The answer is complete but stuck: the body is thrown away for 5 s at most, and the reader has 10 s.
    assert_eq!(server.deadline(), 5_000);
    assert_eq!((server.advance(5_000), server.deadline()), (None, 10_000));
    assert_eq!(server.advance(10_000), Some(Timeout::Reader));
}
