use super::*;

fn record(number: u64) -> AuditRecord {
    AuditRecord {
        at_ms: number,
        by: "token ci".to_owned(),
        action: "deploy".to_owned(),
        app: Some("shop".to_owned()),
        version: Some(number),
        ok: number.is_multiple_of(2),
        detail: None,
    }
}

fn folder() -> (tempfile::TempDir, Arc<Folder>) {
    let kept = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(kept.path()).unwrap());
    (kept, folder)
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
        audit.append(&record(number)).unwrap();
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
    Audit::new(&folder).append(&record(1)).unwrap();
    let path = kept.path().join(NAME);
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(br#"{"at_ms":2,"by":"to"#);
    std::fs::write(&path, text).unwrap();
    let audit = Audit::new(&folder);
    audit.append(&record(3)).unwrap();
    audit.append(&record(4)).unwrap();
    assert_eq!(numbers(&audit.tail(9).unwrap()), [1, 3, 4]);
}

#[test]
fn lines_of_any_length_are_found_from_the_end() {
    let (_kept, folder) = folder();
    let audit = Audit::new(&folder);
    for number in 0..60 {
        let long = "x".repeat(usize::try_from(number * 397).unwrap());
        audit.append(&AuditRecord { detail: Some(long), ..record(number) }).unwrap();
    }
    for lines in [1, 2, 20, 59, 60, 61] {
        let wanted: Vec<u64> = (60_u64.saturating_sub(lines)..60).collect();
        assert_eq!(numbers(&audit.tail(usize::try_from(lines).unwrap()).unwrap()), wanted);
    }
}

#[test]
fn a_large_file_is_replaced_and_the_one_before_is_kept() {
    let (kept, folder) = folder();
    let audit = Audit { bytes_max: 1000, ..Audit::new(&folder) };
    for number in 0..100 {
        audit.append(&record(number)).unwrap();
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
    audit.append(&record(1)).unwrap();
    std::fs::rename(kept.path().join(NAME), kept.path().join("mine")).unwrap();
    audit.append(&record(2)).unwrap();
    assert_eq!(numbers(&audit.tail(9).unwrap()), [2]);
}
