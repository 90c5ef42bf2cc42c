//! What an app may use beside its gate, whatever its version, and what all the apps of a tenant may use together.
//!
//! An app without such limits, and without a tenant that has any, pays a look at a few words for each request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use tidegate_store::kv::Quota as KvQuota;

use super::admission::Gate;
use super::rate::{CpuShare, Rate};
use super::registry::Seat;
use crate::clock::Nanos;
use crate::config::{AppLimits, TenantLimits, TenantSettings};
use crate::guest::limiter::MemoryBudget;
use crate::net::access::Allowance;
use crate::observe::rate::Rate as LogRate;

/// What an app may use.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Whose app it is.
    pub(crate) tenant: Option<Arc<Tenant>>,
    requests: Rate,
    connections: Counter,
    cpu: CpuShare,
    /// What it may log.
    pub(crate) log: Arc<LogRate>,
}

/// Somebody who has apps here, for as long as any version of any of them lives.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    pub(crate) gate: Arc<Gate>,
    /// That of raw connections.
    pub(crate) raw: Arc<Gate>,
    requests: Rate,
    connections: Counter,
    cpu: CpuShare,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) sockets: Arc<Allowance>,
    log: Arc<LogRate>,
    kv_keys: AtomicU64,
    kv_bytes: AtomicU64,
}

impl Tenant {
    /// Somebody without limits.
    pub(crate) fn new(name: &str) -> Self {
        let gate = || Arc::new(Gate::new(u32::MAX, u32::MAX));
        let tenant = Self {
            name: name.into(),
            gate: gate(),
            raw: gate(),
            requests: Rate::default(),
            connections: Counter::default(),
            cpu: CpuShare::default(),
            memory: MemoryBudget::new(name.into()),
            sockets: Arc::default(),
            log: Arc::default(),
            kv_keys: AtomicU64::new(u64::MAX),
            kv_bytes: AtomicU64::new(u64::MAX),
        };
        tenant.set_limits(&TenantLimits::default());
        tenant
    }

    /// Other limits from now on. What runs, waits or is held stays.
    pub(crate) fn set_limits(&self, limits: &TenantLimits) {
        let running = limits.concurrency.unwrap_or(u32::MAX);
        self.gate.set_limits(running, limits.queue.unwrap_or(u32::MAX));
        self.raw.set_limits(running, 0);
        self.requests.set(limits.requests_per_s);
        self.connections.set(limits.connections);
        self.cpu.set(limits.cpu_percent);
        self.memory.set(limits.memory_bytes);
        self.sockets.set(limits.sockets, limits.connects_per_s);
        self.log.set(limits.log_bytes_per_s.unwrap_or(u64::MAX), limits.log_lines_per_s);
        self.kv_keys.store(limits.kv_keys.unwrap_or(u64::MAX), Relaxed);
        self.kv_bytes.store(limits.kv_bytes.unwrap_or(u64::MAX), Relaxed);
    }

    /// Keys, and bytes of keys and values, that all its apps may keep together.
    pub(crate) fn kv_limits(&self) -> KvQuota {
        KvQuota { keys: self.kv_keys.load(Relaxed), bytes: self.kv_bytes.load(Relaxed) }
    }
}

/// All tenants that have apps, and the limits of those who may have.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    live: HashMap<String, Weak<Tenant>>,
    limits: HashMap<String, TenantLimits>,
}

impl Tenants {
    /// These are all there are, with their limits, which hold from now on. One that is not among them and has apps still
    /// keeps the limits that it had: to be forgotten is no way to have none.
    pub(crate) fn set(&mut self, tenants: &[TenantSettings]) {
        self.limits = tenants.iter().map(|tenant| (tenant.name.clone(), tenant.limits)).collect();
        self.live.retain(|_, tenant| tenant.strong_count() > 0);
        for (name, tenant) in &self.live {
            match (tenant.upgrade(), self.limits.get(name)) {
                (Some(tenant), Some(limits)) => tenant.set_limits(limits),
                (Some(_), None) => {
                    tracing::warn!(tenant = name, "it is not in the manifest any more, and has apps still");
                }
                (None, _) => {}
            }
        }
    }

    /// The one of that name.
    pub(crate) fn get(&mut self, name: &str) -> Arc<Tenant> {
        if let Some(tenant) = self.live.get(name).and_then(Weak::upgrade) {
            return tenant;
        }
        let tenant = Arc::new(Tenant::new(name));
        tenant.set_limits(&self.limits.get(name).copied().unwrap_or_default());
        self.live.insert(name.to_owned(), Arc::downgrade(&tenant));
        tenant
    }
}

impl Quota {
    /// Of an app of `tenant`.
    pub(crate) fn new(tenant: Option<Arc<Tenant>>) -> Self {
        let log = Arc::new(LogRate::below(tenant.as_ref().map(|tenant| Arc::clone(&tenant.log))));
        Self { tenant, log, ..Self::default() }
    }

    /// Other limits from now on.
    pub(crate) fn set_limits(&self, limits: &AppLimits) {
        self.requests.set(limits.requests_per_s);
        self.connections.set(limits.connections_max);
        self.cpu.set(limits.cpu_percent);
        self.log.set(limits.log_bytes_per_s, limits.log_lines_per_s);
    }

    /// Counts a request in.
    ///
    /// # Errors
    /// There are too many. It says after how long one more will not be.
    pub(crate) fn take_request(&self, now: Nanos) -> Result<(), Nanos> {
        self.requests.take(now)?;
        let Some(tenant) = &self.tenant else { return Ok(()) };
        tenant.requests.take(now).inspect_err(|_| self.requests.give_back())
    }

    /// CPU time was used.
    pub(crate) fn charge(&self, now: Nanos, used: Nanos) {
        self.cpu.charge(now, used);
        if let Some(tenant) = &self.tenant {
            tenant.cpu.charge(now, used);
        }
    }

    /// When it may use CPU time again. None: now.
    pub(crate) fn throttled_until(&self, now: Nanos) -> Option<Nanos> {
        let own = self.cpu.in_debt_until(now);
        let tenant = self.tenant.as_ref().and_then(|tenant| tenant.cpu.in_debt_until(now));
        own.max(tenant)
    }

    /// True if there is a limit to the CPU time it may use.
    pub(crate) fn limits_cpu(&self) -> bool {
        self.cpu.has_limit() || self.tenant.as_ref().is_some_and(|tenant| tenant.cpu.has_limit())
    }

    fn counts_connections(&self) -> bool {
        self.connections.has_limit()
            || self.tenant.as_ref().is_some_and(|tenant| tenant.connections.has_limit())
    }

    fn connect(&self) -> bool {
        if !self.connections.enter() {
            return false;
        }
        let entered = self.tenant.as_ref().is_none_or(|tenant| tenant.connections.enter());
        if !entered {
            self.connections.leave();
        }
        entered
    }

    fn disconnect(&self) {
        self.connections.leave();
        if let Some(tenant) = &self.tenant {
            tenant.connections.leave();
        }
    }
}

/// A client connection that is busy with an app, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.quota.disconnect();
    }
}

/// Why a connection may not begin with a request: as many as may are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Seat {
    /// Counts a client connection in. None: nobody asks how many there are.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Option<Busy>, Crowded> {
        if !self.quota.counts_connections() {
            return Ok(None);
        }
        if self.quota.connect() { Ok(Some(Busy(Arc::clone(self)))) } else { Err(Crowded) }
    }
}

/// How many there are, and how many there may be.
#[derive(Debug)]
struct Counter {
    now: AtomicU32,
    most: AtomicU32,
}

impl Default for Counter {
    fn default() -> Self {
        Self { now: AtomicU32::new(0), most: AtomicU32::new(u32::MAX) }
    }
}

impl Counter {
    fn set(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(u32::MAX), Relaxed);
    }

    fn has_limit(&self) -> bool {
        self.most.load(Relaxed) != u32::MAX
    }

    fn enter(&self) -> bool {
        let most = self.most.load(Relaxed);
        self.now.fetch_update(AcqRel, Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
    }

    fn leave(&self) {
        self.now.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MS;
    use crate::guest::places::Places;
    use crate::observe::metrics::Metrics;

    fn tenant(limits: TenantLimits) -> Arc<Tenant> {
        let tenant = Tenant::new("acme");
        tenant.set_limits(&limits);
        Arc::new(tenant)
    }

    fn seat(tenant: Option<&Arc<Tenant>>, limits: &AppLimits) -> Arc<Seat> {
        let seat = Seat::new(&Places::new(10), Arc::default(), tenant.cloned(), &Metrics::new(1), None);
        seat.set_limits(limits);
        Arc::new(seat)
    }

    #[test]
    fn what_the_tenant_refuses_is_not_counted_for_the_app() {
        let tenant = tenant(TenantLimits { requests_per_s: Some(1), ..TenantLimits::default() });
        let limits = AppLimits { requests_per_s: Some(2), ..AppLimits::default() };
        let [one, other] = [seat(Some(&tenant), &limits), seat(Some(&tenant), &limits)];
        let now = 1_000_000 * MS;
        assert_eq!(one.quota.take_request(now), Ok(()));
        for _ in 0..5 {
            assert_eq!(other.quota.take_request(now), Err(1_000 * MS));
        }
        tenant.set_limits(&TenantLimits::default());
        assert_eq!([0; 3].map(|_| other.quota.take_request(now).is_ok()), [true, true, false]);
    }

    #[test]
    fn connections_are_counted_once_somebody_asks() {
        let unlimited = seat(None, &AppLimits::default());
        assert!(unlimited.connect().unwrap().is_none());

        let tenant = tenant(TenantLimits { connections: Some(3), ..TenantLimits::default() });
        let limits = AppLimits { connections_max: Some(2), ..AppLimits::default() };
        let [one, other] = [seat(Some(&tenant), &limits), seat(Some(&tenant), &limits)];
        let first = one.connect().unwrap();
        let _second = one.connect().unwrap();
        assert!(first.is_some());
        assert_eq!(one.connect().err(), Some(Crowded), "the app's limit");
        let _third = other.connect().unwrap();
        assert_eq!(other.connect().err(), Some(Crowded), "the tenant's");
        drop(first);
        assert!(other.connect().unwrap().is_some());
        assert_eq!(one.quota.connections.now.load(Relaxed), 1);
    }

    #[test]
    fn cpu_time_is_charged_to_both() {
        let tenant = tenant(TenantLimits { cpu_percent: Some(10), ..TenantLimits::default() });
        let limits = AppLimits { cpu_percent: Some(50), ..AppLimits::default() };
        let [one, other] = [seat(Some(&tenant), &limits), seat(Some(&tenant), &limits)];
        let now = 1_000_000 * MS;
        one.quota.charge(now, 110 * MS);
        assert_eq!(one.quota.throttled_until(now), Some(now + 100 * MS), "the later of the two");
        assert_eq!(other.quota.throttled_until(now), Some(now + 100 * MS));
        assert_eq!(other.quota.throttled_until(now + 100 * MS), None);
        assert_eq!(seat(None, &limits).quota.throttled_until(now), None);
    }
}
