//! What a guest has to export to be a handler.

use tidegate_abi::names;
use wasmtime::component::{Component, ComponentExportIndex};
use wasmtime::{ExternType, Module, ModuleExport};

use super::program::{Kind, LoadError};

/// The interface that a component exports. Any 0.2.x serves: versions of one minor are compatible (WASI's own rule).
const HANDLER: &str = "wasi:http/incoming-handler@0.2.12";
/// Its one function.
const HANDLE: &str = "handle";

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

/// The handler of a component.
///
/// # Errors
/// It exports none; the text says what it exports instead.
pub(super) fn of_component(component: &Component) -> Result<ComponentExportIndex, LoadError> {
    let instance = component.get_export_index(None, HANDLER);
    let handle = instance.and_then(|instance| component.get_export_index(Some(&instance), HANDLE));
    handle.ok_or_else(|| {
        let ty = component.component_type();
        let names: Vec<_> = ty.exports(component.engine()).map(|(name, _)| format!("`{name}`")).collect();
        let exports = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let text = format!("it exports {exports}; a handler exports `wasi:http/incoming-handler@0.2.x`");
        LoadError::Exports(Kind::Component, text)
    })
}
