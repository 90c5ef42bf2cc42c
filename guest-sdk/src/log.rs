//! Records in the app's log, each under the id of its request.
//!
//! The macros format as `println!` does: [`error!`](crate::error!), [`warn!`](crate::warn!), [`info!`](crate::info!),
//! [`debug!`](crate::debug!), [`trace!`](crate::trace!). What is printed to stdout and stderr goes to the same log.
//!
//! ```
//! let name = "tidegate";
//! tidegate_sdk::info!("hello, {name}");
//! ```

use std::fmt;
use tidegate_abi::level;

use crate::sys;

/// How much a record matters.
///
/// ```
/// use tidegate_sdk::log::{Level, log};
/// use tidegate_sdk::{Request, test::Exchange};
///
/// fn look(_request: Request) -> &'static str {
///     log(Level::Warn, "the shelf is empty");
///     "nothing\n"
/// }
/// let answer = Exchange::get("/").run(look);
/// assert_eq!(answer.logs, [(Level::Warn, "the shelf is empty".to_owned())]);
/// assert!(Level::Error < Level::Warn);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = level::ERROR,
    /// Something is odd.
    Warn = level::WARN,
    /// Something an operator wants to know.
    Info = level::INFO,
    /// Something a developer wants to know.
    Debug = level::DEBUG,
    /// Everything.
    Trace = level::TRACE,
}

/// Writes one record. The host cuts it after 16 KiB, and drops (and counts) records above the app's rate. See
/// [`Level`] for an example.
pub fn log(level: Level, text: &str) {
    // There is nobody to tell about a log that fails.
    sys::log(level as u32, text.as_bytes());
}

/// Writes one record from `format_args!`; a plain text costs no allocation.
///
/// ```
/// use tidegate_sdk::log::{Level, log_fmt};
///
/// /// Logs how it went: failures as what they are.
/// fn report(failures: u32) {
///     let level = if failures > 0 { Level::Error } else { Level::Debug };
///     log_fmt(level, format_args!("{failures} failed"));
/// }
/// # use tidegate_sdk::{Request, test::Exchange};
/// # let app = |_: Request| {
/// #     report(2);
/// #     "hi"
/// # };
/// # let answer = Exchange::get("/").run(app);
/// # assert_eq!(answer.logs, [(Level::Error, "2 failed".to_owned())]);
/// ```
pub fn log_fmt(level: Level, args: fmt::Arguments<'_>) {
    match args.as_str() {
        Some(text) => log(level, text),
        None => log(level, &fmt::format(args)),
    }
}

/// Logs that something failed.
///
/// ```
/// let shelf = 7;
/// tidegate_sdk::error!("the shelf {shelf} has fallen down");
/// ```
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Error, ::std::format_args!($($arg)+)) };
}

/// Logs that something is odd.
///
/// ```
/// let left = 2;
/// tidegate_sdk::warn!("only {left} are left");
/// ```
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Warn, ::std::format_args!($($arg)+)) };
}

/// Logs something an operator wants to know.
///
/// ```
/// let (item, count) = ("a chair", 3);
/// tidegate_sdk::info!("{item} was sold, {count} times");
/// ```
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Info, ::std::format_args!($($arg)+)) };
}

/// Logs something a developer wants to know.
///
/// ```
/// let key = "chairs";
/// tidegate_sdk::debug!("{key:?} is not in the cache");
/// ```
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Debug, ::std::format_args!($($arg)+)) };
}

/// Logs everything.
///
/// ```
/// let row = [1, 2, 3];
/// tidegate_sdk::trace!("read the row {row:?}");
/// ```
#[macro_export]
macro_rules! trace {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Trace, ::std::format_args!($($arg)+)) };
}
