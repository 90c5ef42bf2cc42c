//! The draft's functions as a component calls them, without the component.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::atomics::{Host as _, HostCas};
use super::batch::Host as _;
use super::store::{Host as _, HostBucket as _};
use super::*;
use crate::config::KvSettings;
use crate::guest::state::Outside;
use crate::wasi_http::tests::{state_in, state_with};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for it as a guest's fiber would.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut future, end) = (pin!(future), Instant::now() + PATIENCE);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        assert!(Instant::now() < end, "every call is answered");
        std::thread::park_timeout(PATIENCE);
    }
}

/// A component's state whose app keeps data.
fn state() -> ComponentState {
    let service = kv::Service::in_memory();
    state_with(Some(service.access(&"test".into(), None, KvSettings { keys: 1_500, bytes: 4 << 20 })))
}

struct Guest {
    state: ComponentState,
}

impl Guest {
    fn host(&mut self) -> Keyvalue<'_> {
        Keyvalue { state: &mut self.state }
    }

    fn open(&mut self, name: &str) -> std::result::Result<Resource<Bucket>, Error> {
        wait(self.host().open(name.into())).unwrap()
    }

    fn bucket(&mut self) -> Resource<Bucket> {
        self.open("").unwrap()
    }

    fn set(&mut self, key: &str, value: &[u8]) -> std::result::Result<(), Error> {
        let bucket = self.bucket();
        wait(self.host().set(bucket, key.into(), value.to_vec())).unwrap()
    }

    fn get(&mut self, key: &str) -> std::result::Result<Option<Vec<u8>>, Error> {
        let bucket = self.bucket();
        wait(self.host().get(bucket, key.into())).unwrap()
    }
}

fn guest() -> Guest {
    Guest { state: state() }
}

fn says(error: Error, text: &str) -> bool {
    matches!(&error, Error::Other(other) if other.contains(text))
}

#[test]
fn an_app_has_one_store_under_two_names() {
    let mut guest = guest();
    guest.set("k", b"v").unwrap();
    let bucket = guest.open("default").unwrap();
    assert_eq!(wait(guest.host().get(bucket, "k".into())).unwrap().unwrap().as_deref(), Some(&b"v"[..]));
    for name in ["other", "DEFAULT", "../test", "test"] {
        assert!(matches!(guest.open(name), Err(Error::NoSuchStore)), "{name}");
    }
}

#[test]
fn an_app_that_keeps_nothing_is_denied() {
    let mut guest = Guest { state: state_in(1024, Outside::nothing()) };
    for name in ["", "default", "other"] {
        assert!(matches!(guest.open(name), Err(Error::AccessDenied)), "{name}");
    }
}

#[test]
fn what_is_set_is_there_until_it_is_deleted() {
    let mut guest = guest();
    assert_eq!(guest.get("k").unwrap(), None);
    guest.set("k", b"").unwrap();
    assert_eq!(guest.get("k").unwrap(), Some(Vec::new()));
    let bucket = guest.bucket();
    assert!(wait(guest.host().exists(Resource::new_borrow(bucket.rep()), "k".into())).unwrap().unwrap());
    wait(guest.host().delete(Resource::new_borrow(bucket.rep()), "k".into())).unwrap().unwrap();
    wait(guest.host().delete(Resource::new_borrow(bucket.rep()), "k".into())).unwrap().unwrap();
    assert!(!wait(guest.host().exists(Resource::new_borrow(bucket.rep()), "k".into())).unwrap().unwrap());
    wait(store::HostBucket::drop(&mut guest.host(), Resource::new_own(bucket.rep()))).unwrap();
    let gone = wait(guest.host().get(Resource::new_borrow(bucket.rep()), "k".into()));
    assert!(gone.is_err(), "a bucket that was dropped is a trap");
}

#[test]
fn what_is_wrong_is_said() {
    let mut guest = guest();
    assert!(says(guest.get("").unwrap_err(), "at least one byte"));
    assert!(says(guest.get(&"k".repeat(1025)).unwrap_err(), "larger than it may be"));
    assert!(says(guest.set("k", &vec![0; (1 << 20) + 1]).unwrap_err(), "larger than it may be"));
    for n in 0..4 {
        let done = guest.set(&n.to_string(), &vec![0; 1 << 20]);
        assert_eq!(done.is_ok(), n < 3, "{n}");
        assert!(done.err().is_none_or(|error| says(error, "as many bytes")));
    }
    let bucket = guest.bucket();
    guest.set("text", b"x").unwrap();
    let sum = wait(guest.host().increment(bucket, "text".into(), 1)).unwrap();
    assert!(says(sum.unwrap_err(), "no whole number"));
    assert_eq!(told(&StoreError::Unavailable("/a/path: secret".into())).to_string(), {
        Error::Other("the store does not work".to_owned()).to_string()
    });
}

#[test]
fn keys_come_in_pages() {
    let mut guest = guest();
    let bucket = guest.bucket();
    let pairs = |from: usize| (from..from + 600).map(|n| (format!("k{n:04}"), Vec::new())).collect();
    for from in [0, 600] {
        wait(guest.host().set_many(Resource::new_borrow(bucket.rep()), pairs(from))).unwrap().unwrap();
    }
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = wait(guest.host().list_keys(Resource::new_borrow(bucket.rep()), cursor)).unwrap().unwrap();
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(keys.len(), 1_200);
    assert!(keys.is_sorted());
    let wrong = wait(guest.host().list_keys(bucket, Some(String::new()))).unwrap();
    assert!(says(wrong.unwrap_err(), "at least one byte"));
}

#[test]
fn many_are_worked_on_at_once() {
    let mut guest = guest();
    let bucket = guest.bucket();
    let borrowed = || Resource::new_borrow(bucket.rep());
    let pairs = vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
    wait(guest.host().set_many(borrowed(), pairs)).unwrap().unwrap();
    let names = || vec!["b".to_owned(), "x".to_owned(), "a".to_owned()];
    let found = wait(guest.host().get_many(borrowed(), names())).unwrap().unwrap();
    assert_eq!(found, [Some(("b".to_owned(), b"2".to_vec())), None, Some(("a".to_owned(), b"1".to_vec()))]);
    wait(guest.host().delete_many(borrowed(), names())).unwrap().unwrap();
    let found = wait(guest.host().get_many(borrowed(), names())).unwrap().unwrap();
    assert_eq!(found, [None, None, None]);
    let many: Vec<String> = (0..=BATCH_KEYS_MAX).map(|n| n.to_string()).collect();
    assert!(says(wait(guest.host().get_many(borrowed(), many.clone())).unwrap().unwrap_err(), "larger"));
    assert!(says(wait(guest.host().delete_many(borrowed(), many.clone())).unwrap().unwrap_err(), "larger"));
    let pairs = many.into_iter().map(|key| (key, Vec::new())).collect();
    assert!(says(wait(guest.host().set_many(borrowed(), pairs)).unwrap().unwrap_err(), "larger"));
}

#[test]
fn numbers_are_summed() {
    let mut guest = guest();
    let bucket = guest.bucket();
    let mut add = |delta| {
        let bucket = Resource::new_borrow(bucket.rep());
        wait(guest.host().increment(bucket, "n".into(), delta)).unwrap()
    };
    assert_eq!(add(5).unwrap(), 5);
    assert_eq!(add(-7).unwrap(), -2);
    assert!(says(add(i64::MIN).unwrap_err(), "does not fit"));
    assert_eq!(guest.get("n").unwrap().as_deref(), Some(&b"-2"[..]));
}

#[test]
fn a_swap_fails_with_what_is_there_now() {
    let mut guest = guest();
    let bucket = guest.bucket();
    let cas = |guest: &mut Guest| {
        let bucket = Resource::new_borrow(bucket.rep());
        wait(HostCas::new(&mut guest.host(), bucket, "k".into())).unwrap().unwrap()
    };
    let (first, late) = (cas(&mut guest), cas(&mut guest));
    let current = |guest: &mut Guest, cas: &Resource<Cas>| {
        wait(guest.host().current(Resource::new_borrow(cas.rep()))).unwrap().unwrap()
    };
    assert_eq!(current(&mut guest, &first), None);
    wait(guest.host().swap(first, b"one".to_vec())).unwrap().unwrap();
    let Err(CasError::CasFailed(again)) = wait(guest.host().swap(late, b"two".to_vec())).unwrap() else {
        panic!("the value is not what it was");
    };
    assert_eq!(current(&mut guest, &again).as_deref(), Some(&b"one"[..]));
    wait(guest.host().swap(again, b"two".to_vec())).unwrap().unwrap();
    assert_eq!(guest.get("k").unwrap().as_deref(), Some(&b"two"[..]));
    let large = cas(&mut guest);
    let refused = wait(guest.host().swap(large, vec![0; (1 << 20) + 1])).unwrap();
    let Err(CasError::StoreError(error)) = refused else { panic!("it is too large") };
    assert!(says(error, "larger"));
}

/// A guest that makes one after another and drops none.
#[test]
fn what_swaps_hold_is_bounded() {
    let mut guest = guest();
    guest.set("k", &vec![0; 1 << 20]).unwrap();
    let bucket = guest.bucket();
    let mut held = 0;
    let error = loop {
        let bucket = Resource::new_borrow(bucket.rep());
        match wait(HostCas::new(&mut guest.host(), bucket, "k".into())).unwrap() {
            Ok(_) => held += 1,
            Err(error) => break error,
        }
        assert!(held < 100);
    };
    assert!(says(error, "too many operations") && held >= 16, "{held}");
    // Their keys are held, too, where there is no value.
    let mut guest = self::guest();
    let bucket = guest.bucket();
    let key = "k".repeat(1024);
    let trap = (0..2_000).find_map(|_| {
        let bucket = Resource::new_borrow(bucket.rep());
        wait(HostCas::new(&mut guest.host(), bucket, key.clone())).err()
    });
    assert!(trap.is_some_and(|trap| trap.to_string().contains("hold more than")));
}
