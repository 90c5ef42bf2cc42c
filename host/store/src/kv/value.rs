//! Keys, operations and answers, as values.

use std::fmt;
use std::mem;
use std::ops::Deref;

use super::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, Error, KEY_BYTES_MAX, Usage, VALUE_BYTES_MAX};

/// A key: a text of 1 to [`KEY_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// # Errors
    /// It is empty, or too long.
    pub fn new(text: &str) -> Result<Self, Error> {
        match text.len() {
            0 => Err(Error::EmptyKey),
            1..=KEY_BYTES_MAX => Ok(Self(text.into())),
            _ => Err(Error::TooLarge),
        }
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Answer::Value`].
    Get(Key),
    /// [`Answer::Found`].
    Exists(Key),
    /// [`Answer::Values`], one for each key.
    GetMany(Vec<Key>),
    /// [`Answer::Keys`]: those that begin with `prefix` and come behind `after`, in the order of their bytes.
    List { prefix: Box<str>, after: Option<Key> },
    /// [`Answer::Done`].
    Set(Key, Vec<u8>),
    /// [`Answer::Done`]. Of a key that is there twice the last value stays.
    SetMany(Vec<(Key, Vec<u8>)>),
    /// [`Answer::Done`], also where there was no such key.
    Delete(Key),
    /// [`Answer::Done`].
    DeleteMany(Vec<Key>),
    /// [`Answer::Number`]: the sum of `delta` and the value, a whole number in decimal digits. No value counts as 0.
    Increment(Key, i64),
    /// [`Answer::Found`], true if the value was `old` and is `new` now. None is no value.
    Swap { key: Key, old: Option<Vec<u8>>, new: Option<Vec<u8>> },
    /// [`Answer::Usage`], whoever owns it.
    Usage,
    /// [`Answer::Done`], whoever owned it. See [`super::Backend::remove_space`].
    RemoveSpace,
}

impl Operation {
    /// True if it may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Get(_) | Self::Exists(_) | Self::GetMany(_) | Self::List { .. } | Self::Usage => false,
            Self::Set(..)
            | Self::SetMany(_)
            | Self::Delete(_)
            | Self::DeleteMany(_)
            | Self::Increment(..)
            | Self::Swap { .. }
            | Self::RemoveSpace => true,
        }
    }

    /// Bytes that are kept of it until it is done.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let keys = |keys: &[Key]| keys.iter().map(|key| key.len() + mem::size_of::<Key>()).sum();
        let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        match self {
            Self::Get(key) | Self::Exists(key) | Self::Delete(key) | Self::Increment(key, _) => key.len(),
            Self::GetMany(many) | Self::DeleteMany(many) => keys(many),
            Self::List { prefix, after } => prefix.len() + after.as_deref().map_or(0, str::len),
            Self::Set(key, value) => key.len() + value.len(),
            Self::SetMany(pairs) => pairs
                .iter()
                .map(|(key, value)| key.len() + value.len() + mem::size_of::<(Key, Vec<u8>)>())
                .sum(),
            Self::Swap { key, old, new } => key.len() + value(old) + value(new),
            Self::Usage | Self::RemoveSpace => 0,
        }
    }

    /// Holds it against what one operation may be.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn check(&self) -> Result<(), Error> {
        let is_small = |value: &[u8]| value.len() <= VALUE_BYTES_MAX;
        let fits = match self {
            Self::Set(_, value) => is_small(value),
            Self::Swap { old, new, .. } => {
                old.as_deref().is_none_or(is_small) && new.as_deref().is_none_or(is_small)
            }
            Self::SetMany(pairs) => {
                let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
                pairs.len() <= BATCH_KEYS_MAX && bytes <= BATCH_BYTES_MAX
            }
            Self::GetMany(keys) | Self::DeleteMany(keys) => keys.len() <= BATCH_KEYS_MAX,
            Self::List { prefix, .. } => prefix.len() <= KEY_BYTES_MAX,
            Self::Get(_)
            | Self::Exists(_)
            | Self::Delete(_)
            | Self::Increment(..)
            | Self::Usage
            | Self::RemoveSpace => true,
        };
        if fits { Ok(()) } else { Err(Error::TooLarge) }
    }
}

/// Keys of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their bytes.
    pub keys: Vec<Key>,
    /// There were more behind the last one.
    pub more: bool,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Value(Option<Vec<u8>>),
    Values(Vec<Option<Vec<u8>>>),
    Found(bool),
    Number(i64),
    Keys(Page),
    Usage(Usage),
}

impl Answer {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        match self {
            Self::Done | Self::Found(_) | Self::Number(_) | Self::Usage(_) => 0,
            Self::Value(one) => value(one),
            Self::Values(many) => {
                many.iter().map(value).sum::<usize>() + many.len() * mem::size_of::<Option<Vec<u8>>>()
            }
            Self::Keys(page) => page.keys.iter().map(|key| key.len() + mem::size_of::<Key>()).sum(),
        }
    }
}
