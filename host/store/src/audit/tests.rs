use std::time::Duration;

use super::*;

fn record(number: u64) -> AuditRecord {
    AuditRecord {
        at_ms: number,
        by: "token ci".to_owned(),
        action: "deploy".to_owned(),
        app: Some("shop".to_owned()),
        version: Some(number),
        ok: true,
        detail: None,
    }
}

fn folder() -> (tempfile::TempDir, Arc<Folder>) {
    let kept = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(kept.path()).unwrap());
    (kept, folder)
}

fn small(folder: &Arc<Folder>, bytes_max: u64) -> Audit {
    let mut audit = Audit::new(folder);
    audit.bytes_max = bytes_max;
    audit
}

fn numbers(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["at_ms"].as_u64().unwrap()).collect()
}

#[test]
fn what_is_told_is_told_back() {
    let (_kept, folder) = folder();
    let audit = Audit::new(&folder);
    assert!(audit.tail(5).unwrap().is_empty());
    for number in 0..7 {
        audit.append("", &record(number)).unwrap();
    }
    assert_eq!(numbers(&audit.tail(3).unwrap()), [4, 5, 6]);
    assert_eq!(numbers(&audit.tail(100).unwrap()), [0, 1, 2, 3, 4, 5, 6]);
    assert!(audit.tail(0).unwrap().is_empty());
    let last: AuditRecord = serde_json::from_value(audit.tail(1).unwrap().remove(0)).unwrap();
    assert_eq!(last, record(6));
}

#[test]
fn a_line_that_was_cut_off_takes_no_other_with_it() {
    let (kept, folder) = folder();
    Audit::new(&folder).append("", &record(1)).unwrap();
    let path = kept.path().join(NAME);
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(br#"{"at_ms":2,"by":"to"#);
    std::fs::write(&path, text).unwrap();
    let audit = Audit::new(&folder);
    audit.append("", &record(3)).unwrap();
    audit.append("", &record(4)).unwrap();
    assert_eq!(numbers(&audit.tail(9).unwrap()), [1, 3, 4]);
}

#[test]
fn lines_of_any_length_are_found_from_the_end() {
    let (_kept, folder) = folder();
    let audit = Audit::new(&folder);
    for number in 0..60 {
        let long = "x".repeat(usize::try_from(number * 397).unwrap());
        audit.append("", &AuditRecord { detail: Some(long), ..record(number) }).unwrap();
    }
    for lines in [1, 2, 20, 59, 60, 61] {
        let wanted: Vec<u64> = (60_u64.saturating_sub(lines)..60).collect();
        assert_eq!(numbers(&audit.tail(usize::try_from(lines).unwrap()).unwrap()), wanted);
    }
}

#[test]
fn a_large_file_is_replaced_and_the_one_before_is_kept() {
    let (kept, folder) = folder();
    let audit = small(&folder, 1000);
    for number in 0..100 {
        audit.append("", &record(number)).unwrap();
    }
    for name in [NAME, OLD_NAME] {
        let bytes = std::fs::metadata(kept.path().join(name)).unwrap().len();
        assert!((1..=1000).contains(&bytes), "{name} has {bytes} bytes");
    }
    assert_eq!(std::fs::read_dir(kept.path()).unwrap().count(), 2);
    let told = numbers(&audit.tail(100).unwrap());
    assert!(told.len() > 10, "both files are read: {told:?}");
    assert!(told.is_sorted() && told.last() == Some(&99), "{told:?}");
}

#[test]
fn who_moves_the_file_away_has_it() {
    let (kept, folder) = folder();
    let audit = Audit::new(&folder);
    audit.append("", &record(1)).unwrap();
    std::fs::rename(kept.path().join(NAME), kept.path().join("mine")).unwrap();
    audit.append("", &record(2)).unwrap();
    assert_eq!(numbers(&audit.tail(9).unwrap()), [2]);
}

fn refusal(number: u64, by: &str) -> AuditRecord {
    AuditRecord { by: by.to_owned(), ok: false, detail: Some(format!("no {number}")), ..record(number) }
}

#[test]
fn whoever_is_refused_without_end_pushes_nobody_out() {
    let (kept, folder) = folder();
    let audit = small(&folder, 20_000);
    let start = Instant::now();
    audit.append_at("uid 0", &record(1), start).unwrap();
    for number in 2..50_000 {
        audit.append_at("token acme", &refusal(number, "token acme"), start).unwrap();
    }
    // What others do is told as ever, and what they are refused.
    audit.append_at("uid 0", &refusal(50_000, "uid 0"), start).unwrap();
    assert!(!kept.path().join(OLD_NAME).exists());
    // Whoever looks is told how many there were.
    let told = audit.tail(100).unwrap();
    assert_eq!(numbers(&told[..2]), [1, 2]);
    let sums: Vec<_> = told.iter().filter(|record| record["at_ms"] == 49_999).collect();
    let detail = sums[0]["detail"].as_str().unwrap();
    let counted: usize =
        detail.strip_suffix(" more times; the last time: no 49999").unwrap().parse().unwrap();
    let alone = told.iter().filter(|record| record["by"] == "token acme").count() - 1;
    assert_eq!((sums.len(), alone + counted), (1, 49_998));
    assert!(alone < 100, "{alone}");
    assert_eq!(audit.tail(100).unwrap().len(), told.len(), "once");
}

#[test]
fn sums_are_told_before_what_comes_next() {
    let (kept, folder) = folder();
    let audit = Audit::new(&folder);
    let start = Instant::now();
    let alone = (0..1000).take_while(|number| {
        audit.append_at("a", &refusal(*number, "a"), start).unwrap();
        audit.written.lock().unwrap().refusals.take(Some("a")).is_empty()
    });
    let alone = u64::try_from(alone.count()).unwrap();
    let lines = || std::fs::read_to_string(kept.path().join(NAME)).unwrap().lines().count() as u64;
    assert_eq!(lines(), alone);
    // One that was counted alone is a record like any other.
    audit.append_at("a", &refusal(2000, "a"), start).unwrap();
    audit.append_at("a", &record(2001), start).unwrap();
    assert_eq!(numbers(&audit.tail(2).unwrap()), [2000, 2001]);
    // Two of them; and time passes, until somebody else does something.
    for number in [3000, 3001] {
        audit.append_at("a", &refusal(number, "a"), start).unwrap();
    }
    assert_eq!(lines(), alone + 2);
    let later = start + Duration::from_secs(3600);
    audit.append_at("b", &record(4000), later).unwrap();
    assert_eq!(lines(), alone + 4);
    let last = audit.tail(2).unwrap();
    assert_eq!(last[0]["detail"], "2 more times; the last time: no 3001");
    assert_eq!(numbers(&last), [3001, 4000]);
    // After a while there is one more of its own.
    audit.append_at("a", &refusal(5000, "a"), later).unwrap();
    assert_eq!(lines(), alone + 5);
}

#[test]
fn what_was_counted_is_told_at_the_end() {
    let (kept, folder) = folder();
    let audit = Audit::new(&folder);
    for number in 0..100 {
        audit.append("", &refusal(number, "192.0.2.1")).unwrap();
    }
    drop(audit);
    let text = std::fs::read_to_string(kept.path().join(NAME)).unwrap();
    assert!(text.lines().last().unwrap().contains(" more times; the last time: no 99"), "{text}");
}

#[test]
fn actors_are_bounded_in_number() {
    let (_kept, folder) = folder();
    let audit = Audit::new(&folder);
    for number in 0..2000 {
        let by = format!("192.0.2.{number}");
        audit.append(&by, &refusal(number, &by)).unwrap();
    }
    let told = audit.tail(5000).unwrap();
    assert!((100..500).contains(&told.len()), "{}", told.len());
    assert!(told.iter().any(|record| record["detail"].as_str().unwrap().contains("more times")));
}

#[test]
fn a_refusal_that_stands_for_several_counts_as_that() {
    let (_kept, folder) = folder();
    let audit = Audit::new(&folder);
    for number in 0..100 {
        audit.append_times("", 50, &refusal(number, "192.0.2.1")).unwrap();
    }
    let told = audit.tail(200).unwrap();
    let detail = |record: &Value| record["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail(&told[0]), "no 0 (50 times)");
    let (sum, alone) = told.split_last().unwrap();
    let counted = (100 - alone.len()) * 50;
    assert_eq!(detail(sum), format!("{counted} more times; the last time: no 99"));
}

#[test]
fn what_is_done_and_refused_by_turns_has_few_sums() {
    let (kept, folder) = folder();
    let audit = Audit::new(&folder);
    let start = Instant::now();
    for number in 0..1000 {
        audit.append_at("a", &refusal(number, "a"), start).unwrap();
        audit.append_at("a", &record(number), start).unwrap();
    }
    let lines = std::fs::read_to_string(kept.path().join(NAME)).unwrap().lines().count();
    assert!((1000..1100).contains(&lines), "{lines}");
    // All of them are told all the same.
    let told = audit.tail(5000).unwrap();
    let times = |record: &&Value| {
        let detail = record["detail"].as_str().unwrap();
        detail.split_once(" more times").map_or(1, |(times, _)| times.parse().unwrap())
    };
    let refused: u64 = told.iter().filter(|record| record["ok"] == false).map(|record| times(&record)).sum();
    assert_eq!(refused, 1000);
}
