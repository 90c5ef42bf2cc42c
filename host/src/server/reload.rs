//! Reading the settings again while serving.
//!
//! What belongs to apps is applied; what only a start can change is named in the log when it differs from what the server
//! was started with, so that nobody believes it holds. It is named once for each change.

use std::sync::{Arc, Mutex, PoisonError};

use super::deploy::{Deployer, LoadFailures};
use super::signals::Reload;
use crate::config::{ServerSettings, Settings, TcpListen};

/// Reads the settings again, as they were read for the start. All that is wrong with them, each by itself.
pub(crate) type Reread = Arc<dyn Fn() -> Result<Settings, Vec<String>> + Send + Sync>;

/// The settings that a server was started with, as far as only a start can change them.
#[derive(Debug)]
pub(crate) struct Started {
    first: (ServerSettings, Vec<TcpListen>),
    /// What was told of already.
    told: Mutex<Vec<String>>,
}

impl Started {
    pub(crate) fn new(server: &ServerSettings, tcp: &[TcpListen]) -> Self {
        Self { first: (server.clone(), tcp.to_vec()), told: Mutex::default() }
    }

    /// Tells the log what differs and needs a restart.
    pub(crate) fn tell_of_restart(&self, server: &ServerSettings, tcp: &[TcpListen]) {
        let differ = self.differ(server, tcp);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for key in differ.iter().filter(|key| !told.contains(key)) {
            tracing::warn!(
                "reload: `{key}` has changed, and only a restart or an upgrade (SIGUSR2) takes that up"
            );
        }
        *told = differ;
    }

    /// The keys whose values differ.
    fn differ(&self, server: &ServerSettings, tcp: &[TcpListen]) -> Vec<String> {
        let (old, old_tcp) = &self.first;
        let mut keys: Vec<String> =
            differing(old, server).into_iter().map(|key| format!("[server] {key}")).collect();
        if tcp != old_tcp {
            keys.push("[[listen]]".to_owned());
        }
        keys
    }
}

/// The keys of `[server]` whose values differ. All of them need a restart.
fn differing(old: &ServerSettings, new: &ServerSettings) -> Vec<&'static str> {
    macro_rules! differ {
        ($($field:ident: $key:literal),* $(,)?) => {
            [$(($key, old.$field != new.$field)),*]
        };
    }
    let keys = differ![
        listen: "listen",
        workers: "workers",
        access_log: "access_log",
        app_logs: "app_logs",
        app_log_bytes_max: "app_log_bytes",
        app_log_files: "app_log_files",
        log_format: "log_format",
        http: "limits",
        drain: "drain",
        trust_request_id: "trust_request_id",
        edge: "proxies, forwarded or proxy_protocol",
        backlog: "backlog",
        connections_max: "connections",
        memory_budget_bytes: "memory_budget",
        state: "state",
        cache_bytes_max: "cache",
        dns: "dns",
        admin: "admin",
        tokens: "tokens",
        module_bytes_max: "module_bytes",
        versions_kept: "keep",
        loaded_max: "loaded",
    ];
    let differ: Vec<_> = keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
    // A key that is missing above would go unnoticed otherwise.
    if differ.is_empty() && old != new { vec!["(some key)"] } else { differ }
}

/// For a server that serves what its settings name: reads them again, and serves what they name then.
pub(super) fn serving_settings(started: Started, reread: Reread, deployer: Deployer) -> Reload {
    Arc::new(move || {
        let Settings { server, apps, tcp, .. } = reread()?;
        started.tell_of_restart(&server, &tcp);
        deployer.deploy(&apps).map_err(|error| match error.downcast::<LoadFailures>() {
            Ok(LoadFailures(all)) => all.iter().map(|error| format!("{error:#}")).collect(),
            Err(error) => vec![format!("{error:#}")],
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_key() {
        let old = ServerSettings::default();
        assert!(differing(&old, &old).is_empty());
        let new = ServerSettings { workers: old.workers + 1, cache_bytes_max: 1, ..old.clone() };
        assert_eq!(differing(&old, &new), ["workers", "cache"]);
        let started = Started::new(&old, &[]);
        let listen =
            TcpListen { addr: "127.0.0.1:1".parse().unwrap(), app: "a".to_owned(), proxy_protocol: None };
        assert_eq!(started.differ(&new, &[listen]), ["[server] workers", "[server] cache", "[[listen]]"]);
        // `dev` has no key.
        assert_eq!(differing(&old, &ServerSettings { dev: true, ..old.clone() }), ["(some key)"]);
    }
}
