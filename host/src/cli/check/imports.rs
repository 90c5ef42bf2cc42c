//! What a guest would get of what it asks for, one import at a time: of modules the same linker answers that a server
//! uses, of components the list that is held to it.

use serde::Serialize;
use tidegate_abi::KV_MODULE;
use wasmparser::{FuncType, ValType};
use wasmtime::{Engine, Linker, Module};

use crate::config::AppSettings;
use crate::guest::anatomy::{Item, ItemKind};
use crate::guest::engine::{self, Mode};
use crate::guest::offer;
use crate::guest::state::GuestState;
use crate::module_abi;

use super::inspect::Import;

const WASI: &str = "wasi_snapshot_preview1";

/// The functions of WASI that are there so that modules which link them load, and that say no when they are called.
const REFUSING: [&str; 14] = [
    "fd_advise",
    "fd_allocate",
    "fd_datasync",
    "fd_fdstat_set_rights",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_readdir",
    "fd_renumber",
    "fd_sync",
    "proc_raise",
];

const NO_KV: &str = "the app keeps no data: `kv = true` (`--kv`)";
const NO_CONNECT: &str = "no rule lets it connect: `sockets.connect`";

/// What becomes of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grant {
    /// It is there and works.
    Granted,
    /// It is there, and says no when it is called.
    Denied,
    /// It is not there: the module is not served.
    Unknown,
}

/// What becomes of an import, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) grant: Grant,
    /// Empty where all is well.
    pub(super) help: String,
}

impl Verdict {
    pub(super) fn new(grant: Grant, help: &str) -> Self {
        Self { grant, help: help.to_owned() }
    }
}

/// What an app was given that imports can do something with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    mounts: bool,
    kv: bool,
    connect: bool,
    listen: bool,
}

impl Means {
    pub(super) fn of(app: &AppSettings) -> Self {
        Self {
            mounts: !app.mounts.is_empty(),
            kv: app.kv.is_some(),
            connect: !app.sockets.connect.is_empty(),
            listen: !app.sockets.listen.is_empty(),
        }
    }
}

/// What becomes of a component's import.
pub(super) fn of_component(import: &Import, means: Means) -> Verdict {
    let item = match import.shape.as_str() {
        "function" => Item { name: &import.name, kind: ItemKind::Function },
        "resource" => Item { name: &import.name, kind: ItemKind::Resource },
        // Types need nothing of a host.
        "type" | "types" => return Verdict::new(Grant::Granted, ""),
        _ => Item { name: &import.name, kind: ItemKind::Other },
    };
    match offer::interface(&import.module).filter(|interface| interface.has(&item)) {
        None => Verdict::new(Grant::Unknown, offer::hint(&import.module).unwrap_or_default()),
        Some(interface) => match missing(interface.name, means) {
            Some(why) => Verdict::new(Grant::Denied, why),
            None => Verdict::new(Grant::Granted, ""),
        },
    }
}

/// What an interface has nothing to work with, where that is so.
fn missing(interface: &str, means: Means) -> Option<&'static str> {
    let sockets = means.connect || means.listen;
    match interface {
        name if name.starts_with("wasi:filesystem/") && !means.mounts => {
            Some("no folder is given to it: `mounts`")
        }
        name if name.starts_with("wasi:keyvalue/") && !means.kv => Some(NO_KV),
        "wasi:http/outgoing-handler" | "wasi:sockets/ip-name-lookup" if !means.connect => Some(NO_CONNECT),
        name if name.starts_with("wasi:sockets/") && !sockets => {
            Some("no rule lets it connect or listen: `sockets`")
        }
        _ => None,
    }
}

/// Answers for imports.
pub(super) struct Judge {
    engine: Engine,
    linker: Linker<GuestState>,
}

impl Judge {
    /// # Errors
    /// The engine cannot be set up on this machine.
    pub(super) fn new() -> wasmtime::Result<Self> {
        let engine = engine::compiling(Mode::of(false))?;
        let mut linker = Linker::new(&engine);
        module_abi::add_to_linker(&mut linker)?;
        Ok(Self { engine, linker })
    }

    /// What becomes of an import.
    pub(super) fn verdict(&self, import: &Import, means: Means) -> Verdict {
        let unknown = |help: String| Verdict { grant: Grant::Unknown, help };
        match import.function.as_ref().and_then(|function| alone(&import.module, &import.name, function)) {
            Some(module) => match self.links(&module) {
                Ok(()) => granted(import, means),
                // The linker's own words tell a name that is not there from a type that is not the same.
                Err(error) if format!("{error:#}").contains("unknown import") => unknown(how_to_get(import)),
                Err(_) => unknown(format!(
                    "it is offered with another type than {}: update the bindings",
                    import.shape
                )),
            },
            None => unknown(how_to_get(import)),
        }
    }

    fn links(&self, module: &[u8]) -> wasmtime::Result<()> {
        let module = Module::new(&self.engine, module)?;
        self.linker.instantiate_pre(&module).map(drop)
    }
}

fn granted(import: &Import, means: Means) -> Verdict {
    let connects = match import.module.as_str() {
        "tidegate_v1" => ["connect", "resolve"].contains(&import.name.as_str()),
        module => module == "tidegate_fetch_v1" && import.name == "request",
    };
    if connects && !means.connect {
        return Verdict::new(Grant::Denied, NO_CONNECT);
    }
    if import.module == KV_MODULE && !means.kv {
        return Verdict::new(Grant::Denied, NO_KV);
    }
    let refuses = import.name.starts_with("path_")
        || import.name.starts_with("sock_")
        || REFUSING.contains(&import.name.as_str());
    if import.module != WASI || !refuses {
        return Verdict { grant: Grant::Granted, help: String::new() };
    }
    let help = match import.name.as_str() {
        name if name.starts_with("sock_") => "handlers have no sockets: it fails when it is called",
        "proc_raise" => "handlers have no signals: it fails when it is called",
        _ => "handlers have no files: it fails when it is called",
    };
    Verdict { grant: Grant::Denied, help: help.to_owned() }
}

/// Where an import that is not there comes from, and what to do instead.
fn how_to_get(import: &Import) -> String {
    let target = "build for wasm32-wasip1";
    match import.module.as_str() {
        "env" if import.shape == "memory" => {
            "a handler exports its memory: leave out `--import-memory`".to_owned()
        }
        "env" => format!(
            "output of emscripten or a function that was not linked: {target} and link what defines it"
        ),
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" | "__wbindgen_anyref_xform__" => {
            format!("output of wasm-bindgen, for browsers: {target}")
        }
        "wasi" if import.name.contains("thread") => {
            "a handler is one thread: build without threads".to_owned()
        }
        "wasi_unstable" => format!("WASI as it was before preview 1: {target} with a newer compiler"),
        WASI => "preview 1 has no such function".to_owned(),
        "tidegate_v1" | "tidegate_fetch_v1" | KV_MODULE => {
            "this version does not have it: use a newer tidegate".to_owned()
        }
        module if module.starts_with("tidegate_v") => {
            "another version of the ABI: this one serves version 1".to_owned()
        }
        module if module.starts_with("wasi:") => {
            format!("an interface of components: {target}, or make a component of it (wasm32-wasip2)")
        }
        _ => "nothing of this name is offered".to_owned(),
    }
}

/// A module with one import and nothing else. None for types that the ABI never has.
fn alone(module: &str, name: &str, function: &FuncType) -> Option<Vec<u8>> {
    let mut types = vec![1, 0x60];
    for list in [function.params(), function.results()] {
        number(&mut types, list.len());
        for ty in list {
            types.push(match ty {
                ValType::I32 => 0x7f,
                ValType::I64 => 0x7e,
                ValType::F32 => 0x7d,
                ValType::F64 => 0x7c,
                _ => return None,
            });
        }
    }
    let mut imports = vec![1];
    for text in [module, name] {
        number(&mut imports, text.len());
        imports.extend_from_slice(text.as_bytes());
    }
    // A function, of the first type.
    imports.extend_from_slice(&[0, 0]);
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, section) in [(1, types), (2, imports)] {
        bytes.push(id);
        number(&mut bytes, section.len());
        bytes.extend_from_slice(&section);
    }
    Some(bytes)
}

/// An unsigned number as WebAssembly writes it: LEB128.
fn number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::super::inspect::Facts;
    use super::*;

    fn verdicts(wat: &str) -> Vec<Verdict> {
        let judge = Judge::new().unwrap();
        let facts = Facts::of(&wat::parse_str(wat).unwrap());
        facts.imports.iter().map(|import| judge.verdict(import, Means::default())).collect()
    }

    #[test]
    fn imports_are_judged() {
        let table = [
            (
                r#""tidegate_v1" "respond" (func (param i32 i32 i32 i32 i32) (result i32))"#,
                Grant::Granted,
                "",
            ),
            (r#""tidegate_v1" "poll" (func (param i32 i32 i64) (result i32))"#, Grant::Granted, ""),
            (r#""tidegate_v1" "poll" (func (param i32))"#, Grant::Unknown, "another type than (i32) -> ()"),
            (r#""tidegate_v1" "teleport" (func)"#, Grant::Unknown, "a newer tidegate"),
            (r#""tidegate_kv_v1" "get" (func (param i32 i32) (result i32))"#, Grant::Denied, "`kv = true`"),
            (r#""tidegate_kv_v1" "clear" (func)"#, Grant::Unknown, "a newer tidegate"),
            (r#""tidegate_v2" "respond" (func)"#, Grant::Unknown, "serves version 1"),
            (
                r#""wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32))"#,
                Grant::Granted,
                "",
            ),
            (
                r#""wasi_snapshot_preview1" "fd_prestat_get" (func (param i32 i32) (result i32))"#,
                Grant::Denied,
                "no files",
            ),
            (
                r#""wasi_snapshot_preview1" "sock_shutdown" (func (param i32 i32) (result i32))"#,
                Grant::Denied,
                "no sockets",
            ),
            (r#""wasi_snapshot_preview1" "fork" (func)"#, Grant::Unknown, "no such function"),
            (r#""wasi" "thread-spawn" (func (param i32) (result i32))"#, Grant::Unknown, "without threads"),
            (r#""env" "emscripten_memcpy_js" (func)"#, Grant::Unknown, "wasm32-wasip1"),
            (r#""env" "memory" (memory 1)"#, Grant::Unknown, "--import-memory"),
            (r#""wbg" "__wbindgen_throw" (func (param i32 i32))"#, Grant::Unknown, "wasm-bindgen"),
            (r#""wasi:io/poll" "x" (func)"#, Grant::Unknown, "wasm32-wasip2"),
            (r#""x" "y" (global i32)"#, Grant::Unknown, "nothing of this name"),
            (r#""x" "y" (func (param v128))"#, Grant::Unknown, "nothing of this name"),
        ];
        for (import, grant, help) in table {
            let found = verdicts(&format!("(module (import {import}))"));
            assert!(found[0].grant == grant && found[0].help.contains(help), "{import}: {found:?}");
            assert_eq!(found[0].help.is_empty(), help.is_empty(), "{import}");
        }
    }

    #[test]
    fn imports_of_components_are_judged() {
        let table = [
            ("wasi:io/poll@0.2.0", "poll", "function", Grant::Granted, ""),
            ("wasi:io/poll@0.2.7", "pollable", "resource", Grant::Granted, ""),
            ("wasi:sockets/network@0.2.0", "network", "resource", Grant::Denied, "no rule lets it"),
            ("wasi:filesystem/preopens@0.2.0", "get-directories", "function", Grant::Denied, "`mounts`"),
            ("wasi:keyvalue/store@0.2.0-draft2", "open", "function", Grant::Denied, "`kv = true`"),
            ("wasi:keyvalue/store@0.2.0-draft", "open", "function", Grant::Unknown, "build it for that one"),
            ("wasi:io/poll@0.3.0", "poll", "function", Grant::Unknown, "0.3 is not served yet"),
            ("wasi:io/poll@0.2.0", "pool", "function", Grant::Unknown, "use a newer tidegate"),
            ("a:b/c", "", "types", Grant::Granted, ""),
            ("x", "", "function", Grant::Unknown, "interfaces of WASI 0.2"),
        ];
        for (module, name, shape, grant, help) in table {
            let import =
                Import { module: module.into(), name: name.into(), shape: shape.into(), function: None };
            let found = of_component(&import, Means::default());
            assert!(found.grant == grant && found.help.contains(help), "{module} {name}: {found:?}");
            assert_eq!(found.help.is_empty(), help.is_empty(), "{module} {name}");
        }
        let files = Import {
            module: "wasi:filesystem/preopens@0.2.0".into(),
            name: "get-directories".into(),
            shape: "function".into(),
            function: None,
        };
        let kept = Means { kv: true, ..Means::default() };
        assert_eq!(missing("wasi:keyvalue/batch", kept), None);
        let mounts = Means { mounts: true, ..Means::default() };
        assert_eq!(of_component(&files, mounts).grant, Grant::Granted);
    }

    #[test]
    fn sockets_want_rules() {
        let (connect, listen) =
            (Means { connect: true, ..Means::default() }, Means { listen: true, ..Means::default() });
        let table = [
            ("wasi:sockets/tcp", Means::default(), Some("connect or listen: `sockets`")),
            ("wasi:sockets/tcp", connect, None),
            ("wasi:sockets/udp", listen, None),
            ("wasi:sockets/ip-name-lookup", listen, Some("`sockets.connect`")),
            ("wasi:sockets/ip-name-lookup", connect, None),
            ("wasi:http/outgoing-handler", listen, Some("`sockets.connect`")),
            ("wasi:http/outgoing-handler", connect, None),
            ("wasi:http/types", Means::default(), None),
        ];
        for (interface, means, expected) in table {
            let found = missing(interface, means);
            assert_eq!(found.is_some(), expected.is_some(), "{interface}");
            assert!(
                found.unwrap_or_default().contains(expected.unwrap_or_default()),
                "{interface}: {found:?}"
            );
        }
        for (module, name, wants) in [
            ("tidegate_v1", "connect", true),
            ("tidegate_v1", "resolve", true),
            ("tidegate_v1", "read", false),
            ("tidegate_fetch_v1", "request", true),
            ("tidegate_fetch_v1", "head", false),
        ] {
            let import =
                Import { module: module.into(), name: name.into(), shape: String::new(), function: None };
            let denied = granted(&import, listen).grant == Grant::Denied;
            assert_eq!(denied, wants, "{module} {name}");
            assert_eq!(granted(&import, connect).grant, Grant::Granted);
        }
    }

    #[test]
    fn what_refuses_is_known_to_refuse() {
        let source = include_str!("../../module_abi/wasi/unsupported.rs");
        let names: Vec<&str> =
            source.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
        assert!(names.len() > 20, "{names:?}");
        for name in &names {
            let import =
                Import { module: WASI.into(), name: (*name).into(), shape: String::new(), function: None };
            assert_eq!(granted(&import, Means::default()).grant, Grant::Denied, "{name}");
        }
        assert!(REFUSING.iter().all(|name| names.contains(name)));
    }

    #[test]
    fn long_names_are_written_well() {
        let long = "n".repeat(300);
        let found = verdicts(&format!("(module (import \"x\" \"{long}\" (func)))"));
        assert_eq!(found[0].grant, Grant::Unknown);
    }
}
