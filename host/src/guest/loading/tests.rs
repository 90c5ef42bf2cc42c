//! Loading and eviction without a server: workers are numbers, and a wake is a message.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::residency::Residency;
use super::slot::CodeSource;
use super::*;
use crate::clock::Clock;
use crate::config::{AppLimits, Instances, ServerSettings, StateFolder};
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::engine::{self, Mode};
use crate::guest::program::{Facts, Linkers, Spec, Wants};

const PATIENCE: Duration = Duration::from_secs(30);

/// A module that nobody else has.
fn module(number: usize) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{number}")
            (func (export "tidegate_handle") (result i32) i32.const 0))"#
    );
    wat::parse_str(text).unwrap()
}

/// Where a test's modules are. What it answers, and how often it was asked.
#[derive(Default)]
struct Shelf {
    modules: Mutex<HashSet<Vec<u8>>>,
    asked: AtomicU64,
    /// Whoever reads waits for this first.
    gate: Mutex<Option<Receiver<()>>>,
}

struct From {
    shelf: Arc<Shelf>,
    wasm: Vec<u8>,
}

impl CodeSource for From {
    fn wasm(&self) -> anyhow::Result<Vec<u8>> {
        self.shelf.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &*self.shelf.gate.lock().unwrap() {
            gate.recv_timeout(PATIENCE).unwrap();
        }
        let modules = self.shelf.modules.lock().unwrap();
        modules.get(&self.wasm).cloned().ok_or_else(|| anyhow::anyhow!("the shelf is empty"))
    }
}

struct Bench {
    loader: Arc<Loader>,
    loading: Loading,
    woken: Receiver<u16>,
    shelf: Arc<Shelf>,
    folder: tempfile::TempDir,
    _reaper: Receiver<Box<dyn Send>>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::At(folder.path().join("state"));
        let cache = Cache::of(&ServerSettings { state, ..ServerSettings::default() });
        assert!(cache.keeps());
        let engine = engine::serving(Mode::Production).unwrap();
        let loader = Arc::new(Loader {
            linkers: Linkers::new(&engine),
            engine,
            compiler: Compiler::in_process(Mode::Production),
            cache,
            clock: Clock::start(),
            file_threads: Default::default(),
            residency: Arc::default(),
        });
        let (reaper, garbage) = channel();
        let (wake, woken): (Sender<u16>, _) = channel();
        // A test that ends listens no more.
        let one = move |worker| {
            let _ = wake.send(worker);
        };
        let loading = Loading::new(Arc::clone(&loader), reaper, one, || {});
        Self { loader, loading, woken, shelf: Arc::default(), folder, _reaper: garbage }
    }

    fn spec(name: &str) -> Spec {
        Spec {
            name: name.into(),
            limits: AppLimits::default(),
            instances: Instances::Fresh,
            env: Vec::new(),
            mounts: Vec::new(),
            kv: None,
            wants: Wants { http: true, ..Wants::default() },
        }
    }

    fn source(&self, wasm: &[u8]) -> Arc<dyn CodeSource> {
        self.shelf.modules.lock().unwrap().insert(wasm.to_vec());
        Arc::new(From { shelf: Arc::clone(&self.shelf), wasm: wasm.to_vec() })
    }

    fn facts(&self, wasm: &[u8]) -> Facts {
        self.loader.load(wasm, &blake3::hash(wasm), Self::spec("facts")).unwrap().facts
    }

    /// A cold program whose code the cache has.
    fn cached(&self, number: usize) -> Program {
        let wasm = module(number);
        let facts = self.facts(&wasm);
        self.cold(number, facts)
    }

    fn cold(&self, number: usize, facts: Facts) -> Program {
        let wasm = module(number);
        let (hash, source) = (blake3::hash(&wasm), self.source(&wasm));
        self.loader.cold(&hash, facts, source, Self::spec(&format!("app-{number}"))).unwrap()
    }

    /// A cold program that is to be compiled.
    fn uncached(&self, number: usize) -> Program {
        let facts = self.facts(&module(0));
        self.cold(number, facts)
    }

    fn now(&self) -> u64 {
        self.loader.clock.now()
    }

    fn ask(&self, program: &Program) -> Result<Arc<Code>, NoCode> {
        self.loading.code(program, 0, self.now())
    }

    fn woken(&self) -> u16 {
        self.woken.recv_timeout(PATIENCE).expect("a worker is woken")
    }

    /// Asks for the code, and waits for it.
    fn fetch(&self, program: &Program) -> Arc<Code> {
        match self.ask(program) {
            Ok(code) => code,
            Err(NoCode::Loading) => {
                self.woken();
                self.ask(program).expect("the code is there when a worker is woken")
            }
            Err(NoCode::Failed(failure)) => panic!("{failure}"),
        }
    }

    fn residency(&self) -> &Residency {
        &self.loader.residency
    }

    /// Waits for what the threads that load have yet to do: they wake whoever waits before they evict.
    fn until(&self, what: &str, done: impl Fn(&Residency) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !done(self.residency()) {
            assert!(Instant::now() < give_up, "{what}: {:?}", self.residency());
            thread::yield_now();
        }
    }

    fn entries(&self) -> Vec<std::path::PathBuf> {
        let modules = self.folder.path().join("state/modules");
        std::fs::read_dir(modules).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn a_cold_program_is_loaded_from_the_cache_and_whoever_waits_is_woken() {
    let bench = Bench::new();
    let program = bench.cached(1);
    assert!(program.code().is_none() && program.serves_http() && program.cost == 1);
    assert!(matches!(bench.ask(&program), Err(NoCode::Loading)));
    assert_eq!(bench.woken(), 0);
    assert!(bench.ask(&program).is_ok());
    assert_eq!(bench.loading.counts(), (1, 0));
    assert_eq!(bench.shelf.asked.load(Ordering::SeqCst), 0, "the cache has all that is needed");
}

#[test]
fn many_that_ask_at_once_load_it_once() {
    let bench = Bench::new();
    let program = bench.uncached(1);
    let (open, gate) = channel();
    *bench.shelf.gate.lock().unwrap() = Some(gate);
    thread::scope(|scope| {
        for worker in 0..16 {
            let (loading, program, now) = (&bench.loading, &program, bench.now());
            scope.spawn(move || {
                for _ in 0..100 {
                    assert!(matches!(loading.code(program, worker, now), Err(NoCode::Loading)));
                }
            });
        }
    });
    open.send(()).unwrap();
    let woken: HashSet<u16> = (0..16).map(|_| bench.woken()).collect();
    assert_eq!(woken.len(), 16);
    assert!(bench.woken.try_recv().is_err());
    assert_eq!((bench.loading.counts(), bench.shelf.asked.load(Ordering::SeqCst)), ((1, 0), 1));
    assert!(bench.ask(&program).is_ok());
}

#[test]
fn what_is_compiled_holds_up_nothing_that_is_cached() {
    let bench = Bench::new();
    let slow: Vec<Program> = (1..6).map(|number| bench.uncached(number)).collect();
    let quick = bench.cached(10);
    let (open, gate) = channel();
    *bench.shelf.gate.lock().unwrap() = Some(gate);
    for (worker, program) in slow.iter().enumerate() {
        let asked = bench.loading.code(program, 10 + worker as u16, bench.now());
        assert!(matches!(asked, Err(NoCode::Loading)));
    }
    bench.fetch(&quick);
    assert!(slow.iter().all(|program| program.code().is_none()));
    slow.iter().for_each(|_| open.send(()).unwrap());
    let woken: HashSet<u16> = slow.iter().map(|_| bench.woken()).collect();
    assert_eq!(woken, (10..15).collect());
}

#[test]
fn a_load_that_fails_is_told_with_its_reason_and_tried_again_later() {
    let bench = Bench::new();
    let program = bench.uncached(1);
    let wasm = module(1);
    bench.shelf.modules.lock().unwrap().remove(&wasm);
    assert!(matches!(bench.ask(&program), Err(NoCode::Loading)));
    bench.woken();
    let Err(NoCode::Failed(failure)) = bench.ask(&program) else { panic!("it did not fail") };
    assert!(failure.reason.contains("the shelf is empty"), "{failure}");
    assert_eq!(failure.retry_after_s, 1);
    assert_eq!(bench.loading.counts(), (0, 1), "it is not tried at once");
    // It is there again, and the wait is over.
    let later = bench.now() + 2_000 * MS;
    bench.source(&wasm);
    assert!(matches!(bench.loading.code(&program, 7, later), Err(NoCode::Loading)));
    assert_eq!(bench.woken(), 7);
    assert!(bench.loading.code(&program, 7, later).is_ok());
    assert_eq!(bench.loading.counts(), (1, 1));
}

#[test]
fn another_module_under_the_same_name_is_not_taken() {
    struct Other;
    impl CodeSource for Other {
        fn wasm(&self) -> anyhow::Result<Vec<u8>> {
            Ok(module(99))
        }
    }
    let bench = Bench::new();
    let facts = bench.facts(&module(0));
    let program =
        bench.loader.cold(&blake3::hash(&module(1)), facts, Arc::new(Other), Bench::spec("app")).unwrap();
    assert!(matches!(bench.ask(&program), Err(NoCode::Loading)));
    bench.woken();
    let Err(NoCode::Failed(failure)) = bench.ask(&program) else { panic!("it did not fail") };
    assert!(failure.reason.contains("deploy it again"), "{failure}");
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let bench = Bench::new();
    let program = bench.cached(1);
    let entries = bench.entries();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let mut bytes = std::fs::read(entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(entry, bytes).unwrap();
    bench.fetch(&program);
    assert_eq!(bench.shelf.asked.load(Ordering::SeqCst), 1);
    // And kept again.
    let again = bench.cached(1);
    bench.fetch(&again);
    assert_eq!(bench.shelf.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_program_that_goes_while_it_is_waited_for_is_forgotten() {
    let bench = Bench::new();
    let (first, second, third) = (bench.uncached(1), bench.uncached(2), bench.uncached(3));
    let (open, gate) = channel();
    *bench.shelf.gate.lock().unwrap() = Some(gate);
    for program in [&first, &second, &third] {
        assert!(matches!(bench.ask(program), Err(NoCode::Loading)));
    }
    drop(third);
    (0..2).for_each(|_| open.send(()).unwrap());
    (0..2).for_each(|_| assert_eq!(bench.woken(), 0));
    *bench.shelf.gate.lock().unwrap() = None;
    bench.fetch(&bench.uncached(4));
    assert_eq!(bench.loading.counts(), (3, 0));
}

#[test]
fn what_was_not_used_for_longest_goes_and_what_runs_stays() {
    let bench = Bench::new();
    let programs: Vec<Program> = (1..=4).map(|number| bench.cached(number)).collect();
    let loaded = || programs.iter().map(|program| program.slot.is_loaded()).collect::<Vec<_>>();
    bench.residency().set_max(3);
    let oldest = bench.fetch(&programs[0]);
    drop(bench.fetch(&programs[1]));
    drop(bench.fetch(&programs[2]));
    assert_eq!(loaded(), [true, true, true, false]);
    drop(bench.fetch(&programs[3]));
    // Somebody has the oldest: its idle instances are called for, and the next one goes. What counts evictions moves
    // last; nobody looks at the code before, because who looks at it has it.
    bench.until("one goes", |residency| residency.evictions() == 1);
    assert_eq!(loaded(), [true, false, true, true]);
    assert!(programs[0].slot.is_leaving());
    assert_eq!(bench.residency().calls(), 1);
    drop(oldest);
    assert!(bench.loading.shed(2));
    assert_eq!(loaded(), [false, false, true, true]);
    assert_eq!((bench.residency().count(), bench.residency().evictions()), (2, 2));
    // It comes back as it went.
    drop(bench.fetch(&programs[0]));
    assert_eq!(loaded(), [true, false, true, true]);
    assert_eq!(bench.shelf.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn what_was_loaded_for_somebody_waits_for_him() {
    let bench = Bench::new();
    bench.residency().set_max(1);
    let programs: Vec<Program> = (1..=3).map(|number| bench.cached(number)).collect();
    for program in &programs {
        assert!(matches!(bench.ask(program), Err(NoCode::Loading)));
    }
    programs.iter().for_each(|_| assert_eq!(bench.woken(), 0));
    assert!(!bench.loading.shed(0), "nobody has come for them yet");
    for program in &programs {
        assert!(bench.ask(program).is_ok());
    }
    // Whoever loaded the last of them may do it, or this does.
    bench.loading.shed(1);
    bench.until("two go", |residency| residency.evictions() == 2);
    assert_eq!(programs.iter().filter(|program| program.slot.is_loaded()).count(), 1);
}

#[test]
fn what_can_not_be_loaded_again_stays() {
    let bench = Bench::new();
    let wasm = module(1);
    let program = bench.loader.load(&wasm, &blake3::hash(&wasm), Bench::spec("app")).unwrap();
    assert_eq!(bench.residency().count(), 0);
    assert!(!bench.loading.shed(0) && program.slot.is_loaded());
    let source = bench.source(&wasm);
    let program =
        bench.loader.load_from(&wasm, &blake3::hash(&wasm), Bench::spec("app"), source, &mut |_| {}).unwrap();
    assert_eq!(bench.residency().count(), 1);
    assert!(bench.loading.shed(0) && !program.slot.is_loaded());
    bench.fetch(&program);
}

#[test]
fn programs_that_go_are_not_counted() {
    let bench = Bench::new();
    let kept = bench.cached(1);
    bench.fetch(&kept);
    for number in 2..40 {
        bench.fetch(&bench.cached(number));
    }
    // Whoever loaded the last one may still have it.
    bench.until("they go", |residency| residency.count() == 1);
    assert!(bench.residency().slots() < 10, "{}", bench.residency().slots());
}

#[test]
fn code_that_is_evicted_under_a_call_goes_with_it() {
    let bench = Bench::new();
    let program = bench.cached(1);
    let code = bench.fetch(&program);
    assert!(program.slot.evict().is_none(), "somebody has it");
    assert!(program.slot.is_loaded());
    let gone = Arc::downgrade(&code);
    drop(code);
    drop(program.slot.evict().expect("nobody has it"));
    assert!(gone.upgrade().is_none());
}
