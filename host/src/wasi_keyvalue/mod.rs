//! `wasi:keyvalue` 0.2.0-draft2 for components: the app's own data behind the draft's resources.
//!
//! A bucket is a word for the app's one store, whose names are nothing at all and `default`; it holds nothing. A call parks
//! the guest's fiber until the store has answered. A `cas` remembers what the value was when it was made, and swaps if that
//! is what it is still.
//!
//! What the draft has no error for is `other`, with a text that says what is wrong and, where the operator can put it
//! right, nothing more. Invariant: what a `cas` holds counts as held in the host for the guest.

#[cfg(test)]
mod tests;

use std::future::poll_fn;

use tidegate_store::kv::{Answer, BATCH_KEYS_MAX, Error as StoreError, Key, Operation};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource};

use self::bindings::wasi::keyvalue::atomics::{self, CasError};
use self::bindings::wasi::keyvalue::batch;
use self::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use crate::guest::component::ComponentState;
use crate::guest::cost::{copied, enter, entries, handed_over, parsed, spend};
use crate::guest::desk;
use crate::kv;

/// What `bindgen!` makes of `host/wit/deps/keyvalue.wit`.
mod bindings {
    #![allow(unreachable_pub, reason = "generated code is public, and gives only public names on")]

    /// The types behind the resources.
    mod resources {
        pub type Bucket = super::super::Bucket;
        pub type Cas = super::super::Cas;
    }

    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package tidegate:keyvalue;

            world guest {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "tidegate:keyvalue/guest",
        imports: { default: async | trappable },
        require_store_data_send: true,
        with: {
            "wasi:keyvalue/store.bucket": resources::Bucket,
            "wasi:keyvalue/atomics.cas": resources::Cas,
        },
    });
}

/// `bucket`: the app's store.
#[derive(Debug)]
pub(crate) struct Bucket;

/// `cas`: what the value of a key was.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "generated code is public, and an error of it holds one")]
pub struct Cas {
    key: Key,
    value: Option<Vec<u8>>,
    /// Bytes of the value.
    _of_app: kv::Held,
    /// Bytes of the key.
    _of_guest: desk::Held,
}

/// The host's side of a component's key-value store.
pub(crate) struct Keyvalue<'a> {
    state: &'a mut ComponentState,
}

struct HasKeyvalue;

impl HasData for HasKeyvalue {
    type Data<'a> = Keyvalue<'a>;
}

/// Defines `wasi:keyvalue`.
///
/// # Errors
/// A name was defined twice: a bug.
pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> Result<()> {
    store::add_to_linker::<_, HasKeyvalue>(linker, |state| Keyvalue { state })?;
    atomics::add_to_linker::<_, HasKeyvalue>(linker, |state| Keyvalue { state })?;
    batch::add_to_linker::<_, HasKeyvalue>(linker, |state| Keyvalue { state })
}

/// What a call gives: an error of the draft's, or a trap around it.
type Given<T, E = Error> = Result<std::result::Result<T, E>>;

/// What a guest is told of an error. How the store fails is the operator's business alone.
fn told(error: &StoreError) -> Error {
    match error {
        StoreError::NoSuchStore => Error::NoSuchStore,
        StoreError::AccessDenied => Error::AccessDenied,
        StoreError::Unavailable(_) => Error::Other("the store does not work".to_owned()),
        error => Error::Other(error.to_string()),
    }
}

/// An answer that no such operation has: a bug of the backend's.
fn unfit() -> Error {
    Error::Other("the store gave another answer".to_owned())
}

type Parsed<T> = std::result::Result<T, StoreError>;

fn keys(texts: &[String]) -> Parsed<Vec<Key>> {
    if texts.len() > BATCH_KEYS_MAX {
        return Err(StoreError::TooLarge);
    }
    texts.iter().map(|text| Key::new(text)).collect()
}

impl Keyvalue<'_> {
    /// Has the store do something, and waits for it.
    async fn ask(&mut self, operation: Parsed<Operation>) -> Given<kv::Given> {
        spend(self.state, handed_over())?;
        let operation = match operation {
            Ok(operation) => operation,
            Err(error) => return Ok(Err(told(&error))),
        };
        spend(self.state, copied(operation.bytes()))?;
        let Some(access) = &self.state.program.kv else { return Ok(Err(Error::AccessDenied)) };
        let mut pending = match access.submit(operation) {
            Ok(pending) => pending,
            Err(error) => return Ok(Err(told(&error))),
        };
        let given = poll_fn(|cx| pending.poll(cx)).await;
        if let Ok(given) = &given {
            spend(self.state, copied(given.answer().bytes()))?;
        }
        Ok(given.map_err(|error| told(&error)))
    }

    /// For what has nothing to say.
    async fn order(&mut self, operation: Parsed<Operation>) -> Given<()> {
        Ok(self.ask(operation).await?.map(drop))
    }

    /// A `cas` with the value of now.
    async fn look(&mut self, key: Key) -> Given<Cas> {
        let of_guest = self.state.side.desk.hold(key.len())?;
        let given = match self.ask(Ok(Operation::Get(key.clone()))).await? {
            Ok(given) => given,
            Err(error) => return Ok(Err(error)),
        };
        let (answer, of_app) = given.split();
        Ok(match answer {
            Answer::Value(value) => Ok(Cas { key, value, _of_app: of_app, _of_guest: of_guest }),
            _ => Err(unfit()),
        })
    }
}

impl store::Host for Keyvalue<'_> {
    async fn open(&mut self, identifier: String) -> Given<Resource<Bucket>> {
        spend(self.state, parsed(identifier.len()))?;
        enter(self.state)?;
        if self.state.program.kv.is_none() {
            self.state.deny_kv();
            return Ok(Err(Error::AccessDenied));
        }
        if !matches!(identifier.as_str(), "" | "default") {
            return Ok(Err(Error::NoSuchStore));
        }
        Ok(Ok(self.state.side.table.push(Bucket)?))
    }
}

impl store::HostBucket for Keyvalue<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Given<Option<Vec<u8>>> {
        self.state.side.table.get(&bucket)?;
        let given = self.ask(Key::new(&key).map(Operation::Get)).await?;
        Ok(given.and_then(|given| match given.into_answer() {
            Answer::Value(value) => Ok(value),
            _ => Err(unfit()),
        }))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Given<()> {
        self.state.side.table.get(&bucket)?;
        self.order(Key::new(&key).map(|key| Operation::Set(key, value))).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Given<()> {
        self.state.side.table.get(&bucket)?;
        self.order(Key::new(&key).map(Operation::Delete)).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Given<bool> {
        self.state.side.table.get(&bucket)?;
        let given = self.ask(Key::new(&key).map(Operation::Exists)).await?;
        Ok(given.and_then(|given| match given.into_answer() {
            Answer::Found(found) => Ok(found),
            _ => Err(unfit()),
        }))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Given<KeyResponse> {
        self.state.side.table.get(&bucket)?;
        // The cursor is the last key of the page before.
        let after = cursor.map(|cursor| Key::new(&cursor)).transpose();
        let given = self.ask(after.map(|after| Operation::List { prefix: "".into(), after })).await?;
        let page = match given.map(kv::Given::into_answer) {
            Ok(Answer::Keys(page)) => page,
            Ok(_) => return Ok(Err(unfit())),
            Err(error) => return Ok(Err(error)),
        };
        spend(self.state, entries(page.keys.len()))?;
        let keys: Vec<String> = page.keys.iter().map(|key| key.to_string()).collect();
        let cursor = if page.more { keys.last().cloned() } else { None };
        Ok(Ok(KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        enter(self.state)?;
        self.state.side.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Keyvalue<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Given<i64> {
        self.state.side.table.get(&bucket)?;
        let given = self.ask(Key::new(&key).map(|key| Operation::Increment(key, delta))).await?;
        Ok(given.and_then(|given| match given.into_answer() {
            Answer::Number(sum) => Ok(sum),
            _ => Err(unfit()),
        }))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Given<(), CasError> {
        let Cas { key, value: old, _of_app, _of_guest } = self.state.side.table.delete(cas)?;
        let operation = Operation::Swap { key: key.clone(), old, new: Some(value) };
        let given = self.ask(Ok(operation)).await?;
        match given.map(kv::Given::into_answer) {
            Ok(Answer::Found(true)) => Ok(Ok(())),
            Ok(Answer::Found(false)) => Ok(Err(match self.look(key).await? {
                Ok(cas) => CasError::CasFailed(self.state.side.table.push(cas)?),
                Err(error) => CasError::StoreError(error),
            })),
            Ok(_) => Ok(Err(CasError::StoreError(unfit()))),
            Err(error) => Ok(Err(CasError::StoreError(error))),
        }
    }
}

impl atomics::HostCas for Keyvalue<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Given<Resource<Cas>> {
        self.state.side.table.get(&bucket)?;
        let key = match Key::new(&key) {
            Ok(key) => key,
            Err(error) => return Ok(Err(told(&error))),
        };
        Ok(match self.look(key).await? {
            Ok(cas) => Ok(self.state.side.table.push(cas)?),
            Err(error) => Err(error),
        })
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Given<Option<Vec<u8>>> {
        enter(self.state)?;
        let value = self.state.side.table.get(&cas)?.value.clone();
        spend(self.state, copied(value.as_ref().map_or(0, Vec::len)))?;
        Ok(Ok(value))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        enter(self.state)?;
        self.state.side.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for Keyvalue<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        texts: Vec<String>,
    ) -> Given<Vec<Option<(String, Vec<u8>)>>> {
        self.state.side.table.get(&bucket)?;
        spend(self.state, entries(texts.len()))?;
        let given = self.ask(keys(&texts).map(Operation::GetMany)).await?;
        Ok(given.and_then(|given| match given.into_answer() {
            Answer::Values(values) => {
                let pair = |(text, value): (String, Option<Vec<u8>>)| value.map(|value| (text, value));
                Ok(texts.into_iter().zip(values).map(pair).collect())
            }
            _ => Err(unfit()),
        }))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Given<()> {
        self.state.side.table.get(&bucket)?;
        spend(self.state, entries(pairs.len()))?;
        let pair = |(text, value): (String, Vec<u8>)| Ok((Key::new(&text)?, value));
        let pairs: Parsed<Vec<_>> = match pairs.len() {
            0..=BATCH_KEYS_MAX => pairs.into_iter().map(pair).collect(),
            _ => Err(StoreError::TooLarge),
        };
        self.order(pairs.map(Operation::SetMany)).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, texts: Vec<String>) -> Given<()> {
        self.state.side.table.get(&bucket)?;
        spend(self.state, entries(texts.len()))?;
        self.order(keys(&texts).map(Operation::DeleteMany)).await
    }
}
