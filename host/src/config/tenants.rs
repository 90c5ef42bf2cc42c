//! Who has apps on a server, and what all the apps of one may use together.

/// A tenant: somebody with apps of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSettings {
    /// Unique; what the logs call it.
    pub name: String,
    /// Patterns as the router reads them. Only this tenant's apps may have routes within them, and they have none
    /// elsewhere. Empty: wherever no tenant claims anything.
    pub routes: Vec<String>,
    /// What all its apps may use together.
    pub limits: TenantLimits,
}

impl TenantSettings {
    /// Somebody who claims no routes and has no limits.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, routes: Vec::new(), limits: TenantLimits::default() }
    }
}

/// What the apps of a tenant may use together. None: the limits of each app are all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// How many there may be. Default 100.
    pub apps: Option<u32>,
    /// Bytes of the modules that are kept for them, those of all versions. Default 1 GiB.
    pub module_bytes: Option<u64>,
    /// Requests that run at once.
    pub concurrency: Option<u32>,
    /// Requests that wait for their turn.
    pub queue: Option<u32>,
    /// Requests a second, with a burst of one second's.
    pub requests_per_s: Option<u32>,
    /// Client connections that are busy with a request.
    pub connections: Option<u32>,
    /// CPU time, in hundredths of one core.
    pub cpu_percent: Option<u32>,
    /// Memories of all instances that live, idle ones included.
    pub memory_bytes: Option<u64>,
    /// Sockets that are open at once.
    pub sockets: Option<u32>,
    /// Connections a second that guests may begin.
    pub connects_per_s: Option<u32>,
    /// Log bytes a second.
    pub log_bytes_per_s: Option<u64>,
    /// Log lines a second.
    pub log_lines_per_s: Option<u32>,
    /// Keys in the key-value store.
    pub kv_keys: Option<u64>,
    /// Bytes of keys and values there.
    pub kv_bytes: Option<u64>,
}

impl Default for TenantLimits {
    /// Nothing of what is used while requests are served is limited; what is kept is, as whoever has a token keeps what it
    /// likes.
    fn default() -> Self {
        Self {
            apps: Some(100),
            module_bytes: Some(1 << 30),
            concurrency: None,
            queue: None,
            requests_per_s: None,
            connections: None,
            cpu_percent: None,
            memory_bytes: None,
            sockets: None,
            connects_per_s: None,
            log_bytes_per_s: None,
            log_lines_per_s: None,
            kv_keys: None,
            kv_bytes: None,
        }
    }
}
