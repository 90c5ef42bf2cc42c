//! What a guest has to export to be a handler.

use tidegate_abi::names;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Linker, Resource};
use wasmtime::{ExternType, Module, ModuleExport};

use super::component::{ComponentState, IncomingRequest, ResponseOutparam};
use super::offer;
use super::program::{Kind, LoadError};

/// The interface that a component exports. Any 0.2.x serves: versions of one minor are compatible (WASI's own rule).
const HANDLER: &str = "wasi:http/incoming-handler@0.2.12";
/// Its one function.
const HANDLE: &str = "handle";
/// The interface of a component that runs by itself.
const COMMAND: &str = "wasi:cli/run@0.2.12";
/// Its one function.
const RUN: &str = "run";
/// What it returns.
type RunResults = (Result<(), ()>,);

/// What it is called with.
type HandlerParams = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

/// What a module exports for us. It has at least one of the two functions that serve.
pub(super) struct ModuleExports {
    pub(super) memory: ModuleExport,
    /// `() -> i32`: serves a request.
    pub(super) handle: Option<ModuleExport>,
    /// `(i32) -> i32`: serves a raw connection.
    pub(super) connection: Option<ModuleExport>,
    /// `() -> ()`: called before either.
    pub(super) initialize: Option<ModuleExport>,
}

/// What a component exports for us.
pub(crate) enum ComponentExport {
    /// `wasi:http/incoming-handler.handle`.
    Handle(ComponentExportIndex),
    /// `wasi:cli/run.run`.
    Run(ComponentExportIndex),
}

/// Memory, what serves and, where there is one, the function that is called before it.
///
/// # Errors
/// One is missing or of another type; the text says which.
pub(super) fn of_module(module: &Module) -> Result<ModuleExports, LoadError> {
    let refuse = |text: String| Err(LoadError::Exports(Kind::Module, text));
    let function = |name: &str, params: usize, results: usize| match module.get_export(name) {
        None => Ok(None),
        Some(ExternType::Func(ty))
            if (ty.params().len(), ty.results().len()) == (params, results)
                && ty.params().chain(ty.results()).all(|t| t.is_i32()) =>
        {
            Ok(module.get_export_index(name))
        }
        Some(_) => {
            let shape = match (params, results) {
                (0, 0) => "() -> ()",
                (0, _) => "() -> i32",
                _ => "(i32) -> i32",
            };
            let text = format!("its export `{name}` is not a function `{shape}`");
            Err(LoadError::Exports(Kind::Module, text))
        }
    };
    let handle = function(names::HANDLE, 0, 1)?;
    let connection = function(names::CONNECTION, 1, 1)?;
    if handle.is_none() && connection.is_none() {
        if is_core_of_component(module) {
            return refuse(
                "it is the core of a component: make that of it with `wasm-tools component new`, or `jco new`".to_owned(),
            );
        }
        if module.get_export(names::START).is_some() {
            return refuse(format!(
                "it is a command (it exports `{}`); a handler exports `{}`, or is a component that exports `{}`. In \
                 Rust: crate-type = [\"cdylib\"] and #[tidegate_sdk::handler]; in C: -mexec-model=reactor; in other languages: \
                 a component of the world `wasi:http/proxy`",
                names::START,
                names::HANDLE,
                offer::HANDLER_SHOWN
            ));
        }
        return refuse(format!(
            "it does not export a function `{}` of type `() -> i32`; a component would export `{}`",
            names::HANDLE,
            offer::HANDLER_SHOWN
        ));
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
    Ok(ModuleExports { memory, handle, connection, initialize: function(names::INITIALIZE, 0, 0)? })
}

/// True for what a tool was to make a component of: interfaces with their versions are what only components import, and
/// their functions what only the cores of components export.
fn is_core_of_component(module: &Module) -> bool {
    let of_interface = |name: &str| name.contains(':') && name.contains('/') && name.contains('@');
    module.imports().any(|import| of_interface(import.module()))
        || module.exports().any(|export| of_interface(export.name()))
}

/// What serves in a component: `wasi:http/incoming-handler.handle`, with the resources of this host, or else
/// `wasi:cli/run.run`.
///
/// # Errors
/// It exports neither, or one of another type; the text says which.
pub(super) fn of_component(
    component: &Component,
    linker: &Linker<ComponentState>,
) -> Result<ComponentExport, LoadError> {
    let refuse = |text: String| LoadError::Exports(Kind::Component, text);
    let find = |interface: &str, function: &str| {
        let instance = component.get_export_index(None, interface)?;
        Some((instance, component.get_export_index(Some(&instance), function)?))
    };
    let handler = find(HANDLER, HANDLE);
    let handles = handler.is_some();
    let Some((instance, index)) = handler.or_else(|| find(COMMAND, RUN)) else {
        return Err(refuse(match component.get_export_index(None, COMMAND) {
            Some(_) => offer::no_handler(std::iter::once(offer::COMMAND_SHOWN)),
            None => format!("it does not export a function `{HANDLE}` of `{}`", offer::HANDLER_SHOWN),
        }));
    };
    let (name, interface) =
        if handles { (HANDLE, offer::HANDLER_SHOWN) } else { (RUN, offer::COMMAND_SHOWN) };
    // With this host's resources in place of those that the component imports.
    let ty = linker.substituted_component_type(component);
    let ty = ty.map_err(|error| LoadError::Imports(Kind::Component, error))?;
    let ty = ty.instance_type();
    match component.get_export(Some(&instance), name) {
        Some((ComponentItem::ComponentFunc(function), _)) if !function.async_() => match handles {
            true if function.typecheck::<HandlerParams, ()>(&ty).is_ok() => {
                Ok(ComponentExport::Handle(index))
            }
            false if function.typecheck::<(), RunResults>(&ty).is_ok() => Ok(ComponentExport::Run(index)),
            _ => Err(refuse(format!("its `{name}` of `{interface}` has another type"))),
        },
        _ => Err(refuse(format!("its `{name}` of `{interface}` has another type"))),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    #[test]
    fn what_is_no_handler_is_told_what_it_is() {
        let engine = Engine::default();
        for (inside, told) in [
            (r#"(func (export "_start"))"#, "it is a command (it exports `_start`)"),
            (r#"(import "wasi:io/poll@0.2.3" "poll" (func))"#, "it is the core of a component"),
            (
                r#"(func (export "wasi:http/incoming-handler@0.2.3#handle"))"#,
                "`wasm-tools component new`, or `jco new`",
            ),
            (
                r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#,
                "it does not export a function `tidegate_handle`",
            ),
        ] {
            let module = Module::new(&engine, wat::parse_str(format!("(module {inside})")).unwrap()).unwrap();
            let error = of_module(&module).err().unwrap().to_string();
            assert!(error.starts_with("this module is no handler: ") && error.contains(told), "{error}");
        }
    }
}
