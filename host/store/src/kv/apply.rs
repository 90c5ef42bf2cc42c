//! Operations on the tables of a transaction.
//!
//! Three tables: spaces by name, with a number, an owner and what they hold; pairs by number and key; and the numbers of
//! spaces that were removed, whose pairs are still to be swept. A number is given once, so that a space which is made
//! again under an old name finds nothing of the one before.
//!
//! Invariants: the counts of a space are those of its pairs, after every operation; one that is refused has changed
//! nothing.

use std::collections::BTreeMap;
use std::io;

use redb::{
    CommitError, DatabaseError, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    TableError, TransactionError, WriteTransaction,
};

use super::{
    Answer, BATCH_BYTES_MAX, Error, Key, Operation, PAGE_BYTES_MAX, PAGE_KEYS_MAX, Page, Pool, Space, Usage,
};

/// Number of the space, keys, bytes, owner.
type Row = (u64, u64, u64, &'static str);

const SPACES: TableDefinition<'static, &'static str, Row> = TableDefinition::new("spaces");
const PAIRS: TableDefinition<'static, (u64, &'static [u8]), &'static [u8]> = TableDefinition::new("pairs");
/// Numbers of spaces that were removed.
const REMOVED: TableDefinition<'static, u64, ()> = TableDefinition::new("removed");
/// The one entry is the next number of a space.
const NEXT: TableDefinition<'static, (), u64> = TableDefinition::new("next");

/// Pairs of removed spaces that one transaction sweeps.
const SWEPT_MAX: usize = 1_000;

macro_rules! unavailable {
    ($($error:ident),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                match error {
                    $error::Storage(error) => error.into(),
                    other => Self::Unavailable(other.to_string().into()),
                }
            }
        })*
    };
}

unavailable!(CommitError, DatabaseError, TableError, TransactionError);

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => error.into(),
            other => Self::Unavailable(other.to_string().into()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            _ => Self::Unavailable(error.to_string().into()),
        }
    }
}

/// A row as it is worked with.
#[derive(Clone, Copy, Debug)]
struct Counted {
    number: u64,
    usage: Usage,
}

/// The tables that an operation reads.
struct View<S, P> {
    spaces: S,
    pairs: P,
}

impl<S, P> View<S, P>
where
    S: ReadableTable<&'static str, Row>,
    P: ReadableTable<(u64, &'static [u8]), &'static [u8]>,
{
    fn usage(&self, name: &str) -> Result<Usage, Error> {
        let row = self.spaces.get(name)?;
        Ok(row.map_or(Usage::default(), |row| {
            let (_, keys, bytes, _) = row.value();
            Usage { keys, bytes }
        }))
    }

    /// None: nothing was ever written to it.
    fn find(&self, space: &Space) -> Result<Option<Counted>, Error> {
        let Some(row) = self.spaces.get(&*space.name)? else { return Ok(None) };
        let (number, keys, bytes, owner) = row.value();
        if owner != &*space.owner {
            return Err(Error::AccessDenied);
        }
        Ok(Some(Counted { number, usage: Usage { keys, bytes } }))
    }

    fn get(&self, number: u64, key: &Key) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.pairs.get((number, key.as_bytes()))?.map(|value| value.value().to_vec()))
    }

    fn size(&self, number: u64, key: &Key) -> Result<Option<usize>, Error> {
        Ok(self.pairs.get((number, key.as_bytes()))?.map(|value| value.value().len()))
    }

    /// An operation that changes nothing.
    fn read(&self, space: &Space, operation: &Operation) -> Result<Answer, Error> {
        if *operation == Operation::Usage {
            return self.usage(&space.name).map(Answer::Usage);
        }
        let number = self.find(space)?.map(|row| row.number);
        let get = |key| number.map_or(Ok(None), |number| self.get(number, key));
        Ok(match operation {
            Operation::Get(key) => Answer::Value(get(key)?),
            Operation::Exists(key) => {
                let size = number.map_or(Ok(None), |number| self.size(number, key))?;
                Answer::Found(size.is_some())
            }
            Operation::GetMany(keys) => {
                let (mut values, mut room) = (Vec::with_capacity(keys.len()), BATCH_BYTES_MAX);
                for key in keys {
                    let value = get(key)?;
                    let size = value.as_ref().map_or(0, Vec::len);
                    room = room.checked_sub(size).ok_or(Error::TooLarge)?;
                    values.push(value);
                }
                Answer::Values(values)
            }
            Operation::List { prefix, after } => match number {
                Some(number) => Answer::Keys(self.page(number, prefix, after.as_deref())?),
                None => Answer::Keys(Page::default()),
            },
            _ => return Err(Error::Unavailable("it was taken for one that reads".into())),
        })
    }

    fn page(&self, number: u64, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let mut page = Page::default();
        let mut bytes = 0;
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        for pair in self.pairs.range((number, from.as_bytes())..)? {
            let (key, _) = pair?;
            let (of, key) = key.value();
            if of != number || !key.starts_with(prefix.as_bytes()) {
                break;
            }
            if after.is_some_and(|after| after.as_bytes() >= key) {
                continue;
            }
            bytes += key.len();
            if page.keys.len() >= PAGE_KEYS_MAX || bytes > PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            let text = std::str::from_utf8(key).ok().and_then(|text| Key::new(text).ok());
            page.keys.push(text.ok_or_else(|| Error::Unavailable("a key is no text".into()))?);
        }
        Ok(page)
    }
}

type ReadSpaces = redb::ReadOnlyTable<&'static str, Row>;
type ReadPairs = redb::ReadOnlyTable<(u64, &'static [u8]), &'static [u8]>;

/// Reads as of one moment.
pub(super) struct Reader {
    view: View<ReadSpaces, ReadPairs>,
}

impl Reader {
    /// # Errors
    /// The database does not work, or was never written to.
    pub(super) fn new(transaction: &ReadTransaction) -> Result<Self, Error> {
        let (spaces, pairs) = (transaction.open_table(SPACES)?, transaction.open_table(PAIRS)?);
        Ok(Self { view: View { spaces, pairs } })
    }

    /// # Errors
    /// See [`Error`].
    pub(super) fn read(&self, space: &Space, operation: &Operation) -> Result<Answer, Error> {
        self.view.read(space, operation)
    }
}

#[cfg(test)]
impl Reader {
    pub(super) fn pairs_in_all(&self) -> u64 {
        redb::ReadableTableMetadata::len(&self.view.pairs).unwrap()
    }
}

type Pairs<'t> = Table<'t, (u64, &'static [u8]), &'static [u8]>;

/// Writes, all of it within one transaction.
pub(super) struct Writer<'t> {
    view: View<Table<'t, &'static str, Row>, Pairs<'t>>,
    removed: Table<'t, u64, ()>,
    next: Table<'t, (), u64>,
}

/// What becomes of keys: a value, or none.
type Changes<'o> = BTreeMap<&'o Key, Option<&'o [u8]>>;

impl<'t> Writer<'t> {
    /// # Errors
    /// The database does not work.
    pub(super) fn new(transaction: &'t WriteTransaction) -> Result<Self, Error> {
        let view = View { spaces: transaction.open_table(SPACES)?, pairs: transaction.open_table(PAIRS)? };
        Ok(Self { view, removed: transaction.open_table(REMOVED)?, next: transaction.open_table(NEXT)? })
    }

    /// Does an operation. Beside the answer: whether anything has changed.
    ///
    /// # Errors
    /// See [`Error`]. After one of the backend's own the transaction is to be given up.
    pub(super) fn write(
        &mut self,
        space: &Space,
        pool: Option<&Pool>,
        operation: &Operation,
    ) -> Result<(Answer, bool), Error> {
        if *operation == Operation::RemoveSpace {
            return self.remove_space(&space.name).map(|changed| (Answer::Done, changed));
        }
        let row = self.view.find(space)?;
        let get = |writer: &Self, key| row.map_or(Ok(None), |row| writer.view.get(row.number, key));
        let change = |writer: &mut Self, changes: Changes<'_>| writer.change(space, pool, row, &changes);
        Ok(match operation {
            Operation::Set(key, value) => {
                (Answer::Done, change(self, Changes::from([(key, Some(value.as_slice()))]))?)
            }
            Operation::SetMany(pairs) => {
                let changes = pairs.iter().map(|(key, value)| (key, Some(value.as_slice())));
                (Answer::Done, change(self, changes.collect())?)
            }
            Operation::Delete(key) => (Answer::Done, change(self, Changes::from([(key, None)]))?),
            Operation::DeleteMany(keys) => {
                (Answer::Done, change(self, keys.iter().map(|key| (key, None)).collect())?)
            }
            Operation::Increment(key, delta) => {
                let sum = match get(self, key)? {
                    Some(value) => number(&value)?.checked_add(*delta).ok_or(Error::Overflow)?,
                    None => *delta,
                };
                let text = sum.to_string();
                let changed = change(self, Changes::from([(key, Some(text.as_bytes()))]))?;
                (Answer::Number(sum), changed)
            }
            Operation::Swap { key, old, new } => {
                if get(self, key)? != *old {
                    return Ok((Answer::Found(false), false));
                }
                let changed = change(self, Changes::from([(key, new.as_deref())]))?;
                (Answer::Found(true), changed)
            }
            other => (self.view.read(space, other)?, false),
        })
    }

    /// True if something has changed.
    fn change(
        &mut self,
        space: &Space,
        pool: Option<&Pool>,
        row: Option<Counted>,
        changes: &Changes<'_>,
    ) -> Result<bool, Error> {
        let before = row.map_or(Usage::default(), |row| row.usage);
        let (mut added, mut removed, mut touched) = (Usage::default(), Usage::default(), false);
        for (key, new) in changes {
            let old = match row {
                Some(row) => self.view.size(row.number, key)?,
                None => None,
            };
            touched |= old.is_some() || new.is_some();
            if let Some(old) = old {
                removed.keys += 1;
                removed.bytes += (key.len() + old) as u64;
            }
            if let Some(new) = new {
                added.keys += 1;
                added.bytes += (key.len() + new.len()) as u64;
            }
        }
        if !touched {
            return Ok(false);
        }
        let sum = |of: Usage| Usage {
            keys: (of.keys + added.keys).saturating_sub(removed.keys),
            bytes: (of.bytes + added.bytes).saturating_sub(removed.bytes),
        };
        let grows = (added.keys > removed.keys, added.bytes > removed.bytes);
        let fits = |usage: Usage, quota: super::Quota| {
            if grows.0 && usage.keys > quota.keys {
                return Err(Error::QuotaKeys);
            }
            if grows.1 && usage.bytes > quota.bytes { Err(Error::QuotaBytes) } else { Ok(()) }
        };
        let after = sum(before);
        fits(after, space.quota)?;
        if let Some(pool) = pool
            && (grows.0 || grows.1)
        {
            let mut all = before;
            for member in pool.members.iter().filter(|member| **member != space.name) {
                let usage = self.view.usage(member)?;
                all.keys += usage.keys;
                all.bytes += usage.bytes;
            }
            fits(sum(all), pool.quota)?;
        }
        let number = match row {
            Some(row) => row.number,
            None => self.next_number()?,
        };
        for (key, new) in changes {
            let place = (number, key.as_bytes());
            match new {
                Some(value) => drop(self.view.pairs.insert(place, *value)?),
                None => drop(self.view.pairs.remove(place)?),
            }
        }
        let row = (number, after.keys, after.bytes, &*space.owner);
        self.view.spaces.insert(&*space.name, row)?;
        Ok(true)
    }

    fn next_number(&mut self) -> Result<u64, Error> {
        let number = self.next.get(())?.map_or(1, |next| next.value());
        self.next.insert((), number + 1)?;
        Ok(number)
    }

    /// True if there was such a space. Its pairs are swept later.
    fn remove_space(&mut self, name: &str) -> Result<bool, Error> {
        let number = self.view.spaces.remove(name)?.map(|row| row.value().0);
        if let Some(number) = number {
            self.removed.insert(number, ())?;
        }
        Ok(number.is_some())
    }

    /// Sweeps some of what belonged to removed spaces. False: there is nothing left of them.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn sweep(&mut self) -> Result<bool, Error> {
        let Some(number) = self.removed.first()?.map(|(number, _)| number.value()) else { return Ok(false) };
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for pair in self.view.pairs.range((number, &[][..])..)? {
            let (key, _) = pair?;
            let (of, key) = key.value();
            if of != number || keys.len() >= SWEPT_MAX {
                break;
            }
            keys.push(key.to_vec());
        }
        for key in &keys {
            self.view.pairs.remove((number, key.as_slice()))?;
        }
        if keys.len() < SWEPT_MAX {
            self.removed.remove(number)?;
        }
        Ok(true)
    }
}

/// A whole number in decimal digits.
fn number(value: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Error::NotANumber)
}
