//! What a server keeps: apps and their versions, the modules they are made of, and guests' key-value data.
//!
//! It knows no HTTP, no WebAssembly, and nothing of what is served. Whatever it says is done is on the disk.
//!
//! # In the state folder
//!
//! | path | what |
//! |---|---|
//! | `lock` | held by the one server that has the folder; its process id |
//! | `registry.redb` | apps and versions |
//! | `wasm/<64 hexadecimal digits>` | a module, called after its BLAKE3 |
//! | `kv.redb` | guests' key-value data |
//! | `audit.log`, `audit.log.1` | who did what, a line of JSON each |
//! | `.aside-*`, `wasm/.aside-*` | a file that is being written; it gets its name when it is whole |
//!
//! Files are of mode 0600, folders of mode 0700.

mod audit;
mod database;
mod error;
mod folder;
pub mod kv;
mod lock;
mod modules;
pub mod ours;
pub mod records;
mod registry;
mod store;

pub use audit::AuditRecord;
pub use error::{OpenError, ReceiveError, StoreError};
pub use modules::ModuleFile;
pub use registry::Change;
pub use store::Store;
