//! The whole resolver, with a name server on the loopback. Where time has to pass, a later one is handed in.

mod responder;

use std::fs;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use hickory_resolver::proto::rr::RecordType;

use self::responder::{Reply, Responder};
use super::*;
use crate::clock::MS;

const SECOND: Nanos = 1_000 * MS;
/// How long anything may take on a slow machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Wakes a thread, and counts.
struct Ring {
    thread: Thread,
    rang: AtomicUsize,
}

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), rang: AtomicUsize::new(0) })
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.rang.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

/// Polls when it is woken, and at no other time.
fn wait(mut lookup: Lookup) -> Answer {
    let ring = Ring::new();
    let waker = Waker::from(Arc::clone(&ring));
    let end = Instant::now() + DEADLINE;
    let mut seen = 0;
    loop {
        if let Poll::Ready(answer) = lookup.poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        while ring.rang.load(SeqCst) == seen {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not answered within {DEADLINE:?}");
            thread::park_timeout(left);
        }
        seen = ring.rang.load(SeqCst);
    }
}

/// The answer, if it is there without waiting.
fn at_once(lookup: &mut Lookup) -> Option<Answer> {
    match lookup.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Answer {
    Ok(texts.iter().map(|text| ip(text)).collect())
}

fn only(text: &str, ttl: u32) -> Reply {
    Reply::Addresses(vec![ip(text)], ttl)
}

fn start() -> (Responder, Arc<Resolver>) {
    let responder = Responder::start();
    let resolver = Resolver::new(&[responder.address]);
    (responder, resolver)
}

/// One that is soon at the end of its patience.
fn impatient(responder: &Responder, lookup_ms: u64) -> Arc<Resolver> {
    let patience = Patience {
        lookup: Duration::from_millis(lookup_ms),
        server: Duration::from_millis(lookup_ms),
        other_family: Duration::from_millis(50),
    };
    Resolver::with(Servers::Given(Arc::from([responder.address])), patience)
}

impl Resolver {
    fn flights(&self) -> usize {
        self.shared.lock().flights.len()
    }

    fn flight(&self, name: &str) -> Arc<Flight> {
        Arc::clone(&self.shared.lock().flights[name])
    }

    fn forget(&self) {
        self.shared.lock().cache = Cache::new(NAMES_MAX);
    }

    fn ask(&self, name: &str) -> Answer {
        wait(self.lookup(name, 1))
    }

    /// Whether an answer to `name` is kept at `now`. It never asks.
    fn keeps(&self, name: &str, now: Nanos) -> bool {
        self.shared.lock().cache.get(name, now).is_some()
    }

    /// For how many seconds after `since` the answer to `name` is kept, to a second.
    fn kept_seconds(&self, name: &str, since: Nanos) -> u64 {
        (0..4_000).find(|seconds| !self.keeps(name, since + seconds * SECOND)).unwrap()
    }
}

#[test]
fn what_needs_nobody_starts_no_thread() {
    let resolver = Resolver::new(&[SocketAddr::from(([127, 0, 0, 1], 9))]);
    for (name, answer) in [
        ("10.0.0.5", addresses(&["10.0.0.5"])),
        ("[2001:db8::1]", addresses(&["2001:db8::1"])),
        ("localhost", addresses(&["127.0.0.1", "::1"])),
        ("a.LOCALHOST.", addresses(&["127.0.0.1", "::1"])),
        ("no name", Err(LookupError::BadName)),
        ("0x7f.1", Err(LookupError::BadName)),
    ] {
        let mut lookup = resolver.lookup(name, 1);
        assert_eq!(at_once(&mut lookup), Some(answer.clone()), "{name}");
        assert_eq!(at_once(&mut lookup), Some(answer), "{name}, again");
    }
    assert!(!resolver.line.is_started());
}

#[test]
fn an_answer_is_kept_for_its_ttl_and_asked_for_again_after_it() {
    let (responder, resolver) = start();
    responder.set("db.example", only("192.0.2.1", 300));
    let before = resolver.shared.clock.now();
    assert_eq!(resolver.ask("db.example"), addresses(&["192.0.2.1"]));
    let after = resolver.shared.clock.now();

    // Rebinding: the name leads elsewhere now. Within the TTL nobody notices, in whatever spelling and for whichever app.
    responder.set("db.example", only("10.0.0.1", 300));
    for (name, tenant, now) in [("db.example", 1, after), ("DB.example.", 2, before + 300 * SECOND - 1)] {
        let mut lookup = resolver.lookup_at(name, tenant, now);
        assert_eq!(at_once(&mut lookup), Some(addresses(&["192.0.2.1"])));
    }
    assert_eq!(responder.asked("db.example", RecordType::A), 1);
    assert_eq!(responder.asked("db.example", RecordType::AAAA), 1);

    // The resolver crate, whose clock is not ours, keeps nothing.
    let lookup = resolver.lookup_at("db.example", 1, after + 300 * SECOND);
    assert_eq!(wait(lookup), addresses(&["10.0.0.1"]));
    assert_eq!(
        responder.asked("db.example", RecordType::A),
        2,
        "the resolver crate keeps nothing of its own"
    );
}

#[test]
fn ttls_are_bounded_and_the_shortest_holds() {
    let (responder, resolver) = start();
    responder.set("zero.example", only("192.0.2.1", 0));
    responder.set("long.example", only("192.0.2.1", 1_000_000));
    responder.set("alias.example", Reply::Alias("target.example", 7));
    responder.set("target.example", only("192.0.2.9", 500));
    for (name, seconds) in [("zero.example", 1), ("long.example", 3_600), ("alias.example", 7)] {
        let before = resolver.shared.clock.now();
        assert!(resolver.ask(name).is_ok(), "{name}");
        let kept = resolver.kept_seconds(name, before);
        assert!((seconds..seconds + 20).contains(&kept), "{name} is kept for {kept} s");
    }
    assert_eq!(resolver.ask("alias.example"), addresses(&["192.0.2.9"]), "a chain in several answers");
}

#[test]
fn both_families_come_and_addresses_are_bounded() {
    let (responder, resolver) = start();
    let both = vec![ip("2001:db8::1"), ip("192.0.2.2"), ip("2001:db8::2"), ip("192.0.2.1"), ip("192.0.2.2")];
    responder.set("both.example", Reply::Addresses(both, 60));
    let found = resolver.ask("both.example").unwrap();
    let (v4, v6): (Vec<_>, Vec<_>) = found.iter().copied().partition(IpAddr::is_ipv4);
    assert_eq!(v4, [ip("192.0.2.2"), ip("192.0.2.1")], "the order of the answer, each once");
    assert_eq!(v6, [ip("2001:db8::1"), ip("2001:db8::2")]);
    assert!(found.is_sorted_by_key(|a| a.is_ipv6()) || found.is_sorted_by_key(|a| a.is_ipv4()), "{found:?}");

    let many = (0..60).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    responder.set("many.example", Reply::TooLong(many, 60));
    let found = resolver.ask("many.example").unwrap();
    assert_eq!(found.len(), ask::ADDRESSES_MAX);
    assert_eq!(found[0], ip("192.0.2.0"), "and what did not fit into a datagram came over TCP");
}

#[test]
fn lookups_of_one_name_share_a_query() {
    let (responder, resolver) = start();
    responder.set("db.example", only("192.0.2.1", 60));
    let zone = responder.zone();
    let lookups: Vec<_> = (0..20).map(|tenant| resolver.lookup("db.example", tenant)).collect();
    assert_eq!(resolver.flights(), 1);
    assert_eq!(resolver.shared.lock().tenants.values().sum::<usize>(), 1);
    drop(zone);
    for lookup in lookups {
        assert_eq!(wait(lookup), addresses(&["192.0.2.1"]));
    }
    assert_eq!(resolver.flights(), 0);
    assert!(resolver.shared.lock().tenants.is_empty());
}

#[test]
fn who_gives_up_is_not_woken_and_the_answer_is_kept() {
    let (responder, resolver) = start();
    responder.set("db.example", only("192.0.2.1", 60));
    let zone = responder.zone();
    let (ring, other) = (Ring::new(), Ring::new());
    let [first, last] = [&ring, &other].map(|ring| Waker::from(Arc::clone(ring)));
    let mut given_up = resolver.lookup("db.example", 1);
    let mut polled_anew = resolver.lookup("db.example", 1);
    assert!(given_up.poll(&mut Context::from_waker(&first)).is_pending());
    // Only the last waker counts.
    assert!(polled_anew.poll(&mut Context::from_waker(&first)).is_pending());
    assert!(polled_anew.poll(&mut Context::from_waker(&last)).is_pending());
    let flight = resolver.flight("db.example");
    assert_eq!(flight.waiting(), 2);
    drop(given_up);
    assert_eq!(flight.waiting(), 1);
    drop(zone);
    until("the waker of who still waits", || other.rang.load(SeqCst) == 1);
    assert_eq!(ring.rang.load(SeqCst), 0);
    drop(polled_anew);
    assert_eq!(at_once(&mut resolver.lookup("db.example", 2)), Some(addresses(&["192.0.2.1"])));
}

#[test]
fn what_one_app_has_under_way_is_bounded_and_leaves_room_for_others() {
    let (responder, resolver) = start();
    let zone = responder.zone();
    let busy = |lookup: &mut Lookup| at_once(lookup) == Some(Err(LookupError::Busy));
    let fill = |tenant: u64| {
        let mut begun = 0;
        while !busy(&mut resolver.lookup(&format!("n{begun}.t{tenant}.example"), tenant)) {
            begun += 1;
        }
        begun
    };
    assert_eq!(fill(1), QUERIES_OF_ONE_MAX, "dropped at once, and counted all the same");
    assert_eq!(fill(1), QUERIES_OF_ONE_MAX, "what is under way already is joined");
    let mut all = QUERIES_OF_ONE_MAX;
    for tenant in 2..10 {
        let begun = fill(tenant);
        assert!(begun > 0, "app {tenant} finds room, with {all} under way");
        all += begun;
    }
    assert_eq!(resolver.flights(), all);
    assert!(all <= QUERIES_MAX);
    // To join what is under way costs nothing.
    assert!(at_once(&mut resolver.lookup("n0.t2.example", 1)).is_none());
    drop(zone);
    until("all are answered", || resolver.flights() == 0);
    assert!(resolver.shared.lock().tenants.is_empty());
    assert_eq!(resolver.ask("n64.t1.example"), Err(LookupError::NotFound), "to be busy is not kept");
}

#[test]
fn silence_is_a_timeout_that_is_soon_forgotten() {
    let responder = Responder::start();
    let resolver = impatient(&responder, 200);
    responder.set("db.example", Reply::Silence);
    let began = Instant::now();
    assert_eq!(resolver.ask("db.example"), Err(LookupError::Timeout));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let after = resolver.shared.clock.now();
    responder.set("db.example", only("192.0.2.1", 60));
    assert!(!resolver.keeps("db.example", after + SECOND), "a failure is kept for a second");
    let lookup = resolver.lookup_at("db.example", 1, after + SECOND);
    assert_eq!(wait(lookup), addresses(&["192.0.2.1"]));
}

#[test]
fn a_lost_datagram_is_sent_again() {
    let (responder, resolver) = start();
    responder.set("db.example", Reply::Silence);
    let lookup = resolver.lookup("db.example", 1);
    until("the first try", || responder.asked("db.example", RecordType::A) > 0);
    responder.set("db.example", only("192.0.2.1", 60));
    assert_eq!(wait(lookup), addresses(&["192.0.2.1"]));
}

#[test]
fn a_family_that_fails_does_not_hold_up_the_other() {
    let responder = Responder::start();
    let long = 2 * DEADLINE;
    let patient = Patience { lookup: long, server: long, other_family: Duration::from_millis(50) };
    let resolver = Resolver::with(Servers::Given(Arc::from([responder.address])), patient);
    for (name, family, address) in
        [("four.example", RecordType::A, "192.0.2.1"), ("six.example", RecordType::AAAA, "2001:db8::1")]
    {
        responder.set(name, Reply::OneFamily(family, ip(address), 3_600));
        let before = resolver.shared.clock.now();
        assert_eq!(resolver.ask(name), addresses(&[address]));
        let kept = resolver.kept_seconds(name, before);
        assert!((60..60 + 30).contains(&kept), "the other family may be back soon: {kept} s");
    }
}

#[test]
fn that_there_is_nothing_is_kept_for_as_long_as_the_zone_says() {
    let (responder, resolver) = start();
    responder.set("none.example", Reply::NoName(30));
    responder.set("ages.example", Reply::NoName(86_400));
    responder.set("bare.example", Reply::Addresses(vec![], 20));
    for (name, error, seconds) in [
        ("none.example", LookupError::NotFound, 30),
        ("ages.example", LookupError::NotFound, 60),
        ("bare.example", LookupError::NoAddress, 20),
    ] {
        let before = resolver.shared.clock.now();
        assert_eq!(resolver.ask(name), Err(error));
        let kept = resolver.kept_seconds(name, before);
        assert!((seconds..seconds + 10).contains(&kept), "{name} is kept for {kept} s");
    }
    responder.set("none.example", only("192.0.2.1", 60));
    assert_eq!(at_once(&mut resolver.lookup("none.example", 1)), Some(Err(LookupError::NotFound)));
    let later = resolver.shared.clock.now() + 30 * SECOND;
    assert_eq!(wait(resolver.lookup_at("none.example", 1, later)), addresses(&["192.0.2.1"]));
}

#[test]
fn failures_have_a_text_for_the_log() {
    let (responder, resolver) = start();
    responder.set("fails.example", Reply::ServFail);
    responder.set("garbage.example", Reply::Garbage);
    for (name, part) in [("fails.example", "Server Failure"), ("garbage.example", "")] {
        let Err(LookupError::Failed(text)) = resolver.ask(name) else { panic!("{name}") };
        assert!(text.contains(part) && !text.is_empty(), "{name}: {text}");
        let later = resolver.shared.clock.now() + SECOND;
        assert!(!resolver.keeps(name, later), "{name}");
    }
}

#[test]
fn the_second_server_is_asked_when_the_first_is_silent() {
    let (silent, other) = (Responder::start(), Responder::start());
    silent.set("db.example", Reply::Silence);
    other.set("db.example", only("192.0.2.1", 60));
    let patience =
        Patience { server: Duration::from_millis(200), lookup: 2 * DEADLINE, ..Patience::default() };
    let servers = Servers::Given(Arc::from([silent.address, other.address]));
    let resolver = Resolver::with(servers, patience);
    for _ in 0..4 {
        assert_eq!(resolver.ask("db.example"), addresses(&["192.0.2.1"]));
        resolver.forget();
    }
}

#[test]
fn the_thread_ends_with_the_resolver_and_leaves_nobody_waiting() {
    let (responder, resolver) = start();
    responder.set("db.example", Reply::Silence);
    let waiting = resolver.lookup("db.example", 1);
    until("the thread asks", || responder.asked("db.example", RecordType::A) > 0);
    let shared: Weak<Shared> = Arc::downgrade(&resolver.shared);
    drop(resolver);
    assert!(matches!(wait(waiting), Err(LookupError::Failed(_))));
    until("the thread has given back what it shared", || shared.strong_count() == 0);
}

/// A folder with the system's two files, for a resolver that reads them.
fn files(resolv_conf: Option<&str>, hosts: &str) -> (tempfile::TempDir, Arc<Resolver>) {
    let folder = tempfile::tempdir().unwrap();
    let (conf, names) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    if let Some(text) = resolv_conf {
        fs::write(&conf, text).unwrap();
    }
    fs::write(&names, hosts).unwrap();
    let resolver = Resolver::with(Servers::Files { resolv_conf: conf, hosts: names }, Patience::default());
    (folder, resolver)
}

#[test]
fn files_that_cannot_be_read_are_a_failure_until_they_can() {
    let (folder, resolver) = files(None, "192.0.2.7 db.example db\n2001:db8::7 six.example\n");
    let Err(LookupError::Failed(text)) = resolver.ask("db.example") else {
        panic!("there is no resolv.conf")
    };
    assert!(text.contains("resolv.conf") && text.contains("[server]"), "{text}");
    fs::write(folder.path().join("resolv.conf"), "search example\n").unwrap();
    resolver.forget();
    assert!(matches!(resolver.ask("db.example"), Err(LookupError::Failed(_))), "it names no server");

    // What stands in the hosts file is not asked for: nobody answers on this address.
    fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    resolver.forget();
    let before = resolver.shared.clock.now();
    assert_eq!(resolver.ask("DB.example"), addresses(&["192.0.2.7"]));
    assert_eq!(resolver.ask("db"), addresses(&["192.0.2.7"]));
    assert_eq!(resolver.ask("six.example"), addresses(&["2001:db8::7"]));
    let kept = resolver.kept_seconds("db.example", before);
    assert!((10..40).contains(&kept), "as long as the file is not looked at: {kept} s");
}

#[test]
fn files_that_changed_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (conf, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    fs::write(&conf, "nameserver 127.0.0.1\nsearch example\n").unwrap();
    let mut source = source::Source::new(
        Servers::Files { resolv_conf: conf.clone(), hosts: hosts.clone() },
        Patience::default(),
    );
    let first = source.current().unwrap();
    assert_eq!(first.search.len(), 1);
    fs::write(&hosts, "192.0.2.1 db.example\n").unwrap();
    assert!(Arc::ptr_eq(&first, &source.current().unwrap()), "not looked at again so soon");
    source.look_now();
    let second = source.current().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    source.look_now();
    assert!(Arc::ptr_eq(&second, &source.current().unwrap()), "nothing has changed");
    fs::remove_file(&conf).unwrap();
    source.look_now();
    assert!(Arc::ptr_eq(&second, &source.current().unwrap()), "what was read before stays in force");
}

#[test]
fn only_names_without_a_dot_are_searched_for() {
    let responder = Responder::start();
    responder.set("db.two.example", only("192.0.2.2", 60));
    responder.set("bare", only("192.0.2.3", 60));
    responder.set("a.b.one.example", only("192.0.2.4", 60));
    // The port of a server cannot be written into the file: so the list that was read from one meets given servers.
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("resolv.conf");
    fs::write(&conf, "nameserver 127.0.0.1\nsearch one.example two.example\noptions ndots:5\n").unwrap();
    let read = |servers| source::Source::new(servers, Patience::default()).read().unwrap();
    let search = read(Servers::Files { resolv_conf: conf, hosts: folder.path().join("hosts") }).search;
    let dns = ask::Dns { search, ..read(Servers::Given(Arc::from([responder.address]))) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let find = |name| runtime.block_on(dns.find(name)).answer;
    assert_eq!(find("db"), addresses(&["192.0.2.2"]));
    assert_eq!(responder.asked("db.one.example", RecordType::A), 1, "in the order of the list");
    assert_eq!(responder.asked("db", RecordType::A), 0);
    assert_eq!(find("bare"), addresses(&["192.0.2.3"]), "and last as it is");
    assert_eq!(find("a.b"), Err(LookupError::NotFound));
    assert_eq!(responder.asked("a.b.one.example", RecordType::A), 0);
}
