//! Servers that are measured in turn on one pinned core: the CPU time that each takes for a request.
//!
//! Rounds go over all subjects, so that what the machine does to one it does to the others, and ratios are taken within a
//! round.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use super::load::{self, Plan};
use super::stats::median;
use crate::procfs::cpu_time;

/// The core of the servers, and the one of the load generator.
pub const SERVER_CPU: usize = 0;
/// See [`SERVER_CPU`].
pub const LOAD_CPU: usize = 1;

/// Something that is measured.
pub struct Subject {
    name: &'static str,
    pid: u32,
    addr: SocketAddr,
    micros: Vec<f64>,
    /// Share of the time that its core was busy: well below 1, the generator is what was measured.
    busy: Vec<f64>,
}

impl Subject {
    /// A server by its process and where it listens.
    pub fn new(name: &'static str, pid: u32, addr: SocketAddr) -> Self {
        Self { name, pid, addr, micros: Vec::new(), busy: Vec::new() }
    }

    /// One round: so many GETs of `/` over so many connections.
    pub fn measure(&mut self, connections: usize, requests: u64, counted: bool) -> anyhow::Result<()> {
        let plan = Plan {
            addr: self.addr,
            host: "hello.test".to_owned(),
            path: "/".to_owned(),
            connections,
            requests,
            within: Duration::from_secs(120),
        };
        let before = cpu_time(self.pid);
        let outcome = load::run(&plan)?;
        let used = (cpu_time(self.pid) - before).as_secs_f64();
        ensure!(outcome.errors == 0 && outcome.served == requests, "{}: {outcome:?}", self.name);
        if counted {
            self.micros.push(used * 1e6 / requests as f64);
            self.busy.push(used / outcome.elapsed.as_secs_f64());
        }
        Ok(())
    }

    /// Prints its median. Returns false when its core was not kept busy.
    pub fn report(&self) -> bool {
        let mut sorted = self.micros.clone();
        let middle = median(&mut sorted);
        let (least, most) = (sorted.first().copied(), sorted.last().copied());
        let busy = median(&mut self.busy.clone());
        println!(
            "{:<32} {middle:>6.2} us CPU per request (core busy {:.0} %; from {:.2} to {:.2}, {} rounds)",
            self.name,
            busy * 100.0,
            least.unwrap_or_default(),
            most.unwrap_or_default(),
            sorted.len()
        );
        busy >= 0.85
    }

    /// The median over the rounds of what this one takes by what `other` takes.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.micros.iter().zip(&other.micros);
        median(&mut pairs.map(|(one, base)| one / base).collect::<Vec<_>>())
    }
}
