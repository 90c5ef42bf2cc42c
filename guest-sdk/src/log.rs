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

/// Writes one record. The host cuts it after 16 KiB, and drops (and counts) records above the app's rate.
pub fn log(level: Level, text: &str) {
    // There is nobody to tell about a log that fails.
    sys::log(level as u32, text.as_bytes());
}

/// Writes one record from `format_args!`; a plain text costs no allocation.
pub fn log_fmt(level: Level, args: fmt::Arguments<'_>) {
    match args.as_str() {
        Some(text) => log(level, text),
        None => log(level, &fmt::format(args)),
    }
}

/// Logs that something failed.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Error, ::std::format_args!($($arg)+)) };
}

/// Logs that something is odd.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Warn, ::std::format_args!($($arg)+)) };
}

/// Logs something an operator wants to know.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Info, ::std::format_args!($($arg)+)) };
}

/// Logs something a developer wants to know.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Debug, ::std::format_args!($($arg)+)) };
}

/// Logs everything.
#[macro_export]
macro_rules! trace {
    ($($arg:tt)+) => { $crate::log::log_fmt($crate::log::Level::Trace, ::std::format_args!($($arg)+)) };
}
