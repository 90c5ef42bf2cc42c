//! Why a file is not taken as a guest.

use super::check::WASM_BYTES_MAX;
use super::{Kind, Unread};
use crate::config::{Given, about_bytes};
use crate::guest::compile::CompileError;
use crate::guest::offer;

/// Why a file is not a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Not WebAssembly at all.
    #[error("this is not WebAssembly: it does not begin with the bytes `\\0asm` and a version that is known")]
    NotWasm,
    /// The text format.
    #[error("this is WebAssembly in its text format; turn it into a binary first (`{0}`)")]
    Text(&'static str),
    /// Less than magic number and version.
    #[error("it is cut short: a file of {0} bytes, which is less than WebAssembly begins with")]
    CutShort(usize),
    /// Too large to read.
    #[error("this file is larger than {} MiB", WASM_BYTES_MAX >> 20)]
    TooLarge,
    /// Not valid, or it could not be compiled.
    #[error("this guest can not be compiled")]
    Compile(#[from] CompileError),
    /// Compiled, and then not loadable.
    #[error("the compiled guest can not be loaded: {0:#}")]
    Load(wasmtime::Error),
    /// No handler in it.
    #[error("this {0} is no handler: {1}")]
    Exports(Kind, String),
    /// It needs what is not there.
    #[error("this {0} can not be linked: {1:#}")]
    Imports(Kind, wasmtime::Error),
    /// A component imports what is not there: all of it, a line each.
    #[error("this component imports what this server does not have:{}", offer::listed(.0))]
    Missing(Vec<String>),
    /// It is built in a way that no server would look through.
    #[error("this guest is not taken: {0}")]
    Unread(Unread),
    /// An instance of it is more than a Store may hold.
    #[error("this guest has {count} {what}, and {limit} are the most")]
    Parts { what: &'static str, count: u64, limit: u32 },
    /// It needs more than its app may have.
    #[error(
        "this guest needs {} of memory to begin with, and its limit is {}: raise `memory` (`--limit memory={}`, or \
         `limits.memory` in the manifest)",
        about_bytes(*.needed),
        Given::size_told(*.limit),
        Given::size_text(needed.next_multiple_of(1 << 20))
    )]
    Memory { needed: u64, limit: u64 },
    /// Likewise for a table.
    #[error("this guest needs tables of {needed} elements, and its limit is {limit}: raise `table_elements`")]
    Table { needed: u64, limit: usize },
    /// A module, which has no files, with mounts.
    #[error("mounts are for components: build it with `--target component`, or take them out")]
    MountsOfModule,
    /// A folder that can not be opened.
    #[error("mounts: {0}")]
    Mounts(String),
    /// Code is to be made again, and what it was made from can not be read.
    #[error("its module can not be read again: {0:#}")]
    Source(anyhow::Error),
    /// Likewise, and it is another module by now.
    #[error("its module is not what it was when it was deployed: deploy it again")]
    Changed,
}
