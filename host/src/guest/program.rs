//! A guest's compiled module, linked and ready to be instantiated, with the limits of its app.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, ModuleExport};

use super::cache::{Cache, EntryId, Found};
use super::compile::{CompileError, Compiler};
use super::places;
use super::state::GuestState;
use crate::clock::Clock;
use crate::config::{AppLimits, Instances, about_bytes};
use crate::exchange::Exchange;
use crate::observe::guest_log::GuestLog;
use tidegate_abi::names;

/// Bytes of a page of linear memory.
const WASM_PAGE_BYTES: u64 = 64 * 1024;
/// Bytes of the largest module that is read.
const WASM_BYTES_MAX: usize = 256 << 20;

/// Why a file is not a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Not WebAssembly at all.
    #[error("this is not a WebAssembly module: it does not begin with the bytes `\\0asm`")]
    NotWasm,
    /// The text format.
    #[error("this is WebAssembly in its text format; turn it into a binary first (`wat2wasm`)")]
    Text,
    /// A component.
    #[error(
        "this is a WebAssembly component; this version serves modules built for wasm32-wasip1 with tidegate-sdk, \
         and not yet components"
    )]
    Component,
    /// Too large to read.
    #[error("this file is larger than {} MiB", WASM_BYTES_MAX >> 20)]
    TooLarge,
    /// Not valid, or it could not be compiled.
    #[error("this module can not be compiled")]
    Compile(#[from] CompileError),
    /// Compiled, and then not loadable.
    #[error("the compiled module can not be loaded: {0:#}")]
    Load(wasmtime::Error),
    /// No handler in it.
    #[error("this module is no handler: {0}")]
    Exports(String),
    /// It needs what is not there.
    #[error("this module can not be linked: {0:#}")]
    Imports(wasmtime::Error),
    /// It needs more than its app may have.
    #[error(
        "this module needs {} of memory to begin with, and its limit is {}: raise `memory`",
        about_bytes(*.needed),
        about_bytes(*.limit)
    )]
    Memory { needed: u64, limit: u64 },
    /// Likewise for a table.
    #[error(
        "this module needs a table of {needed} elements, and its limit is {limit}: raise `table_elements`"
    )]
    Table { needed: u64, limit: usize },
}

/// A guest, ready to be instantiated.
pub(crate) struct Program {
    pub(crate) name: Arc<str>,
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) memory: ModuleExport,
    pub(crate) handle: ModuleExport,
    pub(crate) initialize: Option<ModuleExport>,
    /// Places in the pools that an instance takes.
    pub(crate) cost: u32,
    pub(crate) limits: AppLimits,
    pub(crate) instances: Instances,
    /// `NAME=value`, each ended by a NUL.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) log: GuestLog,
    /// What an instance holds while it serves nobody, so that a finished request's exchange is free again.
    pub(crate) nobody: Arc<Exchange>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What makes a program out of a file.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<GuestState>,
    pub(crate) compiler: Compiler,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
}

/// What a program is made from, besides its bytes.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) limits: AppLimits,
    pub(crate) instances: Instances,
    pub(crate) env: Vec<(String, String)>,
}

impl Loader {
    /// Takes `wasm` from the cache, else compiles it in a child and keeps it there; loads and links it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load(&self, wasm: &[u8], spec: Spec) -> Result<Program, LoadError> {
        check_kind(wasm)?;
        let id = EntryId::new(&self.engine, wasm);
        if let Some(module) = self.cached(&id, &spec.name) {
            return self.link(&module, spec);
        }
        let began = Instant::now();
        let code = self.compiler.compile(wasm)?;
        tracing::debug!(app = &*spec.name, ms = began.elapsed().as_millis(), "compiled");
        // What was just kept is mapped from its file, too: those pages can be given back when memory is short.
        let kept = if self.cache.store(&id, &code) { self.cached(&id, &spec.name) } else { None };
        let module = match kept {
            Some(module) => module,
            None => self.deserialize(&code)?,
        };
        self.link(&module, spec)
    }

    /// The module of an entry, if there is one that is as it was written.
    #[allow(unsafe_code)]
    fn cached(&self, id: &EntryId, app: &str) -> Option<Module> {
        let reason = match self.cache.find(id) {
            Found::Nothing => return None,
            Found::Broken(defect) => defect.to_string(),
            Found::Whole(file) => {
                // SAFETY: our own compiler made this code; the seal that was just verified in this very file says so.
                // Nobody but our user can write to the file, and we never write to an entry once it has its name.
                match unsafe { Module::deserialize_open_file(&self.engine, file) } {
                    Ok(module) => return Some(module),
                    Err(error) => format!("{error:#}"),
                }
            }
        };
        tracing::warn!(app, reason, "the kept copy of the compiled module is not used: it is compiled again");
        None
    }

    /// Loads code that our own compiler made.
    ///
    /// # Errors
    /// [`LoadError::Load`].
    #[allow(unsafe_code)]
    pub(crate) fn deserialize(&self, code: &[u8]) -> Result<Module, LoadError> {
        // SAFETY: the code comes from our own compiling child, through a pipe that nobody else can write to, and was
        // made by the same binary with the same settings.
        unsafe { Module::deserialize(&self.engine, code) }.map_err(LoadError::Load)
    }

    /// Links a module.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn link(&self, module: &Module, spec: Spec) -> Result<Program, LoadError> {
        let (memory, handle, initialize) = exports(module)?;
        let cost = check_needs(module, &spec.limits)?;
        let pre = self.linker.instantiate_pre(module).map_err(LoadError::Imports)?;
        let env = spec.env.iter().map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect();
        let log = GuestLog::new(Arc::clone(&spec.name), spec.limits.log_bytes_per_s);
        Ok(Program {
            name: spec.name,
            pre,
            memory,
            handle,
            initialize,
            cost,
            limits: spec.limits,
            instances: spec.instances,
            env,
            log,
            nobody: Exchange::new(self.clock),
        })
    }
}

/// What is in a file that is to be a guest. A pipe or a device may never end, and what is larger than any module is none:
/// neither is read.
///
/// # Errors
/// It cannot be read, is no regular file, or too large.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let metadata = fs::metadata(path).with_context(|| format!("`{shown}` cannot be read"))?;
    anyhow::ensure!(metadata.is_file(), "`{shown}` is not a regular file");
    if metadata.len() > WASM_BYTES_MAX as u64 {
        return Err(anyhow::Error::new(LoadError::TooLarge).context(format!("`{shown}`")));
    }
    fs::read(path).with_context(|| format!("`{shown}` cannot be read"))
}

/// Tells modules, components and other files apart by their first bytes.
fn check_kind(wasm: &[u8]) -> Result<(), LoadError> {
    let text = wasm.trim_ascii_start();
    match wasm {
        _ if wasm.len() > WASM_BYTES_MAX => Err(LoadError::TooLarge),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Err(LoadError::Component),
        _ if text.starts_with(b"(") || text.starts_with(b";;") => Err(LoadError::Text),
        _ => Err(LoadError::NotWasm),
    }
}

type Exports = (ModuleExport, ModuleExport, Option<ModuleExport>);

fn exports(module: &Module) -> Result<Exports, LoadError> {
    let refuse = |text: String| Err(LoadError::Exports(text));
    let function = |name: &str, results: usize| match module.get_export(name) {
        None => Ok(None),
        Some(ExternType::Func(ty))
            if ty.params().len() == 0
                && ty.results().len() == results
                && ty.results().all(|t| t.is_i32()) =>
        {
            Ok(module.get_export_index(name))
        }
        Some(_) => {
            let shape = if results == 0 { "() -> ()" } else { "() -> i32" };
            Err(LoadError::Exports(format!("its export `{name}` is not a function `{shape}`")))
        }
    };
    let Some(handle) = function(names::HANDLE, 1)? else {
        if module.get_export(names::START).is_some() {
            return refuse(format!(
                "it is a command (it exports `{}`); a handler exports `{}`. In Rust: crate-type = [\"cdylib\"] \
                 and #[tidegate_sdk::handler]",
                names::START,
                names::HANDLE
            ));
        }
        return refuse(format!("it does not export a function `{}` of type `() -> i32`", names::HANDLE));
    };
    let memory = match module.get_export(names::MEMORY) {
        Some(ExternType::Memory(ty)) if !ty.is_64() && !ty.is_shared() => {
            module.get_export_index(names::MEMORY)
        }
        Some(_) => return refuse(format!("its export `{}` is not a 32-bit memory", names::MEMORY)),
        None => None,
    };
    let Some(memory) = memory else {
        return refuse(format!("it does not export its memory as `{}`", names::MEMORY));
    };
    Ok((memory, handle, function(names::INITIALIZE, 0)?))
}

/// Holds what the module begins with against the app's limits. Returns the places it costs.
fn check_needs(module: &Module, limits: &AppLimits) -> Result<u32, LoadError> {
    let needs = module.resources_required();
    let needed = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
    if needed > limits.memory_bytes {
        return Err(LoadError::Memory { needed, limit: limits.memory_bytes });
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > limits.table_elements as u64 {
        return Err(LoadError::Table { needed: elements, limit: limits.table_elements });
    }
    Ok(places::cost(needs.num_memories, needs.num_tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        let component = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        assert!(check_kind(b"\0asm\x01\0\0\0").is_ok());
        assert!(matches!(check_kind(&component), Err(LoadError::Component)));
        assert!(matches!(check_kind(b"  (module)"), Err(LoadError::Text)));
        assert!(matches!(check_kind(b"\x7fELF"), Err(LoadError::NotWasm)));
        assert!(matches!(check_kind(b""), Err(LoadError::NotWasm)));
    }
}
