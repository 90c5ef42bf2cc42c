//! Guests' key-value data: what a backend of it does, and the one that keeps it in a file of this machine.
//!
//! A [`Backend`] takes requests and answers each once, from a thread of its own: whoever asks never waits. It knows no
//! guest, no app and no setting: a [`Space`] is a name with an owner and a quota, and holds pairs of a key and a value.
//!
//! What any backend keeps to:
//! - What was answered is done, and stays so over a crash, as far as the backend is durable at all.
//! - An operation happens as a whole or not at all, those on many keys included.
//! - Who has an answer sees what it did in everything that is asked afterwards. Operations that are under way at the same
//!   time may happen in any order.
//! - Quotas are counted exactly. What makes a space smaller is never refused for its quota.
//! - Nothing of one space is ever seen in another, nor in a space of the same name that has another owner.

mod apply;
mod embedded;
mod line;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

pub use self::embedded::Embedded;
pub use self::value::{Answer, Key, Operation, Page};

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value, whatever the quota.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Keys of one operation on many of them.
pub const BATCH_KEYS_MAX: usize = 1_000;
/// Bytes of keys and values of one operation on many of them, and of what is read by one.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Keys of one page of a listing.
pub const PAGE_KEYS_MAX: usize = 1_000;
/// Bytes of the keys of one page: more than any one key.
pub const PAGE_BYTES_MAX: usize = 64 << 10;

/// Why an operation was not done. Nothing has changed then; but after [`Error::Unavailable`] nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only by those who name stores: an app has one.
    #[error("there is no such store")]
    NoSuchStore,
    /// The space is somebody else's: an app of the same name had another owner.
    #[error("the store belongs to another owner")]
    AccessDenied,
    /// Too many keys.
    #[error("the store has as many keys as it may")]
    QuotaKeys,
    /// Too many bytes of keys and values.
    #[error("the store has as many bytes as it may")]
    QuotaBytes,
    /// A key, a value, or an operation on many of them.
    #[error("a key, a value or a batch is larger than it may be")]
    TooLarge,
    /// An empty key.
    #[error("a key has at least one byte")]
    EmptyKey,
    /// What is to be incremented is no whole number.
    #[error("the value is no whole number in decimal digits")]
    NotANumber,
    /// The sum would not fit into 64 bits with a sign.
    #[error("the sum does not fit into 64 bits")]
    Overflow,
    /// Too much is under way: later.
    #[error("too many operations are under way")]
    Busy,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The backend does not work. The text is for the log.
    #[error("the store does not work: {0}")]
    Unavailable(Arc<str>),
}

impl Error {
    /// True if it is the backend that failed, and not the request that was wrong.
    #[must_use]
    pub fn is_backends(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Unavailable(_))
    }
}

/// How much a space may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// How much a space holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What several spaces may hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Over all of them.
    pub quota: Quota,
    /// Names of spaces. The one that is written to counts whether or not it is among them.
    pub members: Vec<Arc<str>>,
}

/// Whose data it is that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Unique: an app's name.
    pub name: Arc<str>,
    /// Whose it is, for as long as there is such a space. Empty: the operator's.
    pub owner: Arc<str>,
    /// What it may hold.
    pub quota: Quota,
}

/// How a request is answered. Dropping it unused is an answer, too: whoever waits is told that the backend failed.
pub type Reply = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

/// An operation that is asked for.
pub struct Request {
    /// On whose data.
    pub space: Arc<Space>,
    /// What it may hold together with others.
    pub pool: Option<Arc<Pool>>,
    /// What to do.
    pub operation: Operation,
    /// Whom to tell. It is called on a thread of the backend, which it must not hold up.
    pub reply: Reply,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("space", &self.space.name).finish_non_exhaustive()
    }
}

/// Keeps spaces. Implementations answer by threads or a loop of their own: none of the calls waits, but for those that
/// say so.
pub trait Backend: Send + Sync {
    /// Takes a request, and answers it once.
    fn submit(&self, request: Request);

    /// What a space holds. It waits: not for a loop.
    ///
    /// # Errors
    /// The backend does not work.
    fn usage(&self, name: &str) -> Result<Usage, Error> {
        match wait(self, name, Operation::Usage)? {
            Answer::Usage(usage) => Ok(usage),
            _ => Err(unanswered()),
        }
    }

    /// Removes a space with all that it holds, whoever owns it. It waits: not for a loop. Who asks sees to it that nobody
    /// writes to the space any more.
    ///
    /// # Errors
    /// The backend does not work.
    fn remove_space(&self, name: &str) -> Result<(), Error> {
        wait(self, name, Operation::RemoveSpace).map(drop)
    }
}

fn unanswered() -> Error {
    Error::Unavailable("it gave no answer".into())
}

/// Has a backend do something for the server itself.
fn wait<B: Backend + ?Sized>(backend: &B, name: &str, operation: Operation) -> Result<Answer, Error> {
    let (told, heard) = sync_channel(1);
    let quota = Quota { keys: 0, bytes: 0 };
    let space = Arc::new(Space { name: name.into(), owner: "".into(), quota });
    let reply = Box::new(move |answer| drop(told.send(answer)));
    backend.submit(Request { space, pool: None, operation, reply });
    heard.recv().unwrap_or_else(|_| Err(unanswered()))
}
