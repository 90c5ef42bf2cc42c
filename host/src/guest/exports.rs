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

/// What it is called with.
type HandlerParams = (Resource<IncomingRequest>, Resource<ResponseOutparam>);

type Exports = (ModuleExport, ModuleExport, Option<ModuleExport>);

/// Memory, handler and, where there is one, the function that is called before it.
///
/// # Errors
/// One is missing or of another type; the text says which.
pub(super) fn of_module(module: &Module) -> Result<Exports, LoadError> {
    let refuse = |text: String| Err(LoadError::Exports(Kind::Module, text));
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
            let text = format!("its export `{name}` is not a function `{shape}`");
            Err(LoadError::Exports(Kind::Module, text))
        }
    };
    let Some(handle) = function(names::HANDLE, 1)? else {
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
    Ok((memory, handle, function(names::INITIALIZE, 0)?))
}

/// True for what a tool was to make a component of: interfaces with their versions are what only components import, and
/// their functions what only the cores of components export.
fn is_core_of_component(module: &Module) -> bool {
    let of_interface = |name: &str| name.contains(':') && name.contains('/') && name.contains('@');
    module.imports().any(|import| of_interface(import.module()))
        || module.exports().any(|export| of_interface(export.name()))
}

/// The handler of a component: `wasi:http/incoming-handler.handle`, with the resources of this host.
///
/// # Errors
/// It exports none, or one of another type; the text says which.
pub(super) fn of_component(
    component: &Component,
    linker: &Linker<ComponentState>,
) -> Result<ComponentExportIndex, LoadError> {
    let refuse = |text: String| LoadError::Exports(Kind::Component, text);
    let instance = component.get_export_index(None, HANDLER);
    let index = instance.and_then(|instance| component.get_export_index(Some(&instance), HANDLE));
    let index = index.ok_or_else(|| {
        refuse(format!("it does not export a function `{HANDLE}` of `{}`", offer::HANDLER_SHOWN))
    })?;
    // With this host's resources in place of those that the component imports.
    let ty = linker.substituted_component_type(component);
    let ty = ty.map_err(|error| LoadError::Imports(Kind::Component, error))?;
    match component.get_export(instance.as_ref(), HANDLE) {
        Some((ComponentItem::ComponentFunc(function), _))
            if !function.async_() && function.typecheck::<HandlerParams, ()>(&ty.instance_type()).is_ok() =>
        {
            Ok(index)
        }
        _ => Err(refuse(format!("its `{HANDLE}` of `{}` has another type", offer::HANDLER_SHOWN))),
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
