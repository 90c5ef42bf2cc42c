//! What a guest is made of, as far as it shows without compiling it: what a component imports and exports, and what an
//! instance takes out of the pools.
//!
//! The bytes may be anything. Code and data are skipped, everything else is looked at once, with a bound on how deep and
//! how many; so this is cheap for the largest of engines too, and is done before anything is compiled. Whether the file
//! is valid is for the compiler to say.

mod count;
mod parse;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use wasmparser::{BinaryReaderError, ComponentExternalKind};

use super::engine::{MEMORIES_PER_MODULE_MAX, TABLES_PER_MODULE_MAX};
use super::limiter::CORE_INSTANCES_MAX;
use super::program::Kind;

/// What an instance takes: what all its core instances have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    pub(crate) core_instances: u64,
    pub(crate) memories: u64,
    pub(crate) tables: u64,
    /// Of memory, to begin with.
    pub(crate) memory_bytes: u64,
    /// Of tables, to begin with.
    pub(crate) table_elements: u64,
}

impl Needs {
    /// All that a Store may hold: of a guest that does not show what it takes.
    pub(crate) const UNKNOWN: Self = Self {
        core_instances: CORE_INSTANCES_MAX as u64,
        memories: MEMORIES_PER_MODULE_MAX as u64,
        tables: TABLES_PER_MODULE_MAX as u64,
        memory_bytes: 0,
        table_elements: 0,
    };

    fn add(&mut self, other: &Self) {
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.table_elements = self.table_elements.saturating_add(other.table_elements);
    }
}

/// What is in a guest's file.
#[derive(Debug, Default)]
pub(crate) struct Anatomy<'a> {
    /// A component's imports; those of a module are not looked at.
    pub(crate) imports: Vec<Import<'a>>,
    /// Likewise.
    pub(crate) exports: Vec<Export<'a>>,
    /// None: it hangs on what it imports.
    pub(crate) needs: Option<Needs>,
}

/// What a component imports under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import<'a> {
    pub(crate) name: &'a str,
    pub(crate) what: Imported<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Imported<'a> {
    /// An interface, with what of it has to be there. Types that are no resources need nothing of a host.
    Interface(Rc<[Item<'a>]>),
    /// Something else, in a word, as `function`.
    Other(&'static str),
    /// Nothing that a host would have to have: a type.
    Nothing,
}

/// A member of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: ItemKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Function,
    Resource,
    Other,
}

/// What a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Export<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: ComponentExternalKind,
}

/// Why a file was not looked at to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// It is damaged, and no compiler will take it.
    #[error("it is not valid: {}", .0.message())]
    Damaged(#[from] BinaryReaderError),
    #[error("its components or types lie more than {} deep in each other", parse::DEPTH_MAX)]
    Deep,
    #[error("it has more than {} items", parse::ITEMS_MAX)]
    Many,
    #[error("it imports more than {} things", parse::IMPORTED_MAX)]
    Imports,
    #[error("what it instantiates can not be counted in {} steps", count::STEPS_MAX)]
    Endless,
}

/// Looks at a guest.
///
/// # Errors
/// See [`Unread`].
pub(crate) fn of(kind: Kind, wasm: &[u8]) -> Result<Anatomy<'_>, Unread> {
    match kind {
        Kind::Module => {
            let needs = Some(parse::module(wasm)?);
            Ok(Anatomy { needs, ..Anatomy::default() })
        }
        Kind::Component => {
            let (bodies, imports, exports) = parse::component(wasm)?;
            let needs = count::needs(&bodies)?;
            Ok(Anatomy { imports, exports, needs })
        }
    }
}
