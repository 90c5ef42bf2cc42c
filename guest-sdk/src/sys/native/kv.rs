//! The key-value store of handlers under test: in memory, each thread's its own, so that a test begins with nothing.
//!
//! An operation is over at once. Bounds of keys and values are those of the real host; quotas are not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use tidegate_abi::errno::{self, Errno};
use tidegate_abi::kv::{KEY_BYTES_MAX, NEW_ABSENT, OLD_ABSENT, VALUE_BYTES_MAX, page_head, page_key};
use tidegate_abi::poll::{ERROR, Entry, HANGUP, READABLE};

type Outcome<T = usize> = Result<T, Errno>;

const FIRST_HANDLE: u32 = 1 << 16;
const LAST_HANDLE: u32 = 1 << 20;
/// Keys of a page: few, so that tests meet more than one.
const PAGE_KEYS_MAX: usize = 100;

#[derive(Default)]
struct Store {
    values: BTreeMap<String, Vec<u8>>,
    /// What came of operations, and how much of that was read.
    over: BTreeMap<u32, (Outcome<Vec<u8>>, usize)>,
    begun: u32,
}

thread_local! {
    static STORE: RefCell<Store> = RefCell::default();
}

pub(crate) fn is_ours(handle: u32) -> bool {
    (FIRST_HANDLE..LAST_HANDLE).contains(&handle)
}

fn text(bytes: &[u8]) -> Outcome<&str> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(errno::EMSGSIZE);
    }
    std::str::from_utf8(bytes).map_err(|_| errno::EINVAL)
}

fn key(bytes: &[u8]) -> Outcome<&str> {
    if bytes.is_empty() { Err(errno::EINVAL) } else { text(bytes) }
}

fn value(bytes: &[u8]) -> Outcome<Vec<u8>> {
    if bytes.len() > VALUE_BYTES_MAX { Err(errno::EMSGSIZE) } else { Ok(bytes.to_vec()) }
}

/// Does it, and gives the handle under which what came of it is read.
fn operate(work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Outcome<Vec<u8>>) -> Outcome {
    STORE.with_borrow_mut(|store| {
        let came = work(&mut store.values);
        let handle = FIRST_HANDLE + store.begun % (LAST_HANDLE - FIRST_HANDLE);
        store.begun = store.begun.wrapping_add(1);
        store.over.insert(handle, (came, 0));
        Ok(handle as usize)
    })
}

pub(crate) fn get(at: &[u8]) -> Outcome {
    let at = key(at)?;
    operate(|values| values.get(at).cloned().ok_or(errno::ENOENT))
}

pub(crate) fn set(at: &[u8], given: &[u8]) -> Outcome {
    let (at, given) = (key(at)?, value(given)?);
    operate(|values| {
        values.insert(at.to_owned(), given);
        Ok(Vec::new())
    })
}

pub(crate) fn delete(at: &[u8]) -> Outcome {
    let at = key(at)?;
    operate(|values| {
        values.remove(at);
        Ok(Vec::new())
    })
}

pub(crate) fn exists(at: &[u8]) -> Outcome {
    let at = key(at)?;
    operate(|values| Ok(vec![u8::from(values.contains_key(at))]))
}

pub(crate) fn increment(at: &[u8], delta: i64) -> Outcome {
    let at = key(at)?;
    operate(|values| {
        let text = values.get(at).map_or(Ok("0"), |value| std::str::from_utf8(value));
        let number: Option<i64> = text.ok().and_then(|text| text.parse().ok());
        let sum = number.ok_or(errno::EILSEQ)?.checked_add(delta).ok_or(errno::EOVERFLOW)?;
        values.insert(at.to_owned(), sum.to_string().into_bytes());
        Ok(sum.to_le_bytes().to_vec())
    })
}

pub(crate) fn swap(at: &[u8], old: &[u8], new: &[u8], flags: u32) -> Outcome {
    let at = key(at)?;
    let maybe = |absent: u32, given: &[u8]| match flags & absent != 0 {
        false => value(given).map(Some),
        true if given.is_empty() => Ok(None),
        true => Err(errno::EINVAL),
    };
    let (old, new) = (maybe(OLD_ABSENT, old)?, maybe(NEW_ABSENT, new)?);
    operate(|values| {
        let fits = values.get(at) == old.as_ref();
        match new {
            Some(new) if fits => drop(values.insert(at.to_owned(), new)),
            None if fits => drop(values.remove(at)),
            _ => {}
        }
        Ok(vec![u8::from(fits)])
    })
}

pub(crate) fn list(prefix: &[u8], after: &[u8]) -> Outcome {
    let (prefix, after) = (text(prefix)?, text(after)?);
    operate(|values| {
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let behind = values.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key);
        let mut keys = behind.filter(|key| key.starts_with(prefix));
        let page: Vec<&String> = keys.by_ref().take(PAGE_KEYS_MAX).collect();
        let mut bytes = page_head(keys.next().is_some()).to_vec();
        for key in page {
            bytes.extend(page_key(u32::try_from(key.len()).expect("keys are short")));
            bytes.extend(key.as_bytes());
        }
        Ok(bytes)
    })
}

/// What `f` makes of what came of an operation.
fn with<R>(handle: u32, f: impl FnOnce(&mut (Outcome<Vec<u8>>, usize)) -> Outcome<R>) -> Outcome<R> {
    STORE.with_borrow_mut(|store| f(store.over.get_mut(&handle).ok_or(errno::EBADF)?))
}

pub(crate) fn read(handle: u32, buf: &mut [u8]) -> Outcome {
    if buf.is_empty() {
        return Err(errno::EINVAL);
    }
    with(handle, |(came, read)| {
        let rest = &came.as_ref().map_err(|errno| *errno)?[*read..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        *read += len;
        Ok(len)
    })
}

pub(crate) fn close(handle: u32) -> Outcome {
    let closed = STORE.with_borrow_mut(|store| store.over.remove(&handle));
    closed.map(|_| 0).ok_or(errno::EBADF)
}

pub(crate) fn error(handle: u32) -> Errno {
    with(handle, |(came, _)| Ok(came.as_ref().err().copied().unwrap_or(0))).unwrap_or(errno::EBADF)
}

pub(crate) fn ready(entry: Entry) -> u16 {
    match with(entry.handle, |(came, _)| Ok(came.is_ok())) {
        Ok(true) => entry.interest & READABLE,
        Ok(false) => entry.interest & READABLE | ERROR | HANGUP,
        Err(_) => ERROR,
    }
}
