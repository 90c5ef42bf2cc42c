//! An app's configuration: the environment that its manifest gives it.
//!
//! A handler sees no variable of the server's, only what was set for its app: `env = { GREETING = "hello" }` in the
//! manifest, or `--env GREETING=hello` on the command line. What is missing or wrong is the operator's to mend, so it is
//! a 500 whose log record says how.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_sdk::{Request, Result, config};
//!
//! fn hello(_request: Request) -> Result<String> {
//!     let greeting = config::var("GREETING")?;
//!     let pause = Duration::from_millis(config::parse_or("PAUSE_MS", 0)?);
//!     tidegate_sdk::sleep(pause);
//!     Ok(format!("{greeting}\n"))
//! }
//! # let _set = config::for_test("GREETING", "hello");
//! # assert_eq!(tidegate_sdk::test::Exchange::get("/").run(hello).text(), "hello\n");
//! ```

use std::env::{self, VarError};
use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The variable, if it is set.
fn find(name: &str) -> Result<Option<String>> {
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(value) = native::value(name) {
        return Ok(Some(value));
    }
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Error::internal(format!("the variable {name} is not valid UTF-8: set it to text")))
        }
    }
}

fn read<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|error| {
        // The value itself may be a secret: it is not repeated.
        let kind = std::any::type_name::<T>();
        Error::internal(format!("the variable {name} cannot be read as {kind}: {error}"))
    })
}

fn missing(name: &str) -> Error {
    Error::internal(format!(
        "the variable {name} is not set: write env = {{ {name} = \"..\" }} in the manifest, or give --env {name}=.."
    ))
}

/// A variable of the app's environment.
///
/// ```
/// # use tidegate_sdk::config;
/// # let _set = config::for_test("GREETING", "hello");
/// let greeting = config::var("GREETING").unwrap();
/// # assert_eq!(greeting, "hello");
/// ```
///
/// # Errors
/// A 500 if it is not set or not UTF-8; the log names it and says how to set it.
pub fn var(name: &str) -> Result<String> {
    find(name)?.ok_or_else(|| missing(name))
}

/// A variable of the app's environment as a number, an address, or whatever else can be read from text.
///
/// ```
/// # use tidegate_sdk::config;
/// # let _set = config::for_test("LIMIT", "20");
/// let limit: u32 = config::parse("LIMIT").unwrap();
/// # assert_eq!(limit, 20);
/// ```
///
/// # Errors
/// A 500 if it is not set or cannot be read as `T`; the log names it.
pub fn parse<T: FromStr<Err: Display>>(name: &str) -> Result<T> {
    read(name, &var(name)?)
}

/// As [`parse`], or `default` if the variable is not set.
///
/// ```
/// # use tidegate_sdk::config;
/// assert_eq!(config::parse_or("NOBODY_SETS_THIS", 20).unwrap(), 20);
/// ```
///
/// # Errors
/// A 500 if it is set and cannot be read as `T`: a misspelt number must not pass for the default.
pub fn parse_or<T: FromStr<Err: Display>>(name: &str, default: T) -> Result<T> {
    match find(name)? {
        Some(value) => read(name, &value),
        None => Ok(default),
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::{ForTest, for_test};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    //! Variables of one test: the environment is the whole process's, and tests run side by side.

    use std::cell::RefCell;

    thread_local! {
        static SET: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn value(name: &str) -> Option<String> {
        SET.with_borrow(|set| set.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
    }

    /// A variable that is set until this is dropped: see [`for_test`].
    #[derive(Debug)]
    #[must_use = "the variable is set until this is dropped"]
    pub struct ForTest(String, String);

    /// Sets a variable for the handlers that this thread runs, until what is returned is dropped. Native builds only:
    /// a module in a real host has the environment of its app.
    ///
    /// ```
    /// use tidegate_sdk::config;
    ///
    /// let set = config::for_test("GREETING", "hello");
    /// assert_eq!(config::var("GREETING").unwrap(), "hello");
    /// drop(set);
    /// assert!(config::var("GREETING").is_err());
    /// ```
    pub fn for_test(name: &str, value: &str) -> ForTest {
        SET.with_borrow_mut(|set| set.push((name.to_owned(), value.to_owned())));
        ForTest(name.to_owned(), value.to_owned())
    }

    impl Drop for ForTest {
        fn drop(&mut self) {
            SET.with_borrow_mut(|set| {
                if let Some(at) = set.iter().rposition(|(n, v)| *n == self.0 && *v == self.1) {
                    set.remove(at);
                }
            });
        }
    }
}
