//! The service before a backend that answers when it is told to.

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake, Waker};

use tidegate_store::kv::{Answer, Key, Reply};

use super::*;
use crate::tenants::quota::Tenant;

/// Far more than any test needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A backend that holds everything until it is asked to answer.
#[derive(Default)]
struct Held {
    requests: Mutex<Vec<Request>>,
}

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Request {
        self.lock().remove(0)
    }

    fn reply(&self) -> Reply {
        self.next().reply
    }
}

impl Backend for Held {
    fn submit(&self, request: Request) {
        self.lock().push(request);
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Bench {
    backend: Arc<Held>,
    service: Arc<Service>,
    alarm: Arc<Alarm>,
}

impl Bench {
    fn new() -> Self {
        let backend = Arc::new(Held::default());
        let service = Service::over(Arc::clone(&backend) as Arc<dyn Backend>, true);
        Self { backend, service, alarm: Arc::default() }
    }

    fn access(&self, app: &str) -> Arc<Access> {
        self.service.access(&app.into(), None, KvSettings::default())
    }

    fn poll(&self, pending: &mut Pending) -> Poll<Result<Answer, Error>> {
        let waker = Waker::from(Arc::clone(&self.alarm));
        pending.poll(&Context::from_waker(&waker)).map(|given| given.map(|given| given.split().0))
    }

    fn woken(&self) -> usize {
        self.alarm.0.load(Relaxed)
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn get() -> Operation {
    Operation::Get(key("k"))
}

/// Asks, and waits as a guest's fiber would.
pub(crate) fn ask(access: &Access, operation: Operation) -> Result<Answer, Error> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut pending = access.submit(operation)?;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let end = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(given) = pending.poll(&Context::from_waker(&waker)) {
            return given.map(|given| given.split().0);
        }
        assert!(Instant::now() < end, "every operation is answered");
        std::thread::park_timeout(PATIENCE);
    }
}

#[test]
fn who_waits_is_woken_by_the_answer() {
    let bench = Bench::new();
    let mut pending = bench.access("a").submit(get()).unwrap();
    assert!(bench.poll(&mut pending).is_pending() && bench.poll(&mut pending).is_pending());
    assert_eq!(bench.woken(), 0);
    (bench.backend.reply())(Ok(Answer::Found(true)));
    assert_eq!(bench.woken(), 1);
    assert_eq!(bench.poll(&mut pending), Poll::Ready(Ok(Answer::Found(true))));
    assert!(bench.poll(&mut pending).is_pending(), "it is given once");
    assert_eq!(bench.woken(), 1);
}

#[test]
fn an_answer_that_comes_first_wakes_nobody() {
    let bench = Bench::new();
    let mut pending = bench.access("a").submit(get()).unwrap();
    (bench.backend.reply())(Err(Error::QuotaKeys));
    assert_eq!(bench.poll(&mut pending), Poll::Ready(Err(Error::QuotaKeys)));
    assert_eq!(bench.woken(), 0);
}

#[test]
fn a_backend_that_forgets_is_an_answer() {
    let bench = Bench::new();
    let access = bench.access("a");
    let mut pending = access.submit(get()).unwrap();
    assert!(bench.poll(&mut pending).is_pending());
    drop(bench.backend.reply());
    assert_eq!(bench.woken(), 1);
    assert!(matches!(bench.poll(&mut pending), Poll::Ready(Err(Error::Unavailable(_)))));
    assert_eq!((access.under_way(), access.counted().total(Some(KvOutcome::Failed))), (0, 1));
}

#[test]
fn what_is_given_up_counts_until_it_is_answered_and_wakes_nobody() {
    let bench = Bench::new();
    let access = bench.access("a");
    for _ in 0..OPERATIONS_OF_ONE_MAX {
        let mut pending = access.submit(get()).unwrap();
        assert!(bench.poll(&mut pending).is_pending());
    }
    assert_eq!(access.submit(get()).unwrap_err(), Error::Busy);
    assert_eq!(access.under_way(), OPERATIONS_OF_ONE_MAX);
    assert_eq!((access.counted().total(None), access.counted().total(Some(KvOutcome::Busy))), (1, 1));
    (bench.backend.reply())(Ok(Answer::Value(Some(vec![0; 1000]))));
    assert_eq!(bench.woken(), 0);
    let pending = access.submit(get()).expect("there is room again");
    assert_eq!(access.submit(get()).unwrap_err(), Error::Busy);
    // Another version of the app stands in the same line; another app has its own.
    assert_eq!(bench.access("a").submit(get()).unwrap_err(), Error::Busy);
    bench.access("b").submit(get()).expect("it is another app");
    drop(pending);
    while !bench.backend.lock().is_empty() {
        (bench.backend.reply())(Ok(Answer::Done));
    }
    assert_eq!(bench.service.all.operations.load(Relaxed), 0);
    assert_eq!(bench.service.all.bytes.load(Relaxed), 0);
}

#[test]
fn a_few_busy_apps_leave_room_for_the_next() {
    let bench = Bench::new();
    let apps: Vec<_> = (0..64).map(|number| bench.access(&format!("app{number}"))).collect();
    let held: Vec<Vec<Pending>> =
        apps.iter().map(|app| std::iter::from_fn(|| app.submit(get()).ok()).collect()).collect();
    let counts: Vec<usize> = held.iter().map(Vec::len).collect();
    assert_eq!(counts[0], OPERATIONS_OF_ONE_MAX as usize);
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    assert!(counts[..14].iter().all(|count| *count > 0), "{counts:?}");
    assert!(counts.iter().sum::<usize>() <= OPERATIONS_MAX as usize);
}

#[test]
fn what_is_large_is_counted_in_bytes_until_it_is_taken() {
    let bench = Bench::new();
    let access = bench.access("a");
    let large = || Operation::Set(key("k"), vec![0; 1 << 20]);
    let most = BYTES_OF_ONE_MAX / ((1 << 20) + 1);
    let held: Vec<Pending> = (0..most).map(|_| access.submit(large()).unwrap()).collect();
    assert_eq!(access.submit(large()).unwrap_err(), Error::Busy);
    access.submit(get()).expect("small ones go");
    drop(held);
    assert_eq!(access.submit(large()).unwrap_err(), Error::Busy, "who gives up makes no room");
    while !bench.backend.lock().is_empty() {
        (bench.backend.reply())(Ok(Answer::Done));
    }
    // Answers that nobody has taken count, too.
    let value = || Ok(Answer::Value(Some(vec![0; 1 << 20])));
    let most = BYTES_OF_ONE_MAX >> 20;
    let mut held: Vec<Pending> = (0..=most).map(|_| access.submit(get()).unwrap()).collect();
    for _ in 0..=most {
        (bench.backend.reply())(value());
    }
    let is_busy = |pending: &mut Pending| match bench.poll(pending) {
        Poll::Ready(given) => given.is_err_and(|error| error == Error::Busy),
        Poll::Pending => panic!("it was answered"),
    };
    assert_eq!(held.iter_mut().filter_map(|pending| is_busy(pending).then_some(())).count(), 1);
    drop(held);
    assert_eq!(bench.service.all.bytes.load(Relaxed), 0);
}

#[test]
fn what_is_too_large_is_refused_at_once() {
    let bench = Bench::new();
    let access = bench.access("a");
    let large = Operation::Set(key("k"), vec![0; tidegate_store::kv::VALUE_BYTES_MAX + 1]);
    assert_eq!(access.submit(large).unwrap_err(), Error::TooLarge);
    assert!(bench.backend.lock().is_empty());
}

#[test]
fn a_request_says_whose_it_is_and_what_its_tenant_may_hold() {
    let bench = Bench::new();
    let tenant = Tenant::new("acme");
    let limits = crate::config::TenantLimits { kv_keys: Some(5), ..Default::default() };
    tenant.set_limits(&limits);
    let free = Tenant::new("free");
    let (shop, blog, other): (Arc<str>, Arc<str>, Arc<str>) = ("shop".into(), "blog".into(), "other".into());
    bench.service.settle(
        [(&shop, Some(&tenant)), (&blog, Some(&tenant)), (&other, None), (&"x".into(), Some(&free))]
            .into_iter()
            .map(|(app, tenant)| (app, tenant.map(|tenant| (&tenant.name, tenant.kv_limits())))),
    );
    let may = KvSettings { keys: 7, bytes: 9 };
    let pending = bench.service.access(&shop, Some("acme"), may).submit(get()).unwrap();
    let request = bench.backend.next();
    let quota = Quota { keys: 7, bytes: 9 };
    assert_eq!(*request.space, Space { name: "shop".into(), owner: "acme".into(), quota });
    let quota = Quota { keys: 5, bytes: u64::MAX };
    assert_eq!(*request.pool.unwrap(), Pool { quota, members: vec!["shop".into(), "blog".into()] });
    drop(pending);
    for (app, tenant) in [("other", None), ("x", Some("free"))] {
        let pending = bench.service.access(&app.into(), tenant, may).submit(get());
        assert!(bench.backend.next().pool.is_none(), "{app}");
        drop(pending);
    }
}

#[test]
fn apps_do_not_see_each_others_keys() {
    let service = Service::in_memory();
    let access = |app: &str| service.access(&app.into(), None, KvSettings::default());
    let (a, b) = (access("a"), access("b"));
    ask(&a, Operation::Set(key("k"), b"mine".to_vec())).unwrap();
    assert_eq!(ask(&b, get()), Ok(Answer::Value(None)));
    let list = Operation::List { prefix: "".into(), after: None };
    assert_eq!(ask(&b, list), Ok(Answer::Keys(Default::default())));
    ask(&b, Operation::Delete(key("k"))).unwrap();
    assert_eq!(ask(&access("a"), get()), Ok(Answer::Value(Some(b"mine".to_vec()))));
    assert_eq!(service.usage("a"), Ok(Usage { keys: 1, bytes: 5 }));
    service.remove("a").unwrap();
    // What still runs of the app that is gone has nothing any more, and leaves nothing for the next one of its name.
    assert_eq!(ask(&a, Operation::Set(key("k"), b"late".to_vec())), Err(Error::AccessDenied));
    assert_eq!(ask(&access("a"), get()), Ok(Answer::Value(None)));
}

#[test]
fn operations_are_counted_by_what_became_of_them() {
    let bench = Bench::new();
    let access = bench.access("a");
    let ended = |outcome| access.counted().total(Some(outcome));
    let answers = [
        (Ok(Answer::Done), KvOutcome::Ok),
        (Err(Error::QuotaBytes), KvOutcome::Quota),
        (Err(Error::NotANumber), KvOutcome::Invalid),
        (Err(Error::AccessDenied), KvOutcome::Denied),
        (Err(Error::DiskFull), KvOutcome::Failed),
    ];
    for (answer, outcome) in answers {
        let before = ended(outcome);
        let pending = access.submit(get()).unwrap();
        (bench.backend.reply())(answer);
        drop(pending);
        assert_eq!(ended(outcome), before + 1, "{outcome:?}");
    }
    let large = Operation::Set(key("k"), vec![0; tidegate_store::kv::VALUE_BYTES_MAX + 1]);
    assert_eq!(access.submit(large).unwrap_err(), Error::TooLarge);
    assert_eq!(ended(KvOutcome::Invalid), 2);
    // What never began is busy, and has not failed besides.
    let large = || Operation::Set(key("k"), vec![0; tidegate_store::kv::VALUE_BYTES_MAX]);
    while access.submit(large()).is_ok() {}
    assert_eq!((ended(KvOutcome::Busy), ended(KvOutcome::Failed)), (1, 1));
    let under_way = u64::from(access.under_way());
    assert_eq!(under_way, BYTES_OF_ONE_MAX as u64 / (tidegate_store::kv::VALUE_BYTES_MAX as u64 + 1));
    drop(std::mem::take(&mut *bench.backend.lock()));
    assert_eq!((access.under_way(), ended(KvOutcome::Failed)), (0, 1 + under_way));
    assert_eq!(access.counted().total(None), 7 + under_way);
}

/// Says what one app holds, and nothing of any other.
struct Teller(&'static str);

impl Backend for Teller {
    fn submit(&self, request: Request) {
        assert_eq!(request.operation, Operation::Usage);
        if *request.space.name == *self.0 {
            (request.reply)(Ok(Answer::Usage(Usage { keys: 2, bytes: 30 })));
        }
    }
}

#[test]
fn what_apps_hold_is_told_as_far_as_it_is_known() {
    let service = Service::over(Arc::new(Teller("b")), true);
    let access = |app: &str| service.access(&app.into(), None, KvSettings::default());
    let apps = [access("a"), access("b"), access("c")];
    assert_eq!(usages(&apps, PATIENCE), [None, Some(Usage { keys: 2, bytes: 30 }), None]);
    assert_eq!(apps[1].counted().total(None), 0, "the server's own looks are no operations of the app");
    // A backend that keeps who asks waiting.
    let bench = Bench::new();
    let stuck = [bench.access("a")];
    assert_eq!(usages(&stuck, Duration::from_millis(1)), [None]);
    // Looks do not pile up there for as long as it does so.
    for _ in 0..100 {
        assert_eq!(usages(&stuck, Duration::ZERO), [None]);
    }
    let waiting = std::mem::take(&mut *bench.backend.lock());
    assert_eq!(waiting.len(), count::LOOKS_MAX as usize);
    // Answered or not, those are over, and it is asked again.
    waiting.into_iter().take(3).for_each(|request| (request.reply)(Err(Error::Busy)));
    assert_eq!(usages(&stuck, Duration::ZERO), [None]);
    assert_eq!(bench.backend.lock().len(), 1);
}
