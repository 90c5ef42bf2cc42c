//! WASI 0.2 for components, HTTP left out: `wasi:io`, `wasi:clocks`, `wasi:random`, `wasi:cli`,
//! `wasi:filesystem`, `wasi:sockets`.
//!
//! The bindings are wasmtime-wasi's, and so is what a stream and a pollable are; behind them are the worker's timer wheel
//! and the app's log. Nothing here waits other than by a pollable, and every call spends of the guest's slice.

mod cli;
mod clocks;
mod files;
mod io;
mod random;
mod sockets;
mod stdio;

use wasmtime::Result;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings;

use crate::guest::component::ComponentState;
use crate::guest::cost::enter;

/// The host's side of a component's WASI.
pub(crate) struct Wasi<'a> {
    state: &'a mut ComponentState,
}

struct HasWasi;

impl HasData for HasWasi {
    type Data<'a> = Wasi<'a>;
}

impl Wasi<'_> {
    /// Spends what any call costs.
    ///
    /// # Errors
    /// The guest is stopped: a trap.
    fn enter(&self) -> Result<()> {
        enter(self.state)
    }
}

/// Defines what components may import besides HTTP.
///
/// # Errors
/// A name was defined twice: a bug.
pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> Result<()> {
    use bindings::{cli, clocks, filesystem, random};
    use wasmtime_wasi_io::bindings::wasi::io;

    fn wasi(state: &mut ComponentState) -> Wasi<'_> {
        Wasi { state }
    }

    io::error::add_to_linker::<_, HasWasi>(linker, wasi)?;
    io::poll::add_to_linker::<_, HasWasi>(linker, wasi)?;
    io::streams::add_to_linker::<_, HasWasi>(linker, wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasWasi>(linker, wasi)?;
    clocks::wall_clock::add_to_linker::<_, HasWasi>(linker, wasi)?;
    filesystem::types::add_to_linker::<_, HasWasi>(linker, wasi)?;
    filesystem::preopens::add_to_linker::<_, HasWasi>(linker, wasi)?;
    sockets::add_to_linker(linker, wasi)?;
    random::random::add_to_linker::<_, HasWasi>(linker, wasi)?;
    random::insecure::add_to_linker::<_, HasWasi>(linker, wasi)?;
    random::insecure_seed::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::environment::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::exit::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::stdin::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::stdout::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::stderr::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::terminal_input::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::terminal_output::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::terminal_stdin::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::terminal_stdout::add_to_linker::<_, HasWasi>(linker, wasi)?;
    cli::terminal_stderr::add_to_linker::<_, HasWasi>(linker, wasi)
}
