//! `wasi:http` 0.2 for components: a request and its answer, over the same exchange as modules have, and requests to
//! elsewhere over the same client.
//!
//! The standard says what each function does (WASI 0.2, `wasi:http/types`); here each does so in a bounded amount of work
//! and spends it of the guest's slice. What breaks a rule of the WIT that has no error of its own is a trap. Nothing here
//! knows a socket; what waits does so by a pollable, and that by the desk.

mod answer;
mod bindings;
mod draft;
mod errors;
mod fields;
mod incoming;
mod outgoing;
mod reader;
mod response;
#[cfg(test)]
pub(crate) mod tests;
mod trailers;

use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource};

use self::bindings::wasi::http::types::{self, ErrorCode};
use self::bindings::wasi::http::{outgoing_handler, types as linked};
use crate::guest::component::ComponentState;
use crate::guest::cost::enter;

/// The host's side of a component's HTTP.
pub(crate) struct Http<'a> {
    state: &'a mut ComponentState,
}

struct HasHttp;

impl HasData for HasHttp {
    type Data<'a> = Http<'a>;
}

impl Http<'_> {
    /// Spends what any call costs.
    ///
    /// # Errors
    /// The guest is stopped: a trap.
    fn enter(&self) -> Result<()> {
        enter(self.state)
    }
}

impl types::Host for Http<'_> {
    fn http_error_code(&mut self, error: Resource<types::IoError>) -> Result<Option<ErrorCode>> {
        self.enter()?;
        Ok(self.state.side.table.get(&error)?.downcast_ref::<ErrorCode>().cloned())
    }
}

/// Defines `wasi:http/types` and `wasi:http/outgoing-handler`.
///
/// # Errors
/// A name was defined twice: a bug.
pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> Result<()> {
    linked::add_to_linker::<_, HasHttp>(linker, |state| Http { state })?;
    outgoing_handler::add_to_linker::<_, HasHttp>(linker, |state| Http { state })
}
