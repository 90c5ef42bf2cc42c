//! What `#[handler]` expands to: the way from the host's call to the user's function and back.
//!
//! The macro only picks a function here by the shape it sees, so that new shapes (`async fn`, a router) are a new
//! function here, and modules built before keep working.

use tidegate_abi::errno;

use crate::error::Error;
use crate::request::Request;
use crate::response::IntoResponse;
use crate::sys::HostError;
use crate::writer::ResponseWriter;

/// What `tidegate_handle` returns: the host answers 0 with what was sent, anything else with `guest-error`.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Once per instance, before its first request: constructors, then the panic hook.
///
/// Not an `_initialize` of its own: a second call into the guest costs every fresh instance a third of a microsecond.
fn initialize() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::sync::atomic::{AtomicBool, Ordering};
        static DONE: AtomicBool = AtomicBool::new(false);
        if !DONE.load(Ordering::Relaxed) {
            DONE.store(true, Ordering::Relaxed);
            crate::sys::construct();
            std::panic::set_hook(Box::new(log_panic));
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
/// Logs a panic as one record. Returning from here is the trap.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("a value that is not text");
    match info.location() {
        Some(at) => crate::error!("panicked at {at}: {text}"),
        None => crate::error!("panicked: {text}"),
    }
}

/// `fn(Request) -> impl IntoResponse`.
pub fn run<R: IntoResponse>(handler: impl FnOnce(Request) -> R) -> i32 {
    initialize();
    match handler(Request::new()).into_response().send() {
        Ok(()) => DONE,
        Err(error) => {
            explain(&error);
            // Nothing was sent, and the host has a better name for that than a failed handler.
            DONE
        }
    }
}

/// `fn(Request, ResponseWriter) -> Result<()>`.
pub fn stream<E: Into<Error>>(handler: impl FnOnce(Request, ResponseWriter) -> Result<(), E>) -> i32 {
    initialize();
    let request = Request::new();
    let response = ResponseWriter::new(request.response_handle());
    let Err(error) = handler(request, response) else { return DONE };
    match error.into().into_response().send() {
        Ok(()) => DONE,
        // The head had left: all that can be said now is that the response is not whole.
        Err(HostError { errno: errno::EALREADY, .. }) => FAILED,
        Err(error) => {
            explain(&error);
            FAILED
        }
    }
}

fn explain(error: &HostError) {
    if error.errno != errno::ECONNRESET {
        crate::error!("the response was refused: {error}");
    }
}
