//! `wasi:random`: the system's random numbers, the insecure ones too.

use rustix::rand::{GetRandomFlags, getrandom};
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::Wasi;
use crate::guest::cost::{random as cost_of, spend};

/// Random bytes that one call gives at most.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

impl Wasi<'_> {
    fn random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            bail!("{len} random bytes at once: {RANDOM_BYTES_MAX} are the most");
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        spend(self.state, cost_of(bytes.len()))?;
        fill(&mut bytes)?;
        Ok(bytes)
    }

    fn random_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        spend(self.state, cost_of(bytes.len()))?;
        fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn fill(mut room: &mut [u8]) -> Result<()> {
    while !room.is_empty() {
        let n = getrandom(&mut *room, GetRandomFlags::empty())?;
        room = room.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}

impl random::Host for Wasi<'_> {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        self.random_u64()
    }
}

impl insecure::Host for Wasi<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        self.random_u64()
    }
}

impl insecure_seed::Host for Wasi<'_> {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random_u64()?, self.random_u64()?))
    }
}
