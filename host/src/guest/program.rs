//! An app's guest: what is known of it, the limits that it runs under, and its code, which may be in memory or not.
//!
//! All but the code is there always, and is small. The code is in a [`CodeSlot`]: linked, ready to be instantiated; or
//! cold, and then it is loaded when a request needs it. Whoever runs it holds an `Arc` of its own.

mod check;
mod error;
mod loader;

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::component::{self, Component};
use wasmtime::{Engine, InstancePre, Module, ModuleExport};

pub(crate) use self::check::{check, kind, read};
pub(crate) use self::error::LoadError;
pub(crate) use self::loader::{Linkers, Loader};
use super::anatomy::{Needs, Unread};
use super::component::ComponentState;
use super::exports::ComponentExport;
use super::loading::slot::CodeSlot;
pub(crate) use super::loading::slot::{CodeSource, FileSource};
use super::mounts::Mounts;
use super::places;
use super::state::GuestState;
use crate::config::{AppLimits, Instances, Mount};
use crate::exchange::Exchange;
use crate::kv;
use crate::observe::guest_log::GuestLog;

/// The kinds of guests, told apart by looking at the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// What is known of a guest once it was loaded, and holds for as long as its bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    /// It serves requests.
    pub(crate) http: bool,
    /// It serves raw connections.
    pub(crate) connections: bool,
    /// It runs by itself.
    pub(crate) command: bool,
    /// What an instance takes.
    pub(crate) needs: Needs,
}

impl Facts {
    fn new(code: &Code, needs: Needs) -> Self {
        let (kind, http, connections, command) = match &code.linked {
            Linked::Module(code) => (Kind::Module, code.handle.is_some(), code.connection.is_some(), false),
            Linked::Component(code) => match code.entry {
                ComponentExport::Handle(_) => (Kind::Component, true, false, false),
                ComponentExport::Run(_) => (Kind::Component, false, false, true),
            },
        };
        Self { kind, http, connections, command, needs }
    }

    /// Places in the pools that an instance takes.
    pub(crate) fn cost(&self) -> u32 {
        places::cost(&self.needs)
    }

    /// Holds what an instance begins with against what an app may have.
    ///
    /// # Errors
    /// It needs more.
    pub(crate) fn check(&self, limits: &AppLimits) -> Result<(), LoadError> {
        check::check_needs(&self.needs, limits)
    }
}

/// Linked code.
pub(crate) struct Code {
    pub(crate) linked: Linked,
}

/// Linked code, by its kind.
pub(crate) enum Linked {
    Module(ModuleCode),
    Component(ComponentCode),
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").finish_non_exhaustive()
    }
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

/// A guest with what its app gives it.
pub(crate) struct Program {
    pub(crate) name: Arc<str>,
    pub(crate) facts: Facts,
    pub(crate) engine: Engine,
    /// Its code.
    pub(crate) slot: Arc<CodeSlot>,
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
    /// What it keeps in the key-value store. None: nothing.
    pub(crate) kv: Option<Arc<kv::Access>>,
    pub(crate) log: GuestLog,
    /// What an instance holds while it serves nobody, so that a finished request's exchange is free again.
    pub(crate) nobody: Arc<Exchange>,
}

impl Program {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// True if it serves requests.
    pub(crate) fn serves_http(&self) -> bool {
        self.facts.http
    }

    /// True if it serves raw connections.
    pub(crate) fn serves_connections(&self) -> bool {
        self.facts.connections
    }

    /// True if it runs by itself.
    pub(crate) fn is_command(&self) -> bool {
        self.facts.command
    }

    /// Its code, if that is in memory.
    pub(crate) fn code(&self) -> Option<Arc<Code>> {
        self.slot.code()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a program is made from, besides its bytes.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) limits: AppLimits,
    pub(crate) instances: Instances,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) kv: Option<Arc<kv::Access>>,
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
