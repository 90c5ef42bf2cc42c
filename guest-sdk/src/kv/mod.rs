//! Data that outlives a request: values under keys, an app's own, shared by all its instances.
//!
//! ```
//! use tidegate_sdk::{Request, Result, kv};
//!
//! fn count(request: Request) -> Result<String> {
//!     let views = kv::increment(&format!("views:{}", request.path()), 1)?;
//!     Ok(format!("{views} views\n"))
//! }
//! # use tidegate_sdk::test::Exchange;
//! # assert_eq!(Exchange::get("/a").run(count).text(), "1 views\n");
//! # assert_eq!(Exchange::get("/a").run(count).text(), "2 views\n");
//! # assert_eq!(Exchange::get("/b").run(count).text(), "1 views\n");
//! ```
//!
//! An app keeps nothing unless its manifest says so: `kv = true`, or with quotas `kv = { keys = 10000, bytes = "16MiB" }`.
//! Without that, all of this is [`ErrorKind::Denied`]. What a call here has done is on the disk when it returns, where the
//! server has a state folder; else it lasts until the server ends.
//!
//! Keys are texts of 1 to 1,024 bytes, values up to 1 MiB. [`increment`] and [`compare_and_swap`] are whole: nobody else
//! comes between. Of several calls that are under way at once none is the first.
//!
//! Blocking calls hold up nobody but this handler; in async code their async twins let its other futures run. In a
//! component all of this is `wasi:keyvalue`. Natively, in tests, the data is in memory, each thread's its own: a test
//! begins with nothing, and sets and reads by these same functions what a handler is to find, or has left.
//!
//! An [`Error`] that a handler returns with `?` is a 503 for its client if the store is busy or out of order, else a 500;
//! what exactly went wrong is for the log.

mod error;
mod operation;

pub use error::{Error, ErrorKind};

use std::collections::VecDeque;

use tidegate_abi::errno;
use tidegate_abi::kv::{NEW_ABSENT, OLD_ABSENT, Page};
use tidegate_abi::names::kv as names;

use crate::sys;
use operation::Operation;

type Result<T> = std::result::Result<T, Error>;

fn begin_get(key: &str) -> Result<Operation> {
    Operation::begin(names::GET, key, sys::kv_get(key.as_bytes()))
}

/// A value; none is no error.
fn value(got: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno() == Some(errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(key: &str, value: Option<Vec<u8>>) -> Result<Option<String>> {
    let text = value.map(String::from_utf8).transpose();
    text.map_err(|_| Error::new(ErrorKind::Content, names::GET, key, "the value is no text in UTF-8"))
}

/// The value of a key, if there is one.
///
/// ```
/// use tidegate_sdk::kv;
///
/// assert_eq!(kv::get("greeting").unwrap(), None);
/// kv::set("greeting", "hello").unwrap();
/// assert_eq!(kv::get("greeting").unwrap().as_deref(), Some(&b"hello"[..]));
/// ```
///
/// # Errors
/// See [`Error`].
pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
    value(begin_get(key)?.run())
}

/// As [`get`], for async code.
///
/// # Errors
/// As [`get`].
pub async fn get_async(key: &str) -> Result<Option<Vec<u8>>> {
    value(begin_get(key)?.run_async().await)
}

/// As [`get`], for what is text.
///
/// ```
/// use tidegate_sdk::kv;
///
/// kv::set("greeting", "hello").unwrap();
/// assert_eq!(kv::get_string("greeting").unwrap().as_deref(), Some("hello"));
/// ```
///
/// # Errors
/// As [`get`]; [`ErrorKind::Content`] if it is no text.
pub fn get_string(key: &str) -> Result<Option<String>> {
    text(key, get(key)?)
}

/// As [`get_string`], for async code.
///
/// # Errors
/// As [`get_string`].
pub async fn get_string_async(key: &str) -> Result<Option<String>> {
    text(key, get_async(key).await?)
}

#[cfg(feature = "json")]
fn parsed<T: serde::de::DeserializeOwned>(key: &str, value: Option<Vec<u8>>) -> Result<Option<T>> {
    let parsed = value.map(|value| serde_json::from_slice(&value)).transpose();
    parsed.map_err(|error| Error::new(ErrorKind::Content, names::GET, key, &error.to_string()))
}

/// As [`get`], for what was set by [`set_json`]. With the feature `json`.
///
/// ```
/// use tidegate_sdk::kv;
///
/// kv::set_json("sizes", &[1, 2, 3]).unwrap();
/// assert_eq!(kv::get_json::<Vec<u32>>("sizes").unwrap(), Some(vec![1, 2, 3]));
/// ```
///
/// # Errors
/// As [`get`]; [`ErrorKind::Content`] if it is not such JSON.
#[cfg(feature = "json")]
pub fn get_json<T: serde::de::DeserializeOwned>(key: &str) -> Result<Option<T>> {
    parsed(key, get(key)?)
}

/// As [`get_json`], for async code.
///
/// # Errors
/// As [`get_json`].
#[cfg(feature = "json")]
pub async fn get_json_async<T: serde::de::DeserializeOwned>(key: &str) -> Result<Option<T>> {
    parsed(key, get_async(key).await?)
}

fn begin_set(key: &str, value: &[u8]) -> Result<Operation> {
    Operation::begin(names::SET, key, sys::kv_set(key.as_bytes(), value))
}

/// Sets the value of a key, in place of the one before.
///
/// ```
/// use tidegate_sdk::kv;
///
/// kv::set("color", "red").unwrap();
/// kv::set("color", [0xff, 0, 0]).unwrap();
/// assert_eq!(kv::get("color").unwrap(), Some(vec![0xff, 0, 0]));
/// ```
///
/// # Errors
/// [`ErrorKind::Quota`] if the app has as much as it may, else see [`Error`].
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<()> {
    begin_set(key, value.as_ref())?.run().map(drop)
}

/// As [`set`], for async code.
///
/// # Errors
/// As [`set`].
pub async fn set_async(key: &str, value: impl AsRef<[u8]>) -> Result<()> {
    begin_set(key, value.as_ref())?.run_async().await.map(drop)
}

#[cfg(feature = "json")]
fn written<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::new(ErrorKind::Content, names::SET, key, &error.to_string()))
}

/// As [`set`], with the value as JSON. With the feature `json`. See [`get_json`].
///
/// # Errors
/// As [`set`]; [`ErrorKind::Content`] if the value can not be JSON.
#[cfg(feature = "json")]
pub fn set_json<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<()> {
    set(key, written(key, value)?)
}

/// As [`set_json`], for async code.
///
/// # Errors
/// As [`set_json`].
#[cfg(feature = "json")]
pub async fn set_json_async<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<()> {
    set_async(key, written(key, value)?).await
}

fn begin_delete(key: &str) -> Result<Operation> {
    Operation::begin(names::DELETE, key, sys::kv_delete(key.as_bytes()))
}

/// Deletes a key with its value. That there is none is no error.
///
/// ```
/// use tidegate_sdk::kv;
///
/// kv::set("cart", "2 chairs").unwrap();
/// kv::delete("cart").unwrap();
/// assert!(!kv::exists("cart").unwrap());
/// ```
///
/// # Errors
/// See [`Error`].
pub fn delete(key: &str) -> Result<()> {
    begin_delete(key)?.run().map(drop)
}

/// As [`delete`], for async code.
///
/// # Errors
/// As [`delete`].
pub async fn delete_async(key: &str) -> Result<()> {
    begin_delete(key)?.run_async().await.map(drop)
}

fn begin_exists(key: &str) -> Result<Operation> {
    Operation::begin(names::EXISTS, key, sys::kv_exists(key.as_bytes()))
}

/// Whether there is such a key. See [`delete`].
///
/// # Errors
/// See [`Error`].
pub fn exists(key: &str) -> Result<bool> {
    Ok(begin_exists(key)?.run()? == [1])
}

/// As [`exists`], for async code.
///
/// # Errors
/// As [`exists`].
pub async fn exists_async(key: &str) -> Result<bool> {
    Ok(begin_exists(key)?.run_async().await? == [1])
}

fn begin_increment(key: &str, delta: i64) -> Result<Operation> {
    Operation::begin(names::INCREMENT, key, sys::kv_increment(key.as_bytes(), delta))
}

fn number(key: &str, bytes: &[u8]) -> Result<i64> {
    let bytes = bytes.try_into();
    bytes.map(i64::from_le_bytes).map_err(|_| Error::odd(names::INCREMENT, key))
}

/// Adds to a number, and gives the sum; no value counts as 0. Numbers are kept as decimal digits: [`get_string`] shows
/// them, and [`set`] sets them.
///
/// ```
/// use tidegate_sdk::kv;
///
/// assert_eq!(kv::increment("stock", 12).unwrap(), 12);
/// assert_eq!(kv::increment("stock", -5).unwrap(), 7);
/// assert_eq!(kv::get_string("stock").unwrap().as_deref(), Some("7"));
/// ```
///
/// # Errors
/// [`ErrorKind::Content`] if the value is no whole number, or the sum does not fit into 64 bits; else as [`set`].
pub fn increment(key: &str, delta: i64) -> Result<i64> {
    number(key, &begin_increment(key, delta)?.run()?)
}

/// As [`increment`], for async code.
///
/// # Errors
/// As [`increment`].
pub async fn increment_async(key: &str, delta: i64) -> Result<i64> {
    number(key, &begin_increment(key, delta)?.run_async().await?)
}

fn begin_swap(key: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<Operation> {
    let flags = if old.is_none() { OLD_ABSENT } else { 0 } | if new.is_none() { NEW_ABSENT } else { 0 };
    let handle = sys::kv_swap(key.as_bytes(), old.unwrap_or_default(), new.unwrap_or_default(), flags);
    Operation::begin(names::SWAP, key, handle)
}

/// Sets the value of a key if it is `old` until then, and says whether it did. `None` is no value: as the old one it means
/// that there is none yet, as the new one it deletes the key.
///
/// ```
/// use tidegate_sdk::kv;
///
/// assert!(kv::compare_and_swap("lock", None, Some(b"mine")).unwrap());
/// assert!(!kv::compare_and_swap("lock", None, Some(b"yours")).unwrap());
/// assert!(kv::compare_and_swap("lock", Some(b"mine"), None).unwrap());
/// ```
///
/// # Errors
/// As [`set`]. In a component a new value of `None` is [`ErrorKind::Unsupported`].
pub fn compare_and_swap(key: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
    Ok(begin_swap(key, old, new)?.run()? == [1])
}

/// As [`compare_and_swap`], for async code.
///
/// # Errors
/// As [`compare_and_swap`].
pub async fn compare_and_swap_async(key: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
    Ok(begin_swap(key, old, new)?.run_async().await? == [1])
}

fn begin_list(prefix: &str, after: &str) -> Result<Operation> {
    Operation::begin(names::LIST, prefix, sys::kv_list(prefix.as_bytes(), after.as_bytes()))
}

/// The keys of a page, and whether there are more.
fn page(prefix: &str, bytes: &[u8]) -> Result<(VecDeque<String>, bool)> {
    let odd = || Error::odd(names::LIST, prefix);
    let page = Page::new(bytes).ok_or_else(odd)?;
    let keys = page.keys().map(|key| String::from_utf8(key.to_vec()).map_err(|_| odd()));
    let keys: VecDeque<String> = keys.collect::<Result<_>>()?;
    let more = page.more() && !keys.is_empty();
    Ok((keys, more))
}

/// The keys that begin with `prefix`, in the order of their bytes; all of them for `""`. They come in pages: what is set
/// meanwhile may be among them or not.
///
/// ```
/// use tidegate_sdk::kv;
///
/// for key in ["user:ada", "user:bob", "visits"] {
///     kv::set(key, "").unwrap();
/// }
/// let users: Result<Vec<String>, kv::Error> = kv::keys("user:").collect();
/// assert_eq!(users.unwrap(), ["user:ada", "user:bob"]);
/// ```
#[must_use]
pub fn keys(prefix: &str) -> Keys {
    Keys { prefix: prefix.to_owned(), after: Some(String::new()), page: VecDeque::new() }
}

/// The keys that [`keys`] gives. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
    /// The last key of the page before, until there is no other page.
    after: Option<String>,
    page: VecDeque<String>,
}

impl Keys {
    fn next_page(&mut self) -> Result<()> {
        while let Some(after) = self.after.take().filter(|_| self.page.is_empty()) {
            let (keys, more) = page(&self.prefix, &begin_list(&self.prefix, &after)?.run()?)?;
            self.after = keys.back().filter(|_| more).cloned();
            self.page = keys;
        }
        Ok(())
    }
}

impl Iterator for Keys {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        if self.page.is_empty()
            && let Err(error) = self.next_page()
        {
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

/// As [`keys`], for async code: all of them at once.
///
/// # Errors
/// See [`Error`].
pub async fn keys_async(prefix: &str) -> Result<Vec<String>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let (keys, more) = page(prefix, &begin_list(prefix, &after)?.run_async().await?)?;
        all.extend(keys);
        match all.last() {
            Some(last) if more => after.clone_from(last),
            _ => return Ok(all),
        }
    }
}
