//! What the fuzz targets reach of the inside. Not an interface: nothing else may use it.

use crate::guest::anatomy::{self, Unread};
use crate::guest::program::Kind;

/// What was found out about a file that is to be a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anatomy {
    /// It was looked at to its end.
    Whole {
        /// What an instance takes: core instances, memories, tables, their bytes and their elements to begin with; None
        /// where that hangs on what it imports.
        needs: Option<[u64; 5]>,
        /// Its imports and exports, of a component.
        names: [usize; 2],
    },
    /// It is damaged.
    Damaged,
    /// It has more in it than is looked at.
    Bounded,
}

/// Looks at a file as is done before a guest is compiled.
#[must_use]
pub fn anatomy(component: bool, wasm: &[u8]) -> Anatomy {
    let kind = if component { Kind::Component } else { Kind::Module };
    match anatomy::of(kind, wasm) {
        Ok(found) => Anatomy::Whole {
            needs: found.needs.map(|needs| {
                let anatomy::Needs { core_instances, memories, tables, memory_bytes, table_elements } = needs;
                [core_instances, memories, tables, memory_bytes, table_elements]
            }),
            names: [found.imports.len(), found.exports.len()],
        },
        Err(Unread::Damaged(_)) => Anatomy::Damaged,
        Err(Unread::Deep | Unread::Many | Unread::Imports | Unread::Endless) => Anatomy::Bounded,
    }
}
