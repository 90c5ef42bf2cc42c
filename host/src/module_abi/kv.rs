//! The key-value store: `tidegate_kv_v1`, and what the calls for bodies do with its operations.
//!
//! A handle is one operation. It is readable when the operation is over, and then `read` gives what came of it as bytes. The
//! service behind it knows quotas and threads; here is what a guest may say, and the numbers for how it went.

use std::task::{Context, Poll, Waker};

use tidegate_abi::errno::{
    EACCES, EAGAIN, EBUSY, EDQUOT, EILSEQ, EINVAL, EIO, EMSGSIZE, ENOENT, ENOSPC, EOVERFLOW, Errno,
};
use tidegate_abi::kv::{NEW_ABSENT, OLD_ABSENT, page_head, page_key};
use tidegate_abi::poll::READABLE;
use tidegate_abi::{KV_MODULE, names};
use tidegate_store::kv::{Answer, Error, KEY_BYTES_MAX, Key, Operation, VALUE_BYTES_MAX};
use wasmtime::{Caller, Linker, Result};

use super::memory::{bytes, parts};
use super::opened::failed;
use super::{Done, sockets};
use crate::guest::cost::{copied, handed_over, spend};
use crate::guest::module::{Opened, Stored};
use crate::guest::state::GuestState;

type Guest<'a> = Caller<'a, GuestState>;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(KV_MODULE, names::kv::GET, |mut guest: Guest<'_>, key: i32, len: i32| {
            with_key(&mut guest, key, len, Operation::Get)
        })?
        .func_wrap(KV_MODULE, names::kv::EXISTS, |mut guest: Guest<'_>, key: i32, len: i32| {
            with_key(&mut guest, key, len, Operation::Exists)
        })?
        .func_wrap(KV_MODULE, names::kv::DELETE, |mut guest: Guest<'_>, key: i32, len: i32| {
            with_key(&mut guest, key, len, Operation::Delete)
        })?
        .func_wrap(
            KV_MODULE,
            names::kv::INCREMENT,
            |mut guest: Guest<'_>, key: i32, len: i32, delta: i64| {
                with_key(&mut guest, key, len, |key| Operation::Increment(key, delta))
            },
        )?
        .func_wrap(
            KV_MODULE,
            names::kv::SET,
            |mut guest: Guest<'_>, key: i32, len: i32, value: i32, value_len: i32| {
                set(&mut guest, (key, len), (value, value_len))
            },
        )?
        .func_wrap(
            KV_MODULE,
            names::kv::SWAP,
            |mut guest: Guest<'_>,
             key: i32,
             len: i32,
             old: i32,
             old_len: i32,
             new: i32,
             new_len: i32,
             flags: i32| {
                swap(&mut guest, (key, len), (old, old_len), (new, new_len), flags.cast_unsigned())
            },
        )?
        .func_wrap(
            KV_MODULE,
            names::kv::LIST,
            |mut guest: Guest<'_>, prefix: i32, len: i32, after: i32, after_len: i32| {
                list(&mut guest, (prefix, len), (after, after_len))
            },
        )?;
    Ok(())
}

/// What a failure is as a number.
fn errno(error: &Error) -> Errno {
    match error {
        Error::NoSuchStore => ENOENT,
        Error::AccessDenied => EACCES,
        Error::QuotaKeys | Error::QuotaBytes => EDQUOT,
        Error::TooLarge => EMSGSIZE,
        Error::EmptyKey => EINVAL,
        Error::NotANumber => EILSEQ,
        Error::Overflow => EOVERFLOW,
        Error::Busy => EBUSY,
        Error::DiskFull => ENOSPC,
        Error::Unavailable(_) => EIO,
    }
}

/// A text of the guest's, no longer than a key.
fn text(bytes: &[u8]) -> Done<&str> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(EMSGSIZE);
    }
    std::str::from_utf8(bytes).map_err(|_| EINVAL)
}

fn key(bytes: &[u8]) -> Done<Key> {
    Key::new(text(bytes)?).map_err(|error| errno(&error))
}

/// A value of the guest's. One that is too large is not even copied.
fn value(bytes: &[u8]) -> Done<Vec<u8>> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(EMSGSIZE);
    }
    Ok(bytes.to_vec())
}

/// A pointer and a length.
type Given = (i32, i32);

fn with_key(
    guest: &mut Guest<'_>,
    at: i32,
    len: i32,
    operation: impl FnOnce(Key) -> Operation,
) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let operation = key(bytes(memory, at, len)?).map(operation);
    begin(state, operation)
}

fn set(guest: &mut Guest<'_>, at: Given, given: Given) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let (at, given) = (bytes(memory, at.0, at.1)?, bytes(memory, given.0, given.1)?);
    let operation = key(at).and_then(|key| Ok(Operation::Set(key, value(given)?)));
    begin(state, operation)
}

fn swap(guest: &mut Guest<'_>, at: Given, old: Given, new: Given, flags: u32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let (at, old) = (bytes(memory, at.0, at.1)?, bytes(memory, old.0, old.1)?);
    let new = bytes(memory, new.0, new.1)?;
    let maybe = |absent: u32, given: &[u8]| match flags & absent != 0 {
        false => value(given).map(Some),
        true if given.is_empty() => Ok(None),
        true => Err(EINVAL),
    };
    let operation = || {
        if flags & !(OLD_ABSENT | NEW_ABSENT) != 0 {
            return Err(EINVAL);
        }
        // Before any of it is copied.
        if old.len().max(new.len()) > VALUE_BYTES_MAX {
            return Err(EMSGSIZE);
        }
        Ok(Operation::Swap { key: key(at)?, old: maybe(OLD_ABSENT, old)?, new: maybe(NEW_ABSENT, new)? })
    };
    begin(state, operation())
}

fn list(guest: &mut Guest<'_>, prefix: Given, after: Given) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let (prefix, after) = (bytes(memory, prefix.0, prefix.1)?, bytes(memory, after.0, after.1)?);
    let operation = text(prefix).and_then(|prefix| {
        let after = if after.is_empty() { None } else { Some(key(after)?) };
        Ok(Operation::List { prefix: prefix.into(), after })
    });
    begin(state, operation)
}

/// Begins an operation, if it is one and the app may keep anything.
fn begin(state: &mut GuestState, operation: Done<Operation>) -> Result<i32> {
    // Also of what is refused: a row of such calls has nothing else that could end a slice.
    spend(state, handed_over() + copied(operation.as_ref().map_or(0, Operation::bytes)))?;
    let operation = match operation {
        Ok(operation) => operation,
        Err(errno) => return Ok(-errno),
    };
    let Some(access) = state.program.kv.clone() else {
        state.deny_kv();
        return Ok(-EACCES);
    };
    sockets::open(state, |_| match access.submit(operation) {
        Ok(pending) => Ok(Opened::Stored(Box::new(Stored::Waiting(pending)))),
        Err(error) => Err(errno(&error)),
    })
}

/// Whether it is over. If so, what came of it is there as bytes.
fn is_over(stored: &mut Stored, cx: &Context<'_>) -> bool {
    let Stored::Waiting(pending) = stored else { return true };
    *stored = match pending.poll(cx) {
        Poll::Pending => return false,
        Poll::Ready(Err(error)) => Stored::Failed(errno(&error)),
        Poll::Ready(Ok(given)) => {
            let (answer, held) = given.split();
            match packed(answer) {
                Ok(bytes) => Stored::Over { bytes, read: 0, held },
                Err(errno) => Stored::Failed(errno),
            }
        }
    };
    true
}

/// What came of an operation, as a guest reads it.
fn packed(answer: Answer) -> Done<Vec<u8>> {
    Ok(match answer {
        Answer::Done => Vec::new(),
        Answer::Value(value) => value.ok_or(ENOENT)?,
        Answer::Found(found) => vec![u8::from(found)],
        Answer::Number(number) => number.to_le_bytes().to_vec(),
        Answer::Keys(page) => {
            let mut bytes = page_head(page.more).to_vec();
            for key in &page.keys {
                bytes.extend(page_key(u32::try_from(key.len()).map_err(|_| EIO)?));
                bytes.extend(key.as_bytes());
            }
            bytes
        }
        // Nobody here asks for these.
        Answer::Values(_) | Answer::Usage(_) => return Err(EIO),
    })
}

pub(super) fn read(stored: &mut Stored, into: &mut [u8]) -> Done<usize> {
    is_over(stored, &Context::from_waker(Waker::noop()));
    match stored {
        Stored::Waiting(_) => Err(EAGAIN),
        Stored::Failed(errno) => Err(*errno),
        Stored::Over { bytes, read, .. } => {
            let rest = bytes.get(*read..).unwrap_or_default();
            let len = rest.len().min(into.len());
            if let (Some(to), Some(from)) = (into.get_mut(..len), rest.get(..len)) {
                to.copy_from_slice(from);
            }
            *read = read.saturating_add(len);
            Ok(len)
        }
    }
}

/// How it failed, if it has.
pub(super) fn fault(stored: &mut Stored) -> Option<Errno> {
    is_over(stored, &Context::from_waker(Waker::noop()));
    match stored {
        Stored::Failed(errno) => Some(*errno),
        Stored::Waiting(_) | Stored::Over { .. } => None,
    }
}

pub(super) fn readiness(stored: &mut Stored, interest: u16, cx: &Context<'_>) -> u16 {
    if !is_over(stored, cx) {
        return 0;
    }
    match stored {
        Stored::Failed(_) => failed(interest),
        _ => interest & READABLE,
    }
}
