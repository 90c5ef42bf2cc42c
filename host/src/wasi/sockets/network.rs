//! `network` and `instance-network`: a handle that stands for what the app may do anyway.

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::IoError;

use super::bindings::wasi::sockets::instance_network;
use super::bindings::wasi::sockets::network::{ErrorCode, Host, HostNetwork};
use super::errors::{Failure, code_of};
use crate::wasi::Wasi;

/// `network`. All are the same: what may be reached through one is the app's policy.
#[derive(Debug)]
pub(crate) struct NetworkHandle;

impl Host for Wasi<'_> {
    fn convert_error_code(&mut self, failure: Failure) -> Result<ErrorCode> {
        match failure {
            Failure::Code(code) => Ok(code),
            Failure::Trap(error) => Err(error),
        }
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        self.enter()?;
        Ok(code_of(self.state.side.table.get(&error)?))
    }
}

impl HostNetwork for Wasi<'_> {
    fn drop(&mut self, network: Resource<NetworkHandle>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for Wasi<'_> {
    fn instance_network(&mut self) -> Result<Resource<NetworkHandle>> {
        self.enter()?;
        Ok(self.state.side.table.push(NetworkHandle)?)
    }
}
