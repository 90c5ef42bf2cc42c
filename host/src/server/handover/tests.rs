//! The old process's side against processes that do not do their part.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::*;

fn shell(script: &str) -> Binary {
    let arguments = ["tidegate", "-c", script].map(OsString::from).to_vec();
    Binary { program: "/bin/sh".into(), arguments }
}

fn refused(script: &str, within: Duration) -> String {
    let mut successor = Successor::start(&shell(script), within).unwrap();
    // It may be gone by then.
    let _ = successor.begin();
    format!("{:#}", successor.wish().unwrap_err())
}

#[test]
fn a_process_that_does_not_take_over_is_told_apart() {
    let long = Duration::from_secs(60);
    assert!(refused("exit 3", long).contains("exit status: 3"));
    assert!(refused("exit 0", long).contains("exit status: 0"));
    assert!(refused("exec sleep 600", Duration::from_millis(200)).contains("not ready in time"));
    assert!(refused("exec 0</dev/null; exec sleep 600", long).contains("hung up"));
    // Standard input is a socket: what is said there is heard.
    assert!(refused("echo nonsense >&0; exec sleep 600", long).contains("can not be read"));
    assert!(refused("printf '{\"kind\":\"go\"}' >&0; exec sleep 600", long).contains("not its to say"));
    let missing = Binary { program: "/nowhere/tidegate".into(), arguments: vec!["tidegate".into()] };
    assert!(Successor::start(&missing, long).unwrap_err().to_string().contains("can not be run"));
}

#[test]
fn a_process_that_takes_over_is_known_by_what_it_says_and_lives_on() {
    let script = "printf '{\"kind\":\"need-state\"}' >&0; printf '{\"kind\":\"ready\"}' >&0; exec sleep 600";
    let mut successor = Successor::start(&shell(script), Duration::from_secs(60)).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    successor.give(0, "127.0.0.1:0", true, &[file.as_fd(), file.as_fd()]).unwrap();
    successor.begin().unwrap();
    assert_eq!(successor.wish().unwrap(), Wish::State);
    successor.go().unwrap();
    assert_eq!(successor.wish().unwrap(), Wish::Nothing);
    let pid = rustix::process::Pid::from_raw(i32::try_from(successor.pid()).unwrap()).unwrap();
    successor.release();
    rustix::process::test_kill_process(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
}

#[test]
fn a_wait_ends_when_the_server_is_to_end() {
    let mut successor = Successor::start(&shell("exec sleep 600"), Duration::from_secs(60)).unwrap();
    let interrupter = successor.interrupter();
    let began = Instant::now();
    let waiting = std::thread::spawn(move || successor.wish().map(drop));
    interrupter.interrupt();
    assert!(waiting.join().unwrap().unwrap_err().to_string().contains("is to end"));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn sockets_of_one_address_come_together_however_many_there_are() {
    let (here, there) = wire::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let sockets = |number| wire::Message::Sockets { wanted: "127.0.0.1:0".to_owned(), number, is_ours: true };
    for (number, count) in [(0, wire::FDS_MAX), (0, 3), (1, 2)] {
        wire::send(&here, &sockets(number), &vec![file.as_fd(); count]).unwrap();
    }
    wire::send(&here, &wire::Message::Begin, &[]).unwrap();
    let (predecessor, handed) = Predecessor::meet(there).unwrap();
    let counts: Vec<_> = handed.iter().map(|handed| handed.sockets.len()).collect();
    assert_eq!(counts, [wire::FDS_MAX + 3, 2]);
    // It is asked for the state, and is gone then: that frees it.
    let asked = std::thread::spawn(move || {
        let told = wire::receive(&here).unwrap().map(|(message, _)| message);
        wire::send(&here, &wire::Message::Go, &[]).unwrap();
        told
    });
    predecessor.claim_state().unwrap();
    assert_eq!(asked.join().unwrap(), Some(wire::Message::NeedState));
    predecessor.claim_state().unwrap();
    predecessor.relieve();
}
