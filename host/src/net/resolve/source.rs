//! Whom the resolver asks: the name servers of the settings, or the system's files.
//!
//! The files are read on the resolver's thread, and again when they have changed: a lease that is renewed should not need a
//! server that is restarted. Files that have become unreadable leave in force what was read before. What is wrong with
//! them is logged once, until they are read again.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::{Hosts, Resolver, system_conf};

use super::ask::Dns;
use super::sockets::Sockets;
use super::{Patience, QUERIES_MAX};

/// How often the files are looked at, at most. What comes out of the hosts file is not kept for longer.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Search domains that are tried.
const SEARCH_MAX: usize = 6;
/// Tries after the first, with the next server if there is one.
const ATTEMPTS_MORE: usize = 2;

/// Where to learn whom to ask.
#[derive(Clone, Debug)]
pub(super) enum Servers {
    Given(Arc<[SocketAddr]>),
    Files { resolv_conf: PathBuf, hosts: PathBuf },
}

impl Servers {
    pub(super) fn system() -> Self {
        Self::Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

/// Size and time of change of the two files, as far as they are there.
type Stamp = [Option<(u64, SystemTime)>; 2];

pub(super) struct Source {
    servers: Servers,
    patience: Patience,
    current: Option<Arc<Dns>>,
    looked: Option<Instant>,
    stamp: Stamp,
    told: bool,
}

impl Source {
    pub(super) fn new(servers: Servers, patience: Patience) -> Self {
        Self { servers, patience, current: None, looked: None, stamp: [None; 2], told: false }
    }

    /// What to ask with now.
    ///
    /// # Errors
    /// A text for the log, if there is nothing to ask with.
    pub(super) fn current(&mut self) -> Result<Arc<Dns>, String> {
        if let Some(current) = &self.current
            && (matches!(self.servers, Servers::Given(_))
                || self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY))
        {
            return Ok(Arc::clone(current));
        }
        self.look()
    }

    fn look(&mut self) -> Result<Arc<Dns>, String> {
        self.looked = Some(Instant::now());
        let stamp = match &self.servers {
            Servers::Given(_) => [None; 2],
            Servers::Files { resolv_conf, hosts } => [stamp(resolv_conf), stamp(hosts)],
        };
        if let Some(current) = &self.current
            && stamp == self.stamp
        {
            return Ok(Arc::clone(current));
        }
        match self.read() {
            Ok(dns) => {
                self.stamp = stamp;
                self.told = false;
                Ok(Arc::clone(self.current.insert(Arc::new(dns))))
            }
            Err(text) => {
                if !self.told {
                    self.told = true;
                    tracing::error!("names cannot be resolved: {text}");
                }
                self.current.clone().ok_or(text)
            }
        }
    }

    /// As if it had not looked for a while.
    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        self.looked = None;
    }

    pub(super) fn read(&self) -> Result<Dns, String> {
        let (config, options, hosts) = match &self.servers {
            Servers::Given(addresses) => {
                let config = ResolverConfig::from_name_servers(given(addresses));
                let mut options = ResolverOpts::default();
                options.timeout = Duration::MAX;
                (config, options, Hosts::default())
            }
            Servers::Files { resolv_conf, hosts } => {
                let (config, options) = fs::read(resolv_conf)
                    .map_err(|error| error.to_string())
                    .and_then(|text| system_conf::parse_resolv_conf(text).map_err(|error| error.to_string()))
                    .map_err(|error| {
                        format!("{}: {error} (`dns` under [server] names servers too)", resolv_conf.display())
                    })?;
                (config, options, read_hosts(hosts))
            }
        };
        let search = config.search().iter().take(SEARCH_MAX).cloned().collect();
        // The search list is ours, and so is the cache.
        let config = ResolverConfig::from_name_servers(config.name_servers().to_vec());
        let mut builder = Resolver::builder_with_config(config, Sockets::new());
        *builder.options_mut() = self.options(options);
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Dns { resolver, hosts, search, patience: self.patience })
    }

    fn options(&self, mut options: ResolverOpts) -> ResolverOpts {
        // `options timeout:` may make it shorter.
        options.timeout = options.timeout.min(self.patience.server);
        options.attempts = ATTEMPTS_MORE;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // One server after the other: half the sockets, and a server that is slow is soon the last that is asked.
        options.num_concurrent_reqs = 1;
        options.max_active_requests = 2 * QUERIES_MAX;
        options
    }
}

fn given(addresses: &[SocketAddr]) -> Vec<NameServerConfig> {
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, connections)
    };
    addresses.iter().map(server).collect()
}

/// A system without this file is not broken.
fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(file) = File::open(path)
        && let Err(error) = hosts.read_hosts_conf(file)
    {
        tracing::warn!("{} was not read to its end: {error}", path.display());
    }
    hosts
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let data = fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok()?))
}
