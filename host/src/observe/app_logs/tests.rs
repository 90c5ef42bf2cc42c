use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const NOBODY: RequestId = RequestId::Nothing;
const LONG: Duration = Duration::from_secs(30);

struct Logs {
    logs: AppLogs,
    guard: Guard,
    folder: TempDir,
}

fn logs(bytes_max: u64, files: u32) -> Logs {
    let folder = tempfile::tempdir().unwrap();
    let (logs, guard) = AppLogs::open(&folder.path().join("logs"), Rotation { bytes_max, files }).unwrap();
    Logs { logs, guard, folder }
}

impl Logs {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn drain(&self) {
        self.guard.drain(Instant::now() + LONG);
    }

    /// The texts of a file's lines.
    #[track_caller]
    fn texts(&self, name: &str) -> Vec<String> {
        self.drain();
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.ends_with('\n') || text.is_empty(), "{text}");
        text.lines().map(text_of).collect()
    }

    fn names(&self) -> Vec<String> {
        self.drain();
        let entries = fs::read_dir(self.folder.path().join("logs")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn text_of(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("an object a line");
    line["text"].as_str().expect("a text").to_owned()
}

fn rest(reader: &mut LogReader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Logged::Line(line) = reader.next(Duration::ZERO) {
        texts.push(text_of(&line));
    }
    texts
}

#[test]
fn each_app_has_a_file_of_its_own_and_every_line_is_an_object() {
    let logs = logs(1 << 20, 5);
    let (one, other) = (logs.logs.of("one"), logs.logs.of("other"));
    one.say(Level::Info, &RequestId::Given("r-1".into()), 3, "a \"quoted\"\nline \u{1b}[2J");
    other.say(Level::Debug, &NOBODY, 0, "theirs");
    one.fail(Level::Warn, &RequestId::Given("r-2".into()), 3, ("guest-trap", 500), "unreachable");
    one.tell(Level::Info, 4, "version 4 serves");
    logs.drain();
    let text = fs::read_to_string(logs.path("one.log")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [said, failed, told] = &lines[..] else { panic!("{text}") };
    assert_eq!(
        (&said["level"], &said["request"], &said["version"]),
        (&"info".into(), &"r-1".into(), &3.into())
    );
    assert_eq!(said["text"], "a \"quoted\"\nline \u{1b}[2J");
    assert!(!text.contains('\u{1b}'));
    humantime::parse_rfc3339(said["at"].as_str().unwrap()).unwrap();
    assert_eq!((&failed["error"], &failed["status"]), (&"guest-trap".into(), &500.into()));
    assert!(told.get("request").is_none() && told["version"] == 4);
    assert_eq!(logs.texts("other.log"), ["theirs"]);
    let mode = |name: &str| fs::metadata(logs.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("one.log"), mode("")), (0o600, 0o700));
}

#[test]
fn files_are_put_aside_and_the_oldest_goes() {
    let logs = logs(1000, 2);
    let log = logs.logs.of("a");
    for number in 0..100 {
        log.say(Level::Info, &NOBODY, 1, &format!("line {number}"));
        if number % 7 == 0 {
            logs.drain();
        }
    }
    assert_eq!(logs.names(), ["a.log", "a.log.1", "a.log.2"]);
    let mut all = Vec::new();
    for name in ["a.log.2", "a.log.1", "a.log"] {
        assert!(fs::metadata(logs.path(name)).unwrap().len() <= 1000, "{name}");
        all.extend(logs.texts(name));
    }
    // What is kept is the end, whole and in order.
    let expected: Vec<_> = (100 - all.len()..100).map(|number| format!("line {number}")).collect();
    assert!(all.len() > 20 && all == expected, "{all:?}");
    // A line that is longer than a file may be has one for itself.
    log.say(Level::Info, &NOBODY, 1, &"x".repeat(3000));
    log.say(Level::Info, &NOBODY, 1, "after");
    assert_eq!(logs.texts("a.log"), ["after"]);
    assert_eq!(logs.texts("a.log.1")[0].len(), 3000);
}

#[test]
fn without_older_files_there_is_one() {
    let logs = logs(500, 0);
    for number in 0..50 {
        logs.logs.of("a").say(Level::Info, &NOBODY, 1, &number.to_string());
    }
    assert_eq!(logs.texts("a.log").last().unwrap(), "49");
    assert_eq!(logs.names(), ["a.log"]);
    assert!(fs::metadata(logs.path("a.log")).unwrap().len() <= 500);
}

#[test]
fn names_with_dots_and_numbers_meet_nowhere() {
    let logs = logs(200, 3);
    let names = ["a", "a.log", "a.log.1", "a.log.1.log", "1", "a.1"];
    for number in 0..20 {
        for name in names {
            logs.logs.of(name).say(Level::Info, &NOBODY, 1, &format!("{name} {number}"));
        }
    }
    for name in names {
        for file in [format!("{name}.log"), format!("{name}.log.1"), format!("{name}.log.3")] {
            let texts = logs.texts(&file);
            assert!(texts.iter().all(|text| text.split(' ').next() == Some(name)), "{file}: {texts:?}");
        }
    }
    logs.logs.forget("a.log.1");
    logs.drain();
    let gone = |name: &String| name.starts_with("a.log.1.log") && !name.starts_with("a.log.1.log.log");
    assert_eq!(logs.names().iter().filter(|name| gone(name)).count(), 0, "{:?}", logs.names());
    assert_eq!(logs.names().len(), 4 * (names.len() - 1));
}

#[test]
fn links_and_pipes_are_not_followed() {
    let logs = logs(1 << 20, 5);
    let target = logs.folder.path().join("target");
    fs::write(&target, "theirs").unwrap();
    symlink(&target, logs.path("linked.log")).unwrap();
    fs::hard_link(&target, logs.path("hard.log")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        logs.path("pipe.log"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for app in ["linked", "hard", "pipe", "good"] {
        logs.logs.of(app).say(Level::Info, &NOBODY, 1, "mine");
    }
    assert_eq!(logs.texts("good.log"), ["mine"]);
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
    for app in ["linked", "hard", "pipe"] {
        assert_eq!(logs.logs.of(app).lost(), 1, "{app}");
        // Nor when somebody reads: nothing of them is shown.
        assert_eq!(rest(&mut logs.logs.follow(app, 10).unwrap()), Vec::<String>::new(), "{app}");
    }
}

#[test]
fn a_folder_that_others_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = AppLogs::open(folder.path(), Rotation { bytes_max: 1, files: 1 }).unwrap_err().to_string();
    assert!(refused.contains("chmod go-w") && refused.contains("0777"), "{refused}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = AppLogs::open(&file, Rotation { bytes_max: 1, files: 1 }).unwrap_err().to_string();
    assert!(refused.contains(&file.display().to_string()), "{refused}");
}

#[test]
fn files_that_were_moved_or_removed_are_opened_anew() {
    let logs = logs(1 << 20, 5);
    let log = logs.logs.of("a");
    log.say(Level::Info, &NOBODY, 1, "one");
    logs.drain();
    fs::rename(logs.path("a.log"), logs.path("moved")).unwrap();
    log.say(Level::Info, &NOBODY, 1, "two");
    logs.drain();
    logs.logs.reopen();
    logs.drain();
    log.say(Level::Info, &NOBODY, 1, "three");
    assert_eq!(
        (logs.texts("moved"), logs.texts("a.log")),
        (vec!["one".into(), "two".into()], vec!["three".into()])
    );
}

#[test]
fn half_a_line_that_a_crash_has_left_is_not_the_beginning_of_the_next() {
    let logs = logs(1 << 20, 5);
    fs::write(logs.path("a.log"), "{\"text\":\"cut o").unwrap();
    logs.logs.of("a").say(Level::Info, &NOBODY, 1, "whole");
    logs.drain();
    let text = fs::read_to_string(logs.path("a.log")).unwrap();
    assert_eq!(text_of(text.lines().nth(1).unwrap()), "whole", "{text}");
}

#[test]
fn few_files_are_open_however_many_apps_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open(folder.path(), Rotation { bytes_max: 1 << 20, files: 1 }).unwrap();
    for round in 0..2 {
        for app in 0..3 * files::OPEN_MAX {
            files.write(&app.to_string(), format!("{round}\n").as_bytes()).unwrap();
            assert!(files.opened() <= files::OPEN_MAX);
        }
    }
    assert_eq!(fs::read_to_string(folder.path().join("7.log")).unwrap(), "0\n1\n");
}

#[test]
fn a_reader_has_the_last_lines_and_then_every_one_once() {
    let logs = logs(2000, 3);
    let log = logs.logs.of("a");
    for number in 0..60 {
        log.say(Level::Info, &NOBODY, 1, &number.to_string());
    }
    logs.logs.of("b").say(Level::Info, &NOBODY, 1, "not yours");
    let mut reader = logs.logs.follow("a", 50).unwrap();
    // These go on while it reads, into files that are put aside meanwhile.
    let writing = thread::spawn(move || {
        for number in 60..500 {
            log.say(Level::Info, &NOBODY, 1, &number.to_string());
        }
    });
    let mut seen: Vec<u64> = rest(&mut reader).iter().map(|text| text.parse().unwrap()).collect();
    assert!(seen.len() >= 50 && seen[0] == 10, "{seen:?}");
    while seen.last() != Some(&499) {
        match reader.next(LONG) {
            Logged::Line(line) => seen.push(text_of(&line).parse().unwrap()),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    writing.join().unwrap();
    assert_eq!(seen, (10..500).collect::<Vec<_>>());
    assert_eq!(reader.next(Duration::ZERO), Logged::Quiet);
    assert_eq!(rest(&mut logs.logs.follow("a", 0).unwrap()), Vec::<String>::new());
    drop(logs.guard);
    assert_eq!(reader.next(LONG), Logged::Ended);
}

#[test]
fn a_reader_who_does_not_read_is_told_how_much_it_missed() {
    let logs = logs(1 << 30, 0);
    let log = logs.logs.of("a");
    let mut reader = logs.logs.follow("a", 10).unwrap();
    assert_eq!(reader.next(Duration::ZERO), Logged::Quiet);
    let text = "x".repeat(4000);
    for _ in 0..600 {
        log.say(Level::Info, &NOBODY, 1, &text);
        logs.drain();
    }
    let texts = rest(&mut reader);
    let (told, lines) = texts.split_last().unwrap();
    let lost: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert!(lost > 200 && lines.len() + lost == 600, "{} and {told}", lines.len());
    log.say(Level::Info, &NOBODY, 1, "again");
    assert!(matches!(reader.next(LONG), Logged::Line(line) if text_of(&line) == "again"));
}

#[test]
fn what_is_forgotten_is_seen_by_nobody_who_comes_later() {
    let logs = logs(300, 3);
    let old = logs.logs.of("a");
    for number in 0..50 {
        old.say(Level::Info, &NOBODY, 1, &format!("secret {number}"));
    }
    let mut reader = logs.logs.follow("a", 3).unwrap();
    assert_eq!(rest(&mut reader).len(), 3);
    logs.logs.forget("a");
    let new = logs.logs.of("a");
    new.say(Level::Info, &NOBODY, 1, "mine");
    // A request of the old one that is still at work.
    old.say(Level::Info, &NOBODY, 1, "secret still");
    assert_eq!(reader.next(LONG), Logged::Ended);
    assert_eq!(logs.texts("a.log"), ["mine"]);
    assert_eq!(logs.names(), ["a.log"]);
    assert_eq!(rest(&mut logs.logs.follow("a", 100).unwrap()), ["mine"]);
    // Files that somebody has left are not a new app's either.
    fs::write(logs.path("b.log.1"), "{\"text\":\"secret\"}\n").unwrap();
    let begun = logs.logs.of("b");
    logs.logs.begin("b");
    assert_eq!(rest(&mut logs.logs.follow("b", 100).unwrap()), Vec::<String>::new());
    assert_eq!(logs.names(), ["a.log"]);
    // A log that was had before its app was begun is the app's all the same.
    begun.say(Level::Info, &NOBODY, 1, "first");
    assert_eq!(logs.texts("b.log"), ["first"]);
}

#[test]
fn what_the_disk_does_not_take_is_counted_and_told_once_it_does() {
    let logs = logs(1 << 20, 1);
    // A folder in the file's place: it can not be opened.
    fs::create_dir(logs.path("a.log")).unwrap();
    let log = logs.logs.of("a");
    for _ in 0..5 {
        log.say(Level::Info, &NOBODY, 1, "lost");
        logs.drain();
    }
    assert_eq!(log.lost(), 5);
    fs::remove_dir(logs.path("a.log")).unwrap();
    log.say(Level::Info, &NOBODY, 1, "back");
    let texts = logs.texts("a.log");
    assert!(
        texts.len() == 2 && texts[0].starts_with("5 lines are missing") && texts[1] == "back",
        "{texts:?}"
    );
    assert_eq!(log.log.dropped.load(Relaxed), 0);
}

#[test]
fn an_app_that_floods_fills_its_own_part_of_the_queue() {
    let logs = logs(1 << 30, 0);
    let (flood, quiet) = (logs.logs.of("flood"), logs.logs.of("quiet"));
    let text = "x".repeat(16 * 1024);
    for _ in 0..2000 {
        flood.say(Level::Info, &NOBODY, 1, &text);
        assert!(flood.log.queued.load(Relaxed) <= APP_BYTES_MAX);
    }
    quiet.say(Level::Info, &NOBODY, 1, "heard");
    assert_eq!(logs.texts("quiet.log"), ["heard"]);
    assert_eq!((quiet.lost(), flood.log.queued.load(Relaxed)), (0, 0));
    // Nothing vanishes: what is not in the file was counted, and told there.
    logs.drain();
    let lines = logs.texts("flood.log");
    let missing: u64 = lines
        .iter()
        .filter(|line| line.contains("lines are missing"))
        .map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let whole = lines.iter().filter(|line| line.len() == text.len()).count() as u64;
    assert_eq!((whole + missing, missing), (2000, flood.lost()));
    assert!(fs::metadata(logs.path("flood.log")).unwrap().size() > 0);
}
