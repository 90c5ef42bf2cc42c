//! A guest's compiled guest, linked and ready to be instantiated, with the limits of its app.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tidegate_abi::names;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport};

use super::anatomy::{self, Needs, Unread};
use super::cache::{Cache, EntryId, Found};
use super::compile::{CompileError, Compiler};
use super::component::ComponentState;
use super::engine::{MEMORIES_PER_MODULE_MAX, TABLES_PER_MODULE_MAX};
use super::exports::{ComponentExport, ModuleExports};
use super::limiter::CORE_INSTANCES_MAX;
use super::mounts::{FileThreads, Mounts};
use super::state::GuestState;
use super::{exports, offer, places};
use crate::clock::Clock;
use crate::config::{AppLimits, Given, Instances, Mount, about_bytes};
use crate::exchange::Exchange;
use crate::observe::guest_log::GuestLog;

/// Bytes of the largest module that is read.
const WASM_BYTES_MAX: usize = 256 << 20;

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
}

/// The kinds of guests, told apart by looking at the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A core module with the module ABI.
    Module,
    /// A component with `wasi:http@0.2`.
    Component,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "module",
            Self::Component => "component",
        })
    }
}

/// Linked code.
pub(crate) enum Code {
    Module(ModuleCode),
    Component(ComponentCode),
}

pub(crate) struct ModuleCode {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) memory: ModuleExport,
    /// `tidegate_handle`.
    pub(crate) handle: Option<ModuleExport>,
    /// `tidegate_connection`.
    pub(crate) connection: Option<ModuleExport>,
    pub(crate) initialize: Option<ModuleExport>,
}

pub(crate) struct ComponentCode {
    pub(crate) pre: component::InstancePre<ComponentState>,
    pub(crate) entry: ComponentExport,
}

/// What was compiled, not linked yet.
pub(crate) enum Compiled {
    Module(Module),
    Component(Component),
}

/// A guest, ready to be instantiated.
pub(crate) struct Program {
    pub(crate) name: Arc<str>,
    pub(crate) code: Code,
    /// Places in the pools that an instance takes.
    pub(crate) cost: u32,
    pub(crate) limits: AppLimits,
    pub(crate) instances: Instances,
    /// `NAME=value`, each ended by a NUL: what a module is given.
    pub(crate) environ: Vec<Vec<u8>>,
    /// Names and values: what a component is given.
    pub(crate) env: Vec<(String, String)>,
    /// Folders of the host that a component sees.
    pub(crate) mounts: Option<Mounts>,
    pub(crate) log: GuestLog,
    /// What an instance holds while it serves nobody, so that a finished request's exchange is free again.
    pub(crate) nobody: Arc<Exchange>,
}

impl Program {
    /// True if it serves requests.
    pub(crate) fn serves_http(&self) -> bool {
        match &self.code {
            Code::Module(code) => code.handle.is_some(),
            Code::Component(code) => matches!(code.entry, ComponentExport::Handle(_)),
        }
    }

    /// True if it serves raw connections.
    pub(crate) fn serves_connections(&self) -> bool {
        matches!(&self.code, Code::Module(code) if code.connection.is_some())
    }

    /// True if it runs by itself.
    pub(crate) fn is_command(&self) -> bool {
        matches!(&self.code, Code::Component(code) if matches!(code.entry, ComponentExport::Run(_)))
    }

    pub(crate) fn engine(&self) -> &Engine {
        match &self.code {
            Code::Module(code) => code.pre.module().engine(),
            Code::Component(code) => code.pre.engine(),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What guests are offered, by their kind.
pub(crate) struct Linkers {
    pub(crate) module: Linker<GuestState>,
    pub(crate) component: component::Linker<ComponentState>,
}

impl Linkers {
    /// Linkers that offer nothing yet.
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { module: Linker::new(engine), component: component::Linker::new(engine) }
    }
}

/// What makes a program out of a file.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) linkers: Linkers,
    pub(crate) compiler: Compiler,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) file_threads: FileThreads,
}

/// What a program is made from, besides its bytes.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) limits: AppLimits,
    pub(crate) instances: Instances,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) wants: Wants,
}

/// What an app's guest is there for. Of a guest that may do several things, all that is asked for has to be there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    /// Requests lead to it.
    pub(crate) http: bool,
    /// They do so only because nothing was said of routes.
    pub(crate) http_by_default: bool,
    /// Raw connections lead to it.
    pub(crate) connections: bool,
    /// It may use sockets: then a command has something to do by itself.
    pub(crate) sockets: bool,
}

impl Loader {
    /// Takes `wasm`, whose hash is `hash`, from the cache, else compiles it in a child and keeps it there; loads and links it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load(&self, wasm: &[u8], hash: &blake3::Hash, spec: Spec) -> Result<Program, LoadError> {
        let kind = kind(wasm)?;
        let needs = check(kind, wasm, &spec.limits)?;
        let id = EntryId::new(&self.engine, hash);
        if let Some(compiled) = self.cached(kind, &id, &spec.name) {
            return self.link(&compiled, needs, spec);
        }
        let began = Instant::now();
        let code = self.compiler.compile(wasm, || {
            let size = about_bytes(wasm.len() as u64);
            let what = if self.cache.keeps() { "compiling: done once, and kept" } else { "compiling" };
            tracing::info!(app = &*spec.name, size, "{what}");
        })?;
        tracing::debug!(app = &*spec.name, ms = began.elapsed().as_millis(), "compiled");
        // What was just kept is mapped from its file, too: those pages can be given back when memory is short.
        let kept = if self.cache.store(&id, &code) { self.cached(kind, &id, &spec.name) } else { None };
        let compiled = match kept {
            Some(compiled) => compiled,
            None => self.deserialize(kind, &code)?,
        };
        self.link(&compiled, needs, spec)
    }

    /// The code of an entry, if there is one that is as it was written.
    #[allow(unsafe_code)]
    fn cached(&self, kind: Kind, id: &EntryId, app: &str) -> Option<Compiled> {
        let reason = match self.cache.find(id) {
            Found::Nothing => return None,
            Found::Broken(defect) => defect.to_string(),
            Found::Whole(file) => {
                // SAFETY: our own compiler made this code; the seal that was just verified in this very file says so.
                // Nobody but our user can write to the file, and we never write to an entry once it has its name.
                let loaded = unsafe {
                    match kind {
                        Kind::Module => {
                            Module::deserialize_open_file(&self.engine, file).map(Compiled::Module)
                        }
                        Kind::Component => open_component(&self.engine, &file).map(Compiled::Component),
                    }
                };
                match loaded {
                    Ok(compiled) => return Some(compiled),
                    Err(error) => format!("{error:#}"),
                }
            }
        };
        tracing::warn!(app, reason, "the kept copy of the compiled guest is not used: it is compiled again");
        None
    }

    /// Loads code that our own compiler made.
    ///
    /// # Errors
    /// [`LoadError::Load`].
    #[allow(unsafe_code)]
    pub(crate) fn deserialize(&self, kind: Kind, code: &[u8]) -> Result<Compiled, LoadError> {
        // SAFETY: the code comes from our own compiling child, through a pipe that nobody else can write to, and was
        // made by the same binary with the same settings.
        let loaded = unsafe {
            match kind {
                Kind::Module => Module::deserialize(&self.engine, code).map(Compiled::Module),
                Kind::Component => Component::deserialize(&self.engine, code).map(Compiled::Component),
            }
        };
        loaded.map_err(LoadError::Load)
    }

    /// Links what was compiled.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn link(&self, compiled: &Compiled, needs: Needs, spec: Spec) -> Result<Program, LoadError> {
        let code = match compiled {
            Compiled::Module(module) => {
                let ModuleExports { memory, handle, connection, initialize } = exports::of_module(module)?;
                let pre = self.linkers.module.instantiate_pre(module);
                let pre = pre.map_err(|error| LoadError::Imports(Kind::Module, error))?;
                Code::Module(ModuleCode { pre, memory, handle, connection, initialize })
            }
            Compiled::Component(component) => {
                let entry = exports::of_component(component, &self.linkers.component)?;
                let pre = self.linkers.component.instantiate_pre(component);
                let pre = pre.map_err(|error| LoadError::Imports(Kind::Component, error))?;
                Code::Component(ComponentCode { pre, entry })
            }
        };
        check_wants(&code, spec.wants)?;
        let cost = places::cost(&needs);
        if matches!(code, Code::Module(_)) && !spec.mounts.is_empty() {
            return Err(LoadError::MountsOfModule);
        }
        let mounts = Mounts::open(&spec.mounts, &self.file_threads).map_err(LoadError::Mounts)?;
        let environ = spec.env.iter().map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect();
        let log = GuestLog::new(Arc::clone(&spec.name), spec.limits.log_bytes_per_s);
        Ok(Program {
            name: spec.name,
            code,
            cost,
            limits: spec.limits,
            instances: spec.instances,
            environ,
            env: spec.env,
            mounts,
            log,
            nobody: Exchange::new(self.clock),
        })
    }
}

/// Holds what a guest is there for against what it exports.
///
/// # Errors
/// It lacks an export; the text says which.
fn check_wants(code: &Code, wants: Wants) -> Result<(), LoadError> {
    let (kind, http, connections, command) = match code {
        Code::Module(code) => (Kind::Module, code.handle.is_some(), code.connection.is_some(), false),
        Code::Component(code) => match code.entry {
            ComponentExport::Handle(_) => (Kind::Component, true, false, false),
            ComponentExport::Run(_) => (Kind::Component, false, false, true),
        },
    };
    let refuse = |text: String| Err(LoadError::Exports(kind, text));
    if wants.connections && !connections {
        return refuse(match kind {
            Kind::Module => format!(
                "raw connections lead to it (`[[listen]]`, `--listen-tcp`), and it does not export a function `{}` of type \
                 `(i32) -> i32`",
                names::CONNECTION
            ),
            Kind::Component => "raw connections lead to it (`[[listen]]`, `--listen-tcp`), which only modules serve; a \
                                component listens by itself, where `sockets.listen` (`--allow-listen`) lets it"
                .to_owned(),
        });
    }
    let by_itself = command && wants.sockets || connections && wants.connections;
    if http && !wants.http && !by_itself {
        return refuse("nothing leads to it: give it `routes`, as in `routes = [\"/*\"]`".to_owned());
    }
    if http || !wants.http && by_itself || wants.http_by_default && by_itself {
        return Ok(());
    }
    refuse(match kind {
        Kind::Module => format!(
            "routes lead to it, and it does not export a function `{}` of type `() -> i32`; for raw connections alone: \
             `[[listen]]` with `tcp` and `app` in the manifest, or `--listen-tcp`",
            names::HANDLE
        ),
        Kind::Component => offer::no_handler(std::iter::once(offer::COMMAND_SHOWN)),
    })
}

/// Loads a component from an open file. wasmtime opens components by their path only, and the file's own path may lead
/// to another file by now: this one leads to the very file that is open.
///
/// # Safety
/// As for [`Component::deserialize_file`].
#[allow(unsafe_code)]
unsafe fn open_component(engine: &Engine, file: &fs::File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the caller's promise.
    unsafe { Component::deserialize_file(engine, path) }
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
///
/// # Errors
/// It is neither.
pub(crate) fn kind(wasm: &[u8]) -> Result<Kind, LoadError> {
    let text = wasm.trim_ascii_start();
    match wasm {
        _ if wasm.len() > WASM_BYTES_MAX => Err(LoadError::TooLarge),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(Kind::Module),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Kind::Component),
        _ if text.starts_with(b"(") || text.starts_with(b";;") => Err(LoadError::Text(binary_maker(text))),
        [] => Err(LoadError::CutShort(0)),
        _ if b"\0asm".starts_with(wasm) || wasm.len() < 8 && wasm.starts_with(b"\0asm") => {
            Err(LoadError::CutShort(wasm.len()))
        }
        _ => Err(LoadError::NotWasm),
    }
}

/// What makes a binary of this text. Older tools know modules only.
fn binary_maker(text: &[u8]) -> &'static str {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b";;")).unwrap_or_default();
    if first.starts_with(b"(component") { "wasm-tools parse" } else { "wat2wasm" }
}

/// Looks at a guest before it is compiled: what could never be served is refused here. Returns what an instance takes.
///
/// # Errors
/// What it imports is not there, it exports no handler, or it needs more than there is.
pub(crate) fn check(kind: Kind, wasm: &[u8], limits: &AppLimits) -> Result<Needs, LoadError> {
    let anatomy = match anatomy::of(kind, wasm) {
        Ok(anatomy) => anatomy,
        // The compiler says where it is damaged. Should it take the guest in spite of that, nobody knows its needs.
        Err(Unread::Damaged(_)) => return Ok(Needs::UNKNOWN),
        Err(error) => return Err(LoadError::Unread(error)),
    };
    if kind == Kind::Component {
        let missing = offer::missing(&anatomy.imports);
        if !missing.is_empty() {
            return Err(LoadError::Missing(missing));
        }
        if !anatomy.exports.iter().any(|export| offer::serves(export) || offer::runs(export)) {
            let names = anatomy.exports.iter().map(|export| export.name);
            return Err(LoadError::Exports(kind, offer::no_handler(names)));
        }
    }
    let needs = anatomy.needs.unwrap_or(Needs::UNKNOWN);
    check_needs(&needs, limits)?;
    Ok(needs)
}

/// Holds what an instance begins with against what a Store may hold, and the app's limits.
fn check_needs(needs: &Needs, limits: &AppLimits) -> Result<(), LoadError> {
    for (what, count, limit) in [
        ("core instances", needs.core_instances, CORE_INSTANCES_MAX),
        ("linear memories", needs.memories, MEMORIES_PER_MODULE_MAX),
        ("tables", needs.tables, TABLES_PER_MODULE_MAX),
    ] {
        if count > limit.into() {
            return Err(LoadError::Parts { what, count, limit });
        }
    }
    if needs.memory_bytes > limits.memory_bytes {
        return Err(LoadError::Memory { needed: needs.memory_bytes, limit: limits.memory_bytes });
    }
    if needs.table_elements > limits.table_elements as u64 {
        return Err(LoadError::Table { needed: needs.table_elements, limit: limits.table_elements });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        let component = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        assert!(matches!(kind(b"\0asm\x01\0\0\0"), Ok(Kind::Module)));
        assert!(matches!(kind(&component), Ok(Kind::Component)));
        assert!(matches!(kind(b"  (module)"), Err(LoadError::Text("wat2wasm"))));
        assert!(matches!(kind(b";; mine\n\n (component)"), Err(LoadError::Text("wasm-tools parse"))));
        assert!(matches!(kind(b"\x7fELF"), Err(LoadError::NotWasm)));
        assert!(matches!(kind(b"hello"), Err(LoadError::NotWasm)));
        for len in 0..8 {
            assert!(matches!(kind(&component[..len]), Err(LoadError::CutShort(n)) if n == len));
        }
        assert!(matches!(kind(b"\0asm\x02\0\0\0"), Err(LoadError::NotWasm)));
    }

    #[test]
    fn too_little_memory_is_told_with_what_would_do() {
        let told = |needed, limit| LoadError::Memory { needed, limit }.to_string();
        assert_eq!(
            told((1 << 20) + 1, 1 << 20),
            "this guest needs 1.1 MiB of memory to begin with, and its limit is 1 MiB: raise `memory` (`--limit \
             memory=2MiB`, or `limits.memory` in the manifest)"
        );
        assert!(
            told(3 << 30, 1000 << 10)
                .contains("its limit is 1000 KiB: raise `memory` (`--limit memory=3GiB`")
        );
    }
}
