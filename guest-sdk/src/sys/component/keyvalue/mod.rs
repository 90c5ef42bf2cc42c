//! The key-value store, on `wasi:keyvalue` 0.2.0-draft2: the calls of `tidegate_kv_v1` as a module has them.
//!
//! The draft's functions wait by themselves, so an operation is over when its handle is there. What it has no word for: to
//! delete by a swap, and to list by a prefix, for which all keys are listed.

mod raw;

use tidegate_abi::errno::{
    EACCES, EBUSY, EDQUOT, EILSEQ, EINVAL, EIO, EMSGSIZE, ENOENT, ENOSPC, ENOTSUP, EOVERFLOW, Errno,
};
use tidegate_abi::kv::{KEY_BYTES_MAX, NEW_ABSENT, OLD_ABSENT, VALUE_BYTES_MAX, page_head, page_key};
use wasip2::io::poll::Pollable;

use super::resource::{self, Now, Resource};
use raw::{Bucket, Error, NotSwapped};

/// What came of an operation.
struct Stored {
    came: Result<Vec<u8>, Errno>,
    read: usize,
}

impl Resource for Stored {
    fn advance(&mut self, _interest: u16) -> Now {
        Now::Ready
    }

    fn pollable(&self, _interest: u16) -> Option<&Pollable> {
        None
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let rest = &self.came.as_ref().map_err(|errno| *errno)?[self.read..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }

    fn error(&mut self) -> Errno {
        self.came.as_ref().err().copied().unwrap_or(0)
    }
}

/// The number of an error. What is `other` is told apart by the sentences that tidegate says; of other hosts it is `EIO`.
fn errno_of(error: Error) -> Errno {
    const SENTENCES: [(&str, Errno); 6] = [
        ("as many keys as it may", EDQUOT),
        ("as many bytes as it may", EDQUOT),
        ("no whole number", EILSEQ),
        ("does not fit into 64 bits", EOVERFLOW),
        ("too many operations", EBUSY),
        ("the disk is full", ENOSPC),
    ];
    match error {
        Error::NoSuchStore => EIO,
        Error::AccessDenied => EACCES,
        Error::Other(text) => {
            let known = SENTENCES.iter().find(|(sentence, _)| text.contains(sentence));
            known.map_or(EIO, |(_, errno)| *errno)
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Errno> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(EMSGSIZE);
    }
    std::str::from_utf8(bytes).map_err(|_| EINVAL)
}

fn key(bytes: &[u8]) -> Result<&str, Errno> {
    if bytes.is_empty() { Err(EINVAL) } else { text(bytes) }
}

fn check_value(bytes: &[u8]) -> Result<(), Errno> {
    if bytes.len() > VALUE_BYTES_MAX { Err(EMSGSIZE) } else { Ok(()) }
}

type Came = Result<Vec<u8>, Errno>;

/// Does it with the app's store, and gives the handle under which what came of it is read.
fn operate(work: impl FnOnce(&Bucket) -> Result<Came, Error>) -> Result<usize, Errno> {
    let bucket = match Bucket::open() {
        Ok(bucket) => bucket,
        Err(error) => return Err(errno_of(error)),
    };
    let came = work(&bucket).unwrap_or_else(|error| Err(errno_of(error)));
    Ok(resource::open(Box::new(Stored { came, read: 0 })))
}

pub(super) fn get(at: &[u8]) -> Result<usize, Errno> {
    let at = key(at)?;
    operate(|bucket| Ok(bucket.get(at)?.ok_or(ENOENT)))
}

pub(super) fn set(at: &[u8], value: &[u8]) -> Result<usize, Errno> {
    let at = key(at)?;
    check_value(value)?;
    operate(|bucket| Ok(Ok(bucket.set(at, value).map(|()| Vec::new())?)))
}

pub(super) fn delete(at: &[u8]) -> Result<usize, Errno> {
    let at = key(at)?;
    operate(|bucket| Ok(Ok(bucket.delete(at).map(|()| Vec::new())?)))
}

pub(super) fn exists(at: &[u8]) -> Result<usize, Errno> {
    let at = key(at)?;
    operate(|bucket| Ok(Ok(vec![u8::from(bucket.exists(at)?)])))
}

pub(super) fn increment(at: &[u8], delta: i64) -> Result<usize, Errno> {
    let at = key(at)?;
    operate(|bucket| Ok(Ok(bucket.increment(at, delta)?.to_le_bytes().to_vec())))
}

pub(super) fn swap(at: &[u8], old: &[u8], new: &[u8], flags: u32) -> Result<usize, Errno> {
    let at = key(at)?;
    check_value(new)?;
    if flags & NEW_ABSENT != 0 {
        return Err(ENOTSUP);
    }
    let old = (flags & OLD_ABSENT == 0).then_some(old);
    operate(|bucket| {
        let cas = bucket.cas(at)?;
        if cas.current()?.as_deref() != old {
            return Ok(Ok(vec![0]));
        }
        match cas.swap(new) {
            Ok(()) => Ok(Ok(vec![1])),
            Err(NotSwapped::Changed) => Ok(Ok(vec![0])),
            Err(NotSwapped::Error(error)) => Err(error),
        }
    })
}

pub(super) fn list(prefix: &[u8], after: &[u8]) -> Result<usize, Errno> {
    let (prefix, after) = (text(prefix)?, text(after)?);
    operate(|bucket| {
        let (mut keys, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = bucket.list_keys(cursor.as_deref())?;
            keys.extend(page.keys.into_iter().filter(|key| key.starts_with(prefix) && key.as_str() > after));
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        // A host may give them in any order, and one twice while others write.
        keys.sort_unstable();
        keys.dedup();
        let mut bytes = page_head(false).to_vec();
        for key in keys {
            bytes.extend(page_key(u32::try_from(key.len()).unwrap_or(u32::MAX)));
            bytes.extend(key.as_bytes());
        }
        Ok(Ok(bytes))
    })
}
