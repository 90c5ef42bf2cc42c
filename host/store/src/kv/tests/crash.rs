//! What is left when the process is killed, and when the disk is full. The tests start themselves again as children.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::model::Dice;
use super::*;

/// What tells a child where to write.
const PLACE: &str = "TIDEGATE_TEST_KV";

fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("kv::tests::crash::{test}");
    command.args([&name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(PLACE, path).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Writes until it is killed, eight operations at a time, and says what was answered: each time the counter and a row of
/// keys that belongs to it.
#[test]
#[ignore = "the child of another test"]
fn writes_until_it_is_killed() {
    let path = std::env::var(PLACE).unwrap();
    let backend = Embedded::file(Path::new(&path));
    let a = space("a");
    let mut out = std::io::stdout().lock();
    let mut round = match run(&backend, &a, Operation::Get(key("round"))) {
        Ok(Answer::Value(value)) => value.map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap()),
        other => panic!("{other:?}"),
    };
    loop {
        round += 1;
        let mut pairs = vec![(key("round"), round.to_string().into_bytes())];
        pairs.extend((0..4).map(|n| (key(&format!("copy{n}")), round.to_string().into_bytes())));
        let asked = [
            ask(&backend, &a, None, Operation::Increment(key("count"), 1)),
            ask(&backend, &a, None, Operation::SetMany(pairs)),
            ask(&backend, &space("b"), None, Operation::Increment(key("count"), 1)),
            ask(&backend, &a, None, set(&format!("r{}", round % 50), &vec![b'x'; (round % 3_000) as usize])),
        ];
        for heard in &asked {
            assert!(done(heard).is_ok());
        }
        let _: u64 = round;
        writeln!(out, "round {round}").unwrap();
        out.flush().unwrap();
    }
}

/// Reads lines until one is a round's.
fn next_round(lines: &mut impl BufRead) -> Option<u64> {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some((_, round)) = line.trim_end().rsplit_once("round ") {
            return round.parse().ok();
        }
        line.clear();
    }
    None
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it was at work until it was killed");
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_nothing_is_there_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    let mut dice = Dice::new(7);
    for _ in 0..15 {
        let mut child = child("writes_until_it_is_killed", &path).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut told = next_round(&mut lines).expect("it writes");
        for _ in 0..dice.below(20) {
            told = next_round(&mut lines).expect("it writes");
        }
        // At any moment of the next round.
        std::thread::sleep(Duration::from_micros(dice.below(8_000)));
        kill(child);
        while let Some(round) = next_round(&mut lines) {
            told = round;
        }
        let backend = Embedded::file(&path);
        let read = |space: &str, at: &str| match run(&backend, &super::space(space), Operation::Get(key(at)))
        {
            Ok(Answer::Value(Some(text))) => String::from_utf8(text).unwrap().parse::<u64>().unwrap(),
            other => panic!("{at}: {other:?}"),
        };
        let round = read("a", "round");
        assert!(round == told || round == told + 1, "{round} after {told} was answered");
        assert!((0..4).all(|n| read("a", &format!("copy{n}")) == round), "all of it or nothing");
        for space in ["a", "b"] {
            let count = read(space, "count");
            assert!(count == told || count == told + 1, "{count} after {told}");
        }
        // Counts are those of the pairs.
        let Ok(Answer::Keys(page)) = run(&backend, &super::space("a"), list("", None)) else {
            panic!("a page")
        };
        let Ok(Answer::Values(values)) =
            run(&backend, &super::space("a"), Operation::GetMany(page.keys.clone()))
        else {
            panic!("values")
        };
        let bytes = page.keys.iter().map(|key| key.len()).sum::<usize>()
            + values.iter().flatten().map(Vec::len).sum::<usize>();
        let usage = Usage { keys: page.keys.len() as u64, bytes: bytes as u64 };
        assert_eq!(backend.usage("a"), Ok(usage));
        // For the next one to begin where it knows.
        let number = |n: u64| set("count", n.to_string().as_bytes());
        run(&backend, &super::space("a"), number(round)).unwrap();
        run(&backend, &super::space("b"), number(round)).unwrap();
    }
}

/// As a server that hands over to its successor does: both have the file open, and both count.
#[test]
fn two_processes_work_on_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    let mut child = child("writes_until_it_is_killed", &path).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    next_round(&mut lines).expect("it writes");
    let backend = Embedded::file(&path);
    let c = space("c");
    for wanted in 1..=20 {
        let sum = run(&backend, &c, Operation::Increment(key("n"), 1));
        assert_eq!(sum, Ok(Answer::Number(wanted)));
    }
    let told = next_round(&mut lines).expect("it goes on");
    kill(child);
    let count = match run(&backend, &space("b"), Operation::Increment(key("count"), 0)) {
        Ok(Answer::Number(count)) => count as u64,
        other => panic!("{other:?}"),
    };
    assert!(count >= told, "{count} after {told} was answered");
    assert_eq!(run(&backend, &c, Operation::Increment(key("n"), 1)), Ok(Answer::Number(21)));
}

/// Writes until there is no room, says so, deletes, and writes again.
#[test]
#[ignore = "the child of another test"]
fn fills_its_disk() {
    let path = std::env::var(PLACE).unwrap();
    let backend = Embedded::file(Path::new(&path));
    let a = space("a");
    let value = vec![b'x'; 50_000];
    let mut written = 0;
    let error = loop {
        match run(&backend, &a, set(&written.to_string(), &value)) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "there was to be less room than that");
    };
    assert_eq!(error, Error::DiskFull);
    assert!(written > 5);
    for n in 0..written {
        let found = run(&backend, &a, Operation::Get(key(&n.to_string())));
        assert_eq!(found, Ok(Answer::Value(Some(value.clone()))), "{n}");
    }
    assert_eq!(backend.usage("a").unwrap().keys, written);
    println!("full after {written}");
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    let inner = child("fills_its_disk", &path);
    // A limit on the size of files stands in for the end of a disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$@\"", "sh"]).arg(inner.get_program());
    command.args(inner.get_args()).env(PLACE, &path);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("full after "), "{text}\n{shown}");
    // With room again, it goes on.
    let backend = Embedded::file(&path);
    let keys = backend.usage("a").unwrap().keys;
    assert_eq!(run(&backend, &space("a"), set("more", b"x")), Ok(Answer::Done));
    assert_eq!(backend.usage("a").unwrap().keys, keys + 1);
}
