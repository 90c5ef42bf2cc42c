//! Makes programs, and the code of those that are cold: out of the compiled cache, else by compiling.
//!
//! Everything here may take long, and is for threads that have the time; never for a worker's.

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{self, Component};
use wasmtime::{Engine, Linker, Module};

use super::check::{check, check_wants, kind};
use super::{Code, Compiled, ComponentCode, Facts, Kind, Linked, LoadError, ModuleCode, Program, Spec};
use crate::clock::{Clock, MS};
use crate::config::about_bytes;
use crate::exchange::Exchange;
use crate::guest::cache::{Cache, EntryId, Found};
use crate::guest::compile::Compiler;
use crate::guest::component::ComponentState;
use crate::guest::exports::{self, ModuleExports};
use crate::guest::loading::residency::Residency;
use crate::guest::loading::slot::{CodeSlot, CodeSource, Origin};
use crate::guest::mounts::{FileThreads, Mounts};
use crate::guest::state::GuestState;
use crate::observe::guest_log::GuestLog;

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
    /// Programs whose code is in memory and could be loaded again.
    pub(crate) residency: Arc<Residency>,
}

impl Loader {
    /// Takes `wasm`, whose hash is `hash`, from the cache, else compiles it in a child and keeps it there; loads and
    /// links it. Its code stays for as long as the program does.
    ///
    /// # Errors
    /// See [`LoadError`].
    #[cfg(test)]
    pub(crate) fn load(&self, wasm: &[u8], hash: &blake3::Hash, spec: Spec) -> Result<Program, LoadError> {
        self.load_with(wasm, hash, spec, None, &mut |_| {})
    }

    /// The same for a program whose code may go when others need the room: `source` has the module's bytes again.
    /// `compiling` is called once a second with the seconds that compiling has taken by then.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load_from(
        &self,
        wasm: &[u8],
        hash: &blake3::Hash,
        spec: Spec,
        source: Arc<dyn CodeSource>,
        compiling: &mut dyn FnMut(u64),
    ) -> Result<Program, LoadError> {
        self.load_with(wasm, hash, spec, Some(source), compiling)
    }

    fn load_with(
        &self,
        wasm: &[u8],
        hash: &blake3::Hash,
        spec: Spec,
        source: Option<Arc<dyn CodeSource>>,
        compiling: &mut dyn FnMut(u64),
    ) -> Result<Program, LoadError> {
        let kind = kind(wasm)?;
        let needs = check(kind, wasm, &spec.limits)?;
        let id = EntryId::new(&self.engine, hash);
        let mut told = false;
        let compiled = match self.cached(kind, &id, &spec.name) {
            Some(compiled) => compiled,
            None => self.compile(kind, wasm, &id, &spec.name, &mut |seconds| {
                if !std::mem::replace(&mut told, true) {
                    let size = about_bytes(wasm.len() as u64);
                    let what =
                        if self.cache.keeps() { "compiling: done once, and kept" } else { "compiling" };
                    tracing::info!(app = &*spec.name, size, "{what}");
                }
                compiling(seconds);
            })?,
        };
        let code = self.link_code(&compiled)?;
        let facts = Facts::new(&code, needs);
        let origin = source.map(|source| Origin { kind, hash: *hash, source });
        let slot = CodeSlot::loaded(Arc::clone(&spec.name), Arc::new(code), origin, self.clock.now());
        let program = self.assemble(facts, slot, spec)?;
        if program.slot.origin().is_some() {
            self.residency.add(&program.slot);
            // Who loads thousands, as a server does that starts, never has more than may be.
            drop(self.residency.trim(self.clock.now()));
        }
        Ok(program)
    }

    /// A program whose code is loaded when it is needed. The module with this hash was loaded before, and had these facts.
    ///
    /// # Errors
    /// Its app wants of it, or gives it, what does not fit.
    pub(crate) fn cold(
        &self,
        hash: &blake3::Hash,
        facts: Facts,
        source: Arc<dyn CodeSource>,
        spec: Spec,
    ) -> Result<Program, LoadError> {
        facts.check(&spec.limits)?;
        let origin = Origin { kind: facts.kind, hash: *hash, source };
        let slot = CodeSlot::cold(Arc::clone(&spec.name), origin);
        self.assemble(facts, slot, spec)
    }

    /// The code of a cold program, if the cache has it.
    ///
    /// # Errors
    /// It can not be linked.
    pub(crate) fn fetch_cached(&self, app: &str, origin: &Origin) -> Result<Option<Code>, LoadError> {
        let id = EntryId::new(&self.engine, &origin.hash);
        let compiled = self.cached(origin.kind, &id, app);
        compiled.map(|compiled| self.link_code(&compiled)).transpose()
    }

    /// The code of a cold program, compiled in a child.
    ///
    /// # Errors
    /// Its module is not there any more or another, or it is not taken.
    pub(crate) fn fetch_compiled(&self, app: &str, origin: &Origin) -> Result<Code, LoadError> {
        let wasm = origin.source.wasm().map_err(LoadError::Source)?;
        if blake3::hash(&wasm) != origin.hash {
            return Err(LoadError::Changed);
        }
        let id = EntryId::new(&self.engine, &origin.hash);
        let compiled = self.compile(origin.kind, &wasm, &id, app, &mut |seconds| {
            let size = about_bytes(wasm.len() as u64);
            tracing::debug!(app, size, seconds, "compiling again: the cache has it no more");
        })?;
        self.link_code(&compiled)
    }

    /// Compiles, keeps what comes of it, and loads that. `waiting` is called once a second meanwhile.
    fn compile(
        &self,
        kind: Kind,
        wasm: &[u8],
        id: &EntryId,
        app: &str,
        waiting: &mut dyn FnMut(u64),
    ) -> Result<Compiled, LoadError> {
        let began = Instant::now();
        let (code, used) = self.compiler.compile(wasm, waiting);
        let (ms, cpu_ms, peak) =
            (began.elapsed().as_millis(), used.cpu_ns / MS, about_bytes(used.peak_bytes));
        tracing::debug!(app, taken = code.is_ok(), ms, cpu_ms, peak, "compiled");
        let code = code?;
        // What was just kept is mapped from its file, too: those pages can be given back when memory is short.
        let kept = if self.cache.store(id, &code) { self.cached(kind, id, app) } else { None };
        match kept {
            Some(compiled) => Ok(compiled),
            None => self.deserialize(kind, &code),
        }
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
    fn link_code(&self, compiled: &Compiled) -> Result<Code, LoadError> {
        let linked = match compiled {
            Compiled::Module(module) => {
                let ModuleExports { memory, handle, connection, initialize } = exports::of_module(module)?;
                let pre = self.linkers.module.instantiate_pre(module);
                let pre = pre.map_err(|error| LoadError::Imports(Kind::Module, error))?;
                Linked::Module(ModuleCode { pre, memory, handle, connection, initialize })
            }
            Compiled::Component(component) => {
                let entry = exports::of_component(component, &self.linkers.component)?;
                let pre = self.linkers.component.instantiate_pre(component);
                let pre = pre.map_err(|error| LoadError::Imports(Kind::Component, error))?;
                Linked::Component(ComponentCode { pre, entry })
            }
        };
        Ok(Code { linked })
    }

    /// Links what was compiled, and makes a program of it whose code stays.
    ///
    /// # Errors
    /// See [`LoadError`].
    #[cfg(test)]
    pub(crate) fn link(
        &self,
        compiled: &Compiled,
        needs: super::Needs,
        spec: Spec,
    ) -> Result<Program, LoadError> {
        let code = self.link_code(compiled)?;
        let facts = Facts::new(&code, needs);
        let slot = CodeSlot::loaded(Arc::clone(&spec.name), Arc::new(code), None, self.clock.now());
        self.assemble(facts, slot, spec)
    }

    /// Everything but the code.
    fn assemble(&self, facts: Facts, slot: CodeSlot, spec: Spec) -> Result<Program, LoadError> {
        check_wants(&facts, spec.wants)?;
        if facts.kind == Kind::Module && !spec.mounts.is_empty() {
            return Err(LoadError::MountsOfModule);
        }
        let mounts = Mounts::open(&spec.mounts, &self.file_threads).map_err(LoadError::Mounts)?;
        let environ = spec.env.iter().map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect();
        let log = GuestLog::new(Arc::clone(&spec.name), spec.limits.log_bytes_per_s);
        Ok(Program {
            name: spec.name,
            facts,
            engine: self.engine.clone(),
            slot: Arc::new(slot),
            cost: facts.cost(),
            limits: spec.limits,
            instances: spec.instances,
            environ,
            env: spec.env,
            mounts,
            kv: spec.kv,
            log,
            nobody: Exchange::new(self.clock),
        })
    }
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
