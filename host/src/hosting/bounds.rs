//! What a tenant may ask for, and how much of it at once: whoever has a token of its own is not trusted with the disk, the
//! processors and the patience of others.
//!
//! It must never know how a version is made. Invariant: the operator waits for no tenant here.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_store::records::VersionRecord;

use super::spec::Spec;
use super::types::{Actor, CanaryRule, Deploy, Refusal, RefusalKind};

/// Settings that reach beyond an app's own sandbox: who runs the server grants them.
const OPERATORS_KEYS: &[&str] = &["mounts", "sockets", "secrets", "weight", "tenant", "kv"];
/// Bytes of a tenant's settings, as a manifest: each version has its own, and all versions of an app are written together.
const SETTINGS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a note, and of what says which requests a canary gets. Anybody's.
const NOTE_BYTES_MAX: usize = 4 * 1024;
const RULE_BYTES_MAX: usize = 1024;
/// Changes that a tenant may make at once, and after how long it may make one more: each is written, and a record of the
/// audit, which keeps the last of all actors.
const CHANGES_MAX: u32 = 100;
const CHANGE_EVERY: Duration = Duration::from_secs(10);
/// Routes that a tenant may name for an app: all routes of all apps are gone through whenever one of them changes.
const ROUTES_MAX: usize = 100;
/// Uploads of a tenant that count: of this long, which is as long as a module stays that no version needs.
const UPLOADS_FOR: Duration = Duration::from_secs(60 * 60);
/// How many they may be, and how many of the largest size.
const UPLOADS_MAX: usize = 100;
const UPLOADS_LARGEST_MAX: u64 = 8;

/// Checks what is to be deployed before anything is done for it.
///
/// # Errors
/// It is not for this actor to set, or larger than it may be.
pub(super) fn check_deploy(actor: &Actor, deploy: &Deploy) -> Result<(), Refusal> {
    let too_long = |what: &str, most: usize| {
        Err(Refusal::new(RefusalKind::Invalid, format!("{what} is longer than {most} bytes")))
    };
    if deploy.note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX) {
        return too_long("the note", NOTE_BYTES_MAX);
    }
    if let Some(rule) = &deploy.canary {
        check_rule(rule)?;
    }
    if actor.tenant.is_none() {
        return Ok(());
    }
    if let Some(key) = deploy.settings.keys().find(|key| OPERATORS_KEYS.contains(&key.as_str())) {
        let message = format!("`{key}` is for the server's operator to set");
        return Err(Refusal::new(RefusalKind::Forbidden, message)
            .help("what is left out stays as it is in the version that serves"));
    }
    let routes = deploy.settings.get("routes").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    if routes > ROUTES_MAX {
        let message = format!("the app would have {routes} routes, and may have {ROUTES_MAX}");
        return Err(Refusal::new(RefusalKind::Invalid, message)
            .help("a route may end in `/*`, or have parameters: `/users/{id}`"));
    }
    // What JSON needs is near enough to what TOML does.
    let bytes = serde_json::to_vec(&deploy.settings).map_or(usize::MAX, |text| text.len());
    if bytes > SETTINGS_BYTES_MAX {
        too_long("what is said in `settings`", SETTINGS_BYTES_MAX)
    } else {
        Ok(())
    }
}

/// Checks the settings of a version that is to be, with all that stays as it was.
///
/// # Errors
/// They are longer than a tenant may make them. Who only deploys another module is not refused for what the operator has set.
pub(super) fn check_spec(actor: &Actor, deploy: &Deploy, spec: &Spec) -> Result<(), Refusal> {
    if actor.tenant.is_none() || deploy.settings.is_empty() || spec.text().len() <= SETTINGS_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the settings of the version would be longer than {SETTINGS_BYTES_MAX} bytes");
    Err(Refusal::new(RefusalKind::Invalid, message)
        .help("what is left out stays as it is in the version that serves; `null` takes a key out"))
}

/// Checks what says which requests a canary gets.
///
/// # Errors
/// It is longer than a header could be.
pub(super) fn check_rule(rule: &CanaryRule) -> Result<(), Refusal> {
    for (what, text) in [("header", &rule.header), ("cookie", &rule.cookie)] {
        if text.as_ref().is_some_and(|text| text.len() > RULE_BYTES_MAX) {
            let message = format!("the {what} of the canary's rule is longer than {RULE_BYTES_MAX} bytes");
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
    }
    Ok(())
}

/// Checks that a version that is kept has of its operator what the one that serves has: who goes back to it would get what
/// was taken away since.
///
/// # Errors
/// It has not, and a tenant asks.
pub(super) fn check_grants(actor: &Actor, serves: &Spec, kept: &VersionRecord) -> Result<(), Refusal> {
    if actor.tenant.is_none() {
        return Ok(());
    }
    let Some(key) = Spec::read(&kept.settings)?.differs_in(serves, OPERATORS_KEYS) else { return Ok(()) };
    let message = format!("version {} has other `{key}` than the one that serves", kept.number);
    Err(Refusal::new(RefusalKind::Forbidden, message)
        .help("the server's operator may serve it; or deploy its module once more"))
}

/// What tenants have uploaded lately, and which of them have a version made.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// By tenant, the oldest first.
    uploads: Mutex<HashMap<String, Vec<Upload>>>,
    /// Tenants whose turn it is.
    making: Mutex<Vec<String>>,
    /// By tenant: how many changes it may make, and since when that is so.
    changes: Mutex<HashMap<String, (u32, Instant)>>,
    done: Condvar,
}

#[derive(Debug)]
struct Upload {
    hash: String,
    bytes: u64,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bounds {
    /// Whether an actor may change something: a tenant not without end.
    ///
    /// # Errors
    /// It has made very many changes.
    pub(super) fn check_change(&self, actor: &Actor, now: Instant) -> Result<(), Refusal> {
        let Some(tenant) = &actor.tenant else { return Ok(()) };
        let mut all = lock(&self.changes);
        let (left, since) = all.entry(tenant.clone()).or_insert((CHANGES_MAX, now));
        let passed = now.saturating_duration_since(*since);
        let more = passed.as_secs() / CHANGE_EVERY.as_secs();
        if more > 0 {
            *left = left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(CHANGES_MAX);
            *since = now;
        }
        let Some(rest) = left.checked_sub(1) else {
            let message =
                format!("the tenant `{tenant}` has changed things more than {CHANGES_MAX} times lately");
            let help = format!("it may make one change more each {} seconds", CHANGE_EVERY.as_secs());
            return Err(Refusal::new(RefusalKind::Unavailable, message).help(help));
        };
        *left = rest;
        Ok(())
    }

    /// Whether a tenant may upload a module of so many bytes, of which one may have `bytes_max`. What a version of its own
    /// `needs` does not count here, and counts again once none does: it is on the disk for as long as any other.
    ///
    /// # Errors
    /// It has uploaded enough for a while.
    pub(super) fn check_upload(
        &self,
        tenant: &str,
        bytes: u64,
        bytes_max: u64,
        needs: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut all = lock(&self.uploads);
        let Some(uploads) = all.get_mut(tenant) else { return Ok(()) };
        uploads.retain(|upload| now.saturating_duration_since(upload.at) < UPLOADS_FOR);
        let unneeded = || uploads.iter().filter(|upload| !needs(&upload.hash));
        let sum = unneeded().map(|upload| upload.bytes).fold(bytes, u64::saturating_add);
        if unneeded().count() < UPLOADS_MAX && sum <= bytes_max.saturating_mul(UPLOADS_LARGEST_MAX) {
            return Ok(());
        }
        let message = "too much was uploaded within an hour that no version needs";
        Err(Refusal::new(RefusalKind::Unavailable, message)
            .help("deploy what was uploaded, or try again in an hour"))
    }

    /// A tenant has uploaded a module.
    pub(super) fn uploaded(&self, tenant: &str, hash: &str, bytes: u64, now: Instant) {
        let mut all = lock(&self.uploads);
        let uploads = all.entry(tenant.to_owned()).or_default();
        uploads.retain(|upload| upload.hash != hash);
        uploads.push(Upload { hash: hash.to_owned(), bytes, at: now });
    }

    /// Whether a tenant has uploaded a module lately.
    pub(super) fn has_uploaded(&self, tenant: &str, hash: &str) -> bool {
        lock(&self.uploads).get(tenant).is_some_and(|all| all.iter().any(|upload| upload.hash == hash))
    }

    /// Waits until an actor may have a version made: a tenant has one at a time, and all tenants together leave a
    /// processor for others. Nobody who is no tenant's waits.
    pub(super) fn turn(&self, actor: &Actor) -> Turn<'_> {
        let Some(tenant) = &actor.tenant else { return Turn { bounds: self, tenant: None } };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let most = processors.saturating_sub(1).max(1);
        let busy = |making: &mut Vec<String>| making.len() >= most || making.contains(tenant);
        let waited = self.done.wait_while(lock(&self.making), busy);
        waited.unwrap_or_else(PoisonError::into_inner).push(tenant.clone());
        Turn { bounds: self, tenant: Some(tenant.clone()) }
    }
}

/// A version may be made; over when it is dropped.
#[must_use]
pub(super) struct Turn<'b> {
    bounds: &'b Bounds,
    tenant: Option<String>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(tenant) = &self.tenant else { return };
        lock(&self.bounds.making).retain(|other| other != tenant);
        self.bounds.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use serde_json::{Map, json};

    use super::*;

    fn actor(tenant: Option<&str>) -> Actor {
        Actor { name: "x".to_owned(), tenant: tenant.map(str::to_owned) }
    }

    fn deploy(settings: serde_json::Value) -> Deploy {
        let serde_json::Value::Object(settings) = settings else { panic!("no object") };
        Deploy { module: String::new(), settings, note: None, canary: None, inactive: false }
    }

    #[test]
    fn what_a_tenant_says_is_bounded() {
        let (operator, tenant) = (actor(None), actor(Some("acme")));
        for key in OPERATORS_KEYS {
            let deploy = deploy(json!({ *key: null }));
            assert_eq!(check_deploy(&tenant, &deploy).unwrap_err().kind, RefusalKind::Forbidden, "{key}");
            assert!(check_deploy(&operator, &deploy).is_ok(), "{key}");
        }
        let much = deploy(json!({ "env": { "A": "x".repeat(SETTINGS_BYTES_MAX) } }));
        assert!(check_deploy(&tenant, &much).unwrap_err().message.contains("`settings`"));
        assert!(check_deploy(&operator, &much).is_ok());
        let plain = || deploy(serde_json::Value::Object(Map::new()));
        let note = Deploy { note: Some("x".repeat(NOTE_BYTES_MAX + 1)), ..plain() };
        let header = Some("x".repeat(RULE_BYTES_MAX + 1));
        let rule = Deploy { canary: Some(CanaryRule { header, ..CanaryRule::default() }), ..plain() };
        for deploy in [note, rule] {
            assert_eq!(check_deploy(&operator, &deploy).unwrap_err().kind, RefusalKind::Invalid);
        }
        assert!(check_deploy(&tenant, &plain()).is_ok());
        let routes = |count: usize| deploy(json!({ "routes": vec!["a.test/*"; count] }));
        assert!(check_deploy(&tenant, &routes(ROUTES_MAX)).is_ok());
        let refusal = check_deploy(&tenant, &routes(ROUTES_MAX + 1)).unwrap_err();
        assert!(refusal.message.contains("101 routes") && refusal.help.is_some(), "{refusal}");
        assert!(check_deploy(&operator, &routes(ROUTES_MAX + 1)).is_ok());
    }

    #[test]
    fn settings_do_not_grow_from_version_to_version() {
        let long = "x".repeat(SETTINGS_BYTES_MAX - 100);
        let part = |key: &str| deploy(json!({ key: { "A": long } }));
        let (operator, tenant) = (actor(None), actor(Some("acme")));
        let one = Spec::first().with(&part("env").settings).unwrap();
        assert!(check_spec(&tenant, &part("env"), &one).is_ok());
        let two = one.with(&part("limits").settings).unwrap();
        assert!(check_spec(&tenant, &part("limits"), &two).unwrap_err().message.contains("65536"));
        assert!(check_spec(&operator, &part("limits"), &two).is_ok());
        assert!(check_spec(&tenant, &deploy(json!({})), &two).is_ok());
    }

    #[test]
    fn a_tenant_changes_things_at_a_bounded_rate() {
        let (bounds, start, tenant) = (Bounds::default(), Instant::now(), actor(Some("acme")));
        let changes = (0..1000).filter(|_| bounds.check_change(&tenant, start).is_ok()).count();
        assert_eq!(changes, CHANGES_MAX as usize);
        assert_eq!(bounds.check_change(&tenant, start).unwrap_err().kind, RefusalKind::Unavailable);
        assert!(bounds.check_change(&actor(Some("other")), start).is_ok());
        assert!((0..1000).all(|_| bounds.check_change(&actor(None), start).is_ok()));
        let later = start + CHANGE_EVERY;
        assert!(bounds.check_change(&tenant, later).is_ok() && bounds.check_change(&tenant, later).is_err());
    }

    #[test]
    fn what_was_taken_away_is_not_got_back() {
        let kept = |line: &str| VersionRecord {
            number: 3,
            module: String::new(),
            module_bytes: 0,
            settings: format!("[[app]]\nroutes = [\"/*\"]\n{line}\n"),
            facts: serde_json::Value::Null,
            created_ms: 0,
            by: String::new(),
            note: None,
            failed: None,
        };
        let (operator, tenant) = (actor(None), actor(Some("acme")));
        let with_kv = kept("kv = true\nenv = { A = \"b\" }");
        let serves = |record: &VersionRecord| Spec::read(&record.settings).unwrap();
        assert!(check_grants(&tenant, &serves(&kept("kv = true")), &with_kv).is_ok());
        let refusal = check_grants(&tenant, &serves(&kept("")), &with_kv).unwrap_err();
        assert!(
            refusal.kind == RefusalKind::Forbidden && refusal.message.contains("other `kv`"),
            "{refusal}"
        );
        assert!(check_grants(&operator, &serves(&kept("")), &with_kv).is_ok());
    }

    #[test]
    fn uploads_that_nobody_needs_are_bounded() {
        let (bounds, start) = (Bounds::default(), Instant::now());
        let with = |needed: &[&str], tenant: &str, bytes, now| {
            bounds.check_upload(tenant, bytes, 1000, |hash| needed.contains(&hash), now).is_ok()
        };
        let may = |tenant: &str, bytes, now| with(&[], tenant, bytes, now);
        for n in 0..8 {
            assert!(may("acme", 1000, start), "{n}");
            bounds.uploaded("acme", &n.to_string(), 1000, start);
        }
        assert!(!may("acme", 1, start) && may("other", 1000, start));
        assert!(bounds.has_uploaded("acme", "0") && !bounds.has_uploaded("other", "0"));
        bounds.uploaded("acme", "7", 1000, start);
        assert!(with(&["0"], "acme", 1000, start) && !with(&["0"], "acme", 1001, start));
        // Another version took its place: it is on the disk still.
        bounds.uploaded("acme", "8", 1000, start);
        assert!(!with(&["8"], "acme", 1, start) && with(&["8", "0"], "acme", 1000, start));
        assert!(may("acme", 1000, start + UPLOADS_FOR));
        for n in 0..UPLOADS_MAX {
            bounds.uploaded("small", &n.to_string(), 1, start);
        }
        assert!(!may("small", 1, start) && with(&["5"], "small", 1, start));
    }

    #[test]
    fn a_tenant_has_one_version_made_at_a_time() {
        let bounds = Bounds::default();
        let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let tenant = actor(Some("acme"));
        let first = bounds.turn(&tenant);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = bounds.turn(&tenant);
                    most.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    at_once.fetch_sub(1, SeqCst);
                });
            }
            // Whoever runs the server does not wait for any of that.
            drop(bounds.turn(&actor(None)));
            assert_eq!(most.load(SeqCst), 0);
            drop(first);
        });
        assert_eq!((most.load(SeqCst), at_once.load(SeqCst)), (1, 0));
        assert!(lock(&bounds.making).is_empty());
    }
}
