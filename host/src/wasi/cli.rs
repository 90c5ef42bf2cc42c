//! `wasi:cli`: the environment, the end, the standard streams. There are no arguments and no terminal.

use wasmtime::component::Resource;
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::Wasi;
use super::stdio::{Empty, Printer};
use crate::guest::cost::{copied, entries, spend};
use crate::guest::desk::Stdio;

impl environment::Host for Wasi<'_> {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        let env = &self.state.program.env;
        let bytes = env.iter().map(|(name, value)| name.len() + value.len()).sum();
        spend(self.state, copied(bytes) + entries(env.len() + 2))?;
        Ok(env.clone())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        self.enter()?;
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        self.enter()?;
        Ok(None)
    }
}

impl exit::Host for Wasi<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> Result<()> {
        bail!("the guest called exit({})", if status.is_ok() { "ok" } else { "err" })
    }

    fn exit_with_code(&mut self, status: u8) -> Result<()> {
        bail!("the guest called exit({status})")
    }
}

impl stdin::Host for Wasi<'_> {
    fn get_stdin(&mut self) -> Result<Resource<DynInputStream>> {
        self.enter()?;
        let stream: DynInputStream = Box::new(Empty);
        Ok(self.state.side.table.push(stream)?)
    }
}

impl Wasi<'_> {
    fn printer(&mut self, stream: Stdio) -> Result<Resource<DynOutputStream>> {
        self.enter()?;
        let side = &mut self.state.side;
        let printer: DynOutputStream = Box::new(Printer::new(&side.desk, stream));
        Ok(side.table.push(printer)?)
    }
}

impl stdout::Host for Wasi<'_> {
    fn get_stdout(&mut self) -> Result<Resource<DynOutputStream>> {
        self.printer(Stdio::Output)
    }
}

impl stderr::Host for Wasi<'_> {
    fn get_stderr(&mut self) -> Result<Resource<DynOutputStream>> {
        self.printer(Stdio::Error)
    }
}

impl terminal_input::Host for Wasi<'_> {}
impl terminal_output::Host for Wasi<'_> {}

impl terminal_input::HostTerminalInput for Wasi<'_> {
    fn drop(&mut self, input: Resource<terminal_input::TerminalInput>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(input)?;
        Ok(())
    }
}

impl terminal_output::HostTerminalOutput for Wasi<'_> {
    fn drop(&mut self, output: Resource<terminal_output::TerminalOutput>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(output)?;
        Ok(())
    }
}

impl terminal_stdin::Host for Wasi<'_> {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<terminal_input::TerminalInput>>> {
        self.enter()?;
        Ok(None)
    }
}

impl terminal_stdout::Host for Wasi<'_> {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<terminal_output::TerminalOutput>>> {
        self.enter()?;
        Ok(None)
    }
}

impl terminal_stderr::Host for Wasi<'_> {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<terminal_output::TerminalOutput>>> {
        self.enter()?;
        Ok(None)
    }
}
