//! The embedded backend: what each operation does, quotas, a model, and what a crash leaves.

mod crash;
mod model;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

/// Far more than any test needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn set(at: &str, value: &[u8]) -> Operation {
    Operation::Set(key(at), value.to_vec())
}

fn space_of(name: &str, owner: &str, keys: u64, bytes: u64) -> Arc<Space> {
    Arc::new(Space { name: name.into(), owner: owner.into(), quota: Quota { keys, bytes } })
}

fn space(name: &str) -> Arc<Space> {
    space_of(name, "", 1_000_000, 1 << 30)
}

/// Asks, and does not wait.
fn ask(
    backend: &Embedded,
    space: &Arc<Space>,
    pool: Option<&Arc<Pool>>,
    operation: Operation,
) -> Receiver<Result<Answer, Error>> {
    let (told, heard) = channel();
    let reply = Box::new(move |answer| drop(told.send(answer)));
    backend.submit(Request { space: Arc::clone(space), pool: pool.cloned(), operation, reply });
    heard
}

fn done(heard: &Receiver<Result<Answer, Error>>) -> Result<Answer, Error> {
    heard.recv_timeout(PATIENCE).expect("every request is answered")
}

fn run(backend: &Embedded, space: &Arc<Space>, operation: Operation) -> Result<Answer, Error> {
    done(&ask(backend, space, None, operation))
}

fn keys(page: &[&str], more: bool) -> Result<Answer, Error> {
    Ok(Answer::Keys(Page { keys: page.iter().map(|text| key(text)).collect(), more }))
}

fn list(prefix: &str, after: Option<&str>) -> Operation {
    Operation::List { prefix: prefix.into(), after: after.map(key) }
}

#[test]
fn each_operation_does_what_it_says() {
    let (backend, a) = (Embedded::memory(), space("a"));
    let run = |operation| run(&backend, &a, operation);
    let value = |text: &str| Ok(Answer::Value(Some(text.as_bytes().to_vec())));
    assert_eq!(run(Operation::Get(key("x"))), Ok(Answer::Value(None)), "nothing was ever written");
    assert_eq!(run(list("", None)), keys(&[], false));
    assert_eq!(run(Operation::Delete(key("x"))), Ok(Answer::Done));
    assert_eq!(run(set("x", b"1")), Ok(Answer::Done));
    assert_eq!(run(Operation::Get(key("x"))), value("1"));
    assert_eq!(run(set("x", b"")), Ok(Answer::Done));
    assert_eq!(run(Operation::Get(key("x"))), value(""), "an empty value is a value");
    assert_eq!(run(Operation::Exists(key("x"))), Ok(Answer::Found(true)));
    assert_eq!(run(Operation::Exists(key("y"))), Ok(Answer::Found(false)));
    assert_eq!(run(Operation::Delete(key("x"))), Ok(Answer::Done));
    assert_eq!(run(Operation::Exists(key("x"))), Ok(Answer::Found(false)));

    let many = vec![(key("b"), b"2".to_vec()), (key("c"), b"3".to_vec()), (key("b"), b"4".to_vec())];
    assert_eq!(run(Operation::SetMany(many)), Ok(Answer::Done));
    let found = Answer::Values(vec![Some(b"4".to_vec()), None, Some(b"3".to_vec())]);
    assert_eq!(
        run(Operation::GetMany(vec![key("b"), key("z"), key("c")])),
        Ok(found),
        "the last value stays"
    );
    assert_eq!(run(Operation::Usage), Ok(Answer::Usage(Usage { keys: 2, bytes: 4 })));
    assert_eq!(run(Operation::DeleteMany(vec![key("b"), key("b"), key("z")])), Ok(Answer::Done));
    assert_eq!(backend.usage("a"), Ok(Usage { keys: 1, bytes: 2 }));
}

#[test]
fn numbers_are_decimal_texts() {
    let (backend, a) = (Embedded::memory(), space("a"));
    let add = |at: &str, delta| run(&backend, &a, Operation::Increment(key(at), delta));
    assert_eq!(add("n", 5), Ok(Answer::Number(5)));
    assert_eq!(add("n", -7), Ok(Answer::Number(-2)));
    assert_eq!(run(&backend, &a, Operation::Get(key("n"))), Ok(Answer::Value(Some(b"-2".to_vec()))));
    run(&backend, &a, set("m", b"41")).unwrap();
    assert_eq!(add("m", 1), Ok(Answer::Number(42)));
    assert_eq!(add("big", i64::MAX), Ok(Answer::Number(i64::MAX)));
    assert_eq!(add("big", 1), Err(Error::Overflow));
    assert_eq!(add("big", 0), Ok(Answer::Number(i64::MAX)), "and it is as it was");
    for no_number in [&b"x"[..], b"", b"1.0", b" 1", b"\xff", b"9223372036854775808"] {
        run(&backend, &a, set("m", no_number)).unwrap();
        assert_eq!(add("m", 1), Err(Error::NotANumber), "{no_number:?}");
    }
}

#[test]
fn a_swap_happens_only_if_the_value_is_the_old_one() {
    let (backend, a) = (Embedded::memory(), space("a"));
    let swap = |old: Option<&str>, new: Option<&str>| {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        run(&backend, &a, Operation::Swap { key: key("k"), old: bytes(old), new: bytes(new) })
    };
    assert_eq!(swap(Some("x"), Some("y")), Ok(Answer::Found(false)));
    assert_eq!(swap(None, Some("1")), Ok(Answer::Found(true)));
    assert_eq!(swap(None, Some("2")), Ok(Answer::Found(false)));
    assert_eq!(swap(Some("1"), Some("2")), Ok(Answer::Found(true)));
    assert_eq!(swap(Some("1"), None), Ok(Answer::Found(false)));
    assert_eq!(swap(Some("2"), None), Ok(Answer::Found(true)));
    assert_eq!(swap(None, None), Ok(Answer::Found(true)));
    assert_eq!(backend.usage("a"), Ok(Usage::default()));
}

#[test]
fn listings_come_in_pages_and_stay_within_their_prefix() {
    let (backend, a) = (Embedded::memory(), space("a"));
    for other in ["", "b"] {
        let name = format!("a{other}");
        run(&backend, &space(&name), set("p/z", other.as_bytes())).unwrap();
    }
    for at in ["p", "p/", "p/1", "p/2", "p0", "o", "p/\u{fc}"] {
        run(&backend, &a, set(at, b"x")).unwrap();
    }
    let of = |prefix: &str, after: Option<&str>| run(&backend, &a, list(prefix, after));
    assert_eq!(of("p/", None), keys(&["p/", "p/1", "p/2", "p/z", "p/\u{fc}"], false));
    assert_eq!(of("p/", Some("p/1")), keys(&["p/2", "p/z", "p/\u{fc}"], false));
    assert_eq!(of("p/", Some("a")), keys(&["p/", "p/1", "p/2", "p/z", "p/\u{fc}"], false), "before them all");
    assert_eq!(of("p/", Some("q")), keys(&[], false), "behind them all");
    assert_eq!(of("p0", None), keys(&["p0"], false));
    assert_eq!(of("q", None), keys(&[], false));

    let pairs = |from: usize| (from..from + 700).map(|n| (key(&format!("n{n:05}")), Vec::new())).collect();
    for from in [0, 700] {
        run(&backend, &a, Operation::SetMany(pairs(from))).unwrap();
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Ok(Answer::Keys(page)) = of("n", after.as_deref()) else { panic!("a page") };
        assert!(page.keys.len() <= PAGE_KEYS_MAX);
        after = page.keys.last().map(|last| last.to_string());
        all.extend(page.keys);
        if !page.more {
            break;
        }
    }
    assert_eq!(all.len(), 1400);
    assert!(all.is_sorted() && all[1399] == key("n01399"));
    // Few that are long are a page, too.
    for n in 0..80 {
        run(&backend, &a, set(&format!("long{n:02}{}", "x".repeat(1000)), b"")).unwrap();
    }
    let Ok(Answer::Keys(page)) = of("long", None) else { panic!("a page") };
    assert!(page.more && page.keys.len() == PAGE_BYTES_MAX / 1006, "{}", page.keys.len());
}

#[test]
fn quotas_are_met_exactly_and_never_keep_anything_from_shrinking() {
    let backend = Embedded::memory();
    let small = space_of("a", "", 2, 10);
    let try_set = |at: &str, value: &[u8]| run(&backend, &small, set(at, value));
    assert_eq!(try_set("a", b"1234"), Ok(Answer::Done));
    assert_eq!(try_set("b", b"12345"), Err(Error::QuotaBytes));
    assert_eq!(try_set("b", b"1234"), Ok(Answer::Done), "ten bytes");
    assert_eq!(try_set("c", b""), Err(Error::QuotaKeys));
    assert_eq!(try_set("a", b"12345"), Err(Error::QuotaBytes));
    let add = run(&backend, &small, Operation::Increment(key("a"), 90_000));
    assert_eq!(add, Err(Error::QuotaBytes), "91234 has a digit more");
    assert_eq!(backend.usage("a"), Ok(Usage { keys: 2, bytes: 10 }), "nothing of it has changed anything");
    // Many at once are refused as a whole.
    let many = vec![(key("a"), b"1".to_vec()), (key("c"), Vec::new())];
    assert_eq!(run(&backend, &small, Operation::SetMany(many)), Err(Error::QuotaKeys));
    assert_eq!(backend.usage("a"), Ok(Usage { keys: 2, bytes: 10 }));
    // The quota is lowered: what shrinks, or stays as large, goes on.
    let smaller = space_of("a", "", 1, 3);
    assert_eq!(run(&backend, &smaller, set("a", b"123")), Ok(Answer::Done));
    assert_eq!(run(&backend, &smaller, set("a", b"321")), Ok(Answer::Done));
    assert_eq!(run(&backend, &smaller, set("a", b"1234")), Err(Error::QuotaBytes));
    assert_eq!(run(&backend, &smaller, Operation::Delete(key("b"))), Ok(Answer::Done));
    assert_eq!(backend.usage("a"), Ok(Usage { keys: 1, bytes: 4 }));
}

#[test]
fn spaces_of_one_tenant_share_what_it_may_have() {
    let backend = Embedded::memory();
    let (a, b) = (space("a"), space("b"));
    let pool = Pool { quota: Quota { keys: 3, bytes: 20 }, members: vec!["a".into(), "b".into()] };
    let pool = Arc::new(pool);
    let try_set = |space, at, value: &[u8]| done(&ask(&backend, space, Some(&pool), set(at, value)));
    assert_eq!(try_set(&a, "1", b"123456789"), Ok(Answer::Done));
    assert_eq!(try_set(&b, "1", b"123456789"), Ok(Answer::Done));
    assert_eq!(try_set(&b, "2", b""), Err(Error::QuotaBytes));
    assert_eq!(try_set(&a, "1", b"1"), Ok(Answer::Done));
    assert_eq!(try_set(&b, "2", b""), Ok(Answer::Done));
    assert_eq!(try_set(&a, "2", b""), Err(Error::QuotaKeys));
    run(&backend, &b, Operation::RemoveSpace).unwrap();
    assert_eq!(try_set(&a, "2", b""), Ok(Answer::Done), "what is removed counts no more");
}

#[test]
fn sizes_have_their_bounds() {
    let (backend, a) = (Embedded::memory(), space("a"));
    let run = |operation| run(&backend, &a, operation);
    let most = "k".repeat(KEY_BYTES_MAX);
    assert_eq!(Key::new(&format!("{most}k")), Err(Error::TooLarge));
    assert_eq!(Key::new(""), Err(Error::EmptyKey));
    assert_eq!(run(set(&most, &vec![7; VALUE_BYTES_MAX])), Ok(Answer::Done));
    assert_eq!(run(set("a", &vec![7; VALUE_BYTES_MAX + 1])), Err(Error::TooLarge));
    let large = Some(vec![7; VALUE_BYTES_MAX + 1]);
    assert_eq!(run(Operation::Swap { key: key("a"), old: None, new: large.clone() }), Err(Error::TooLarge));
    assert_eq!(run(Operation::Swap { key: key("a"), old: large, new: None }), Err(Error::TooLarge));
    let too_many: Vec<Key> = (0..=BATCH_KEYS_MAX).map(|n| key(&n.to_string())).collect();
    assert_eq!(run(Operation::GetMany(too_many.clone())), Err(Error::TooLarge));
    assert_eq!(run(Operation::DeleteMany(too_many.clone())), Err(Error::TooLarge));
    let pairs = too_many.into_iter().map(|key| (key, Vec::new())).collect();
    assert_eq!(run(Operation::SetMany(pairs)), Err(Error::TooLarge));
    let half = vec![7; BATCH_BYTES_MAX / 2];
    let pairs = vec![(key("a"), half.clone()), (key("b"), half)];
    assert_eq!(run(Operation::SetMany(pairs)), Err(Error::TooLarge), "with their keys");
    run(set("a", &[])).unwrap();
    assert_eq!(
        run(Operation::GetMany(vec![key(&most), key("a")])),
        Ok(Answer::Values(vec![Some(vec![7; VALUE_BYTES_MAX]), Some(Vec::new())]))
    );
    assert_eq!(run(Operation::GetMany(vec![key(&most), key(&most)])), Err(Error::TooLarge));
}

#[test]
fn a_space_is_its_owners() {
    let backend = Embedded::memory();
    let (acme, other) = (space_of("a", "acme", 9, 99), space_of("a", "other", 9, 99));
    run(&backend, &acme, set("k", b"v")).unwrap();
    for operation in
        [Operation::Get(key("k")), list("", None), set("k", b"w"), Operation::Increment(key("k"), 1)]
    {
        assert_eq!(run(&backend, &other, operation), Err(Error::AccessDenied));
    }
    backend.remove_space("a").unwrap();
    assert_eq!(run(&backend, &other, Operation::Get(key("k"))), Ok(Answer::Value(None)));
    run(&backend, &other, set("x", b"")).unwrap();
    assert_eq!(run(&backend, &acme, Operation::Get(key("x"))), Err(Error::AccessDenied));
}

#[test]
fn what_is_removed_is_gone_at_once_and_swept_later() {
    let backend = Embedded::memory();
    let a = space("a");
    for from in [0, 900, 1800] {
        let pairs = (from..from + 900).map(|n| (key(&n.to_string()), b"x".to_vec())).collect();
        run(&backend, &a, Operation::SetMany(pairs)).unwrap();
    }
    run(&backend, &space("b"), set("mine", b"1")).unwrap();
    backend.remove_space("a").unwrap();
    assert_eq!(backend.usage("a"), Ok(Usage::default()));
    assert_eq!(run(&backend, &a, list("", None)), keys(&[], false));
    run(&backend, &a, set("new", b"1")).unwrap();
    assert_eq!(
        run(&backend, &a, list("", None)),
        keys(&["new"], false),
        "of the one before there is nothing"
    );
    // Sweeping goes on while nothing else is asked for. It ends, and has left what others have.
    let end = std::time::Instant::now() + PATIENCE;
    while backend.pairs_in_all() != 2 {
        assert!(std::time::Instant::now() < end, "{} pairs are left", backend.pairs_in_all());
        std::thread::yield_now();
    }
    assert_eq!(run(&backend, &space("b"), list("", None)), keys(&["mine"], false));
    backend.remove_space("a").unwrap();
    backend.remove_space("a").unwrap();
}

#[test]
fn increments_that_meet_are_all_counted() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Embedded::file(&folder.path().join("kv.redb"));
    let a = space("a");
    let asked: Vec<_> =
        (0..100).map(|_| ask(&backend, &a, None, Operation::Increment(key("n"), 1))).collect();
    let mut sums: Vec<i64> = asked
        .iter()
        .map(|heard| match done(heard) {
            Ok(Answer::Number(sum)) => sum,
            other => panic!("{other:?}"),
        })
        .collect();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=100), "each sum is given once");
}

#[test]
fn what_was_asked_for_is_done_before_the_end_and_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    let backend = Embedded::file(&path);
    assert!(!path.exists(), "nothing is made before it is used");
    let a = space("a");
    let asked: Vec<_> = (0..50).map(|n| ask(&backend, &a, None, set(&n.to_string(), b"x"))).collect();
    drop(backend);
    assert!(asked.iter().all(|heard| done(heard) == Ok(Answer::Done)));
    let backend = Embedded::file(&path);
    assert_eq!(backend.usage("a").unwrap().keys, 50);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_place_that_does_not_work_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/kv.redb");
    let backend = Embedded::file(&path);
    let a = space("a");
    assert!(matches!(run(&backend, &a, Operation::Get(key("k"))), Err(Error::Unavailable(_))));
    assert!(matches!(run(&backend, &a, set("k", b"v")), Err(Error::Unavailable(_))));
    assert!(matches!(backend.usage("a"), Err(Error::Unavailable(_))));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(run(&backend, &a, set("k", b"v")), Ok(Answer::Done));
    assert_eq!(run(&backend, &a, Operation::Get(key("k"))), Ok(Answer::Value(Some(b"v".to_vec()))));
}

#[test]
fn a_file_that_is_something_else_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    std::fs::write(&path, b"no database, and long enough to be looked at as if it were one".repeat(100))
        .unwrap();
    let backend = Embedded::file(&path);
    assert!(matches!(run(&backend, &space("a"), set("k", b"v")), Err(Error::Unavailable(_))));
}
