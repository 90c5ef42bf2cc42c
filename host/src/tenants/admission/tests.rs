//! Gates by themselves, and queues that are simulated: what is promised is held against what happens.

use super::*;

const LONG: Nanos = 1_000_000 * MS;
const NOW: Nanos = 1_000_000 * MS;

/// A request is over that took so long. True if others wait.
fn leave(gate: &Gate, now: Nanos, took: Nanos) -> bool {
    gate.end(now, took, true)
}

#[test]
fn requests_go_then_wait_then_are_shed() {
    let gate = Gate::new(1, 1);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Wait);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Shed { retry_after_s: 1 });
    assert_eq!(gate.enter_from_queue(), Err(Full::Own));
    assert!(leave(&gate, NOW, MS));
    assert_eq!(gate.enter_from_queue(), Ok(()));
    assert!(!leave(&gate, NOW, MS));
    assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
}

#[test]
fn limits_change_under_what_runs_and_waits() {
    let gate = Gate::new(2, 1);
    assert_eq!([gate.arrive(NOW, LONG), gate.arrive(NOW, LONG)], [Admission::Go; 2]);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Wait);
    gate.set_limits(1, 2);
    leave(&gate, NOW, MS);
    assert!(gate.enter_from_queue().is_err(), "one runs, and one may");
    assert_eq!(gate.arrive(NOW, LONG), Admission::Wait);
    gate.set_limits(3, 2);
    assert!(gate.enter_from_queue().is_ok() && gate.enter_from_queue().is_ok());
}

#[test]
fn nobody_overtakes_the_queue() {
    let gate = Gate::new(1, 2);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Wait);
    leave(&gate, NOW, MS);
    assert_eq!(gate.arrive(NOW, LONG), Admission::Wait);
}

#[test]
fn whoever_may_not_go_waits_although_there_is_room() {
    let gate = Gate::new(1, 1);
    assert_eq!(gate.wait(NOW, LONG, 0), Admission::Wait);
    assert_eq!(gate.counts(), (0, 1));
    assert_eq!(gate.wait(NOW, LONG, 0), Admission::Shed { retry_after_s: 1 });
    gate.leave_queue();
    assert_eq!(gate.wait(NOW, MS, 2_500 * MS), Admission::Shed { retry_after_s: 3 });
}

#[test]
fn a_request_that_could_not_be_answered_in_time_is_shed_at_once() {
    let gate = Gate::new(1, 100);
    for _ in 0..50 {
        assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
        leave(&gate, NOW, 10_000 * MS);
    }
    assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
    let Admission::Shed { retry_after_s } = gate.arrive(NOW, 100 * MS) else { panic!("not shed") };
    assert!((9..=11).contains(&retry_after_s), "{retry_after_s}");
    // After an hour that says nothing.
    let later = NOW + 3_600_000 * MS;
    assert_eq!(gate.arrive(later, 100 * MS), Admission::Wait);
}

#[test]
fn one_that_is_held_for_long_keeps_nobody_out() {
    // A stream of an hour among short ones.
    let gate = Gate::new(4, 100);
    for n in 0..100 {
        assert_eq!(gate.arrive(NOW, LONG), Admission::Go);
        leave(&gate, NOW, if n % 20 == 19 { 3_600_000 * MS } else { MS });
    }
    assert_eq!([(); 4].map(|()| gate.arrive(NOW, LONG)), [Admission::Go; 4]);
    assert_eq!(gate.arrive(NOW, 1_000 * MS), Admission::Wait);
}

fn two_below(running_max: u32, queued_max: u32) -> (Arc<Gate>, [Gate; 2]) {
    let above = Arc::new(Gate::new(running_max, queued_max));
    let apps = [(); 2].map(|()| Gate::new(2, 2).below(Some(Arc::clone(&above))));
    (above, apps)
}

#[test]
fn who_goes_has_room_in_both_gates() {
    let (above, [one, other]) = two_below(3, 3);
    assert_eq!([one.arrive(NOW, LONG), one.arrive(NOW, LONG)], [Admission::Go; 2]);
    assert_eq!(one.arrive(NOW, LONG), Admission::Wait, "its own is full");
    assert_eq!(other.arrive(NOW, LONG), Admission::Go);
    assert_eq!(other.arrive(NOW, LONG), Admission::Wait, "the one above is");
    assert_eq!(above.counts(), (3, 2));
    assert_eq!(one.enter_from_queue(), Err(Full::Own));
    assert_eq!(other.enter_from_queue(), Err(Full::Above));
    assert_eq!((one.counts(), other.counts()), ((2, 1), (1, 1)), "who is refused is counted nowhere");
    assert_eq!(one.arrive(NOW, LONG), Admission::Wait);
    assert!(matches!(one.arrive(NOW, LONG), Admission::Shed { .. }), "its own line is full");
    assert!(matches!(other.arrive(NOW, LONG), Admission::Shed { .. }), "the common one is");
    assert_eq!(other.counts(), (1, 1));

    // Room that one app makes is the other's, too; and whoever makes it says that somebody waits.
    assert!(leave(&one, NOW, MS));
    assert_eq!(other.enter_from_queue(), Ok(()));
    other.back_to_queue(NOW);
    assert_eq!((other.counts(), above.counts()), ((1, 1), (2, 3)));
    other.leave_queue();
    one.leave_queue();
    one.leave_queue();
    for gate in [&one, &other] {
        leave(gate, NOW, MS);
    }
    assert_eq!((above.counts(), above.lines.load(Ordering::Relaxed)), ((0, 0), 0));
}

#[test]
fn a_newcomer_of_one_app_does_not_overtake_the_line_of_another() {
    let (_, [one, other]) = two_below(1, 9);
    assert_eq!(one.arrive(NOW, LONG), Admission::Go);
    assert_eq!(one.arrive(NOW, LONG), Admission::Wait);
    assert_eq!(one.enter_from_queue(), Err(Full::Above));
    one.turn_away();
    leave(&one, NOW, MS);
    assert_eq!(other.arrive(NOW, LONG), Admission::Wait);
    assert_eq!(one.enter_from_queue(), Ok(()));
    one.let_in_again();
    // But a line that waits for its own gate stands in nobody's way.
    let (_, [one, other]) = two_below(9, 9);
    assert_eq!([(); 3].map(|()| one.arrive(NOW, LONG)), [Admission::Go, Admission::Go, Admission::Wait]);
    assert_eq!(one.enter_from_queue(), Err(Full::Own));
    assert_eq!(other.arrive(NOW, LONG), Admission::Go);
}

/// Numbers without any order, the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Of a mean, as times between things that have nothing to do with each other.
    fn around(&mut self, mean: Nanos) -> Nanos {
        let uniform = (self.next() % 1_000_000 + 1) as f64 / 1_000_001.0;
        (-uniform.ln() * mean as f64) as Nanos
    }
}

/// A simulated app: what it promised to each request that was refused or waited, and what came of it.
struct Simulation {
    gate: Gate,
    at_once: usize,
    /// How long a request may take to begin.
    left: Nanos,
    /// When those that run end, and how long they took.
    running: Vec<(Nanos, Nanos)>,
    /// When those that wait arrived, and what was promised.
    line: std::collections::VecDeque<(Nanos, Nanos)>,
    /// Waits as they were promised and as they were.
    waits: Vec<(Nanos, Nanos)>,
    shed: usize,
    too_late: usize,
}

impl Simulation {
    fn new(at_once: u32, left: Nanos) -> Self {
        let (gate, running, line, waits) =
            (Gate::new(at_once, 10_000), Vec::new(), Default::default(), Vec::new());
        Self { gate, at_once: at_once as usize, left, running, line, waits, shed: 0, too_late: 0 }
    }

    fn run(
        &mut self,
        requests: usize,
        gap: Nanos,
        numbers: &mut Numbers,
        service: impl Fn(&mut Numbers) -> Nanos,
    ) {
        let mut now = NOW;
        for _ in 0..requests {
            now += numbers.around(gap);
            self.advance(now, numbers, &service);
            let promised = self.gate.expected_wait(now).likely;
            match self.gate.arrive(now, self.left) {
                Admission::Go => self.begin(now, service(numbers)),
                Admission::Wait => self.line.push_back((now, promised)),
                Admission::Shed { retry_after_s } => {
                    self.shed += 1;
                    let least = promised.div_ceil(1_000 * MS);
                    assert!(u64::from(retry_after_s) >= least.min(120), "{retry_after_s} for {promised}");
                }
            }
        }
    }

    fn begin(&mut self, now: Nanos, takes: Nanos) {
        self.running.push((now + takes, takes));
        assert!(self.running.len() <= self.at_once);
    }

    /// What ends until `now` makes room for what waits.
    fn advance(&mut self, now: Nanos, numbers: &mut Numbers, service: &impl Fn(&mut Numbers) -> Nanos) {
        loop {
            let next = self.running.iter().enumerate().min_by_key(|(_, (end, _))| *end);
            let Some((at, &(end, took))) = next.filter(|(_, (end, _))| *end <= now) else { return };
            self.running.swap_remove(at);
            leave(&self.gate, end, took);
            while let Some((arrived, promised)) = self.line.pop_front() {
                if end - arrived > self.left {
                    // It gave up long ago.
                    self.gate.leave_queue();
                    self.too_late += 1;
                    continue;
                }
                self.gate.enter_from_queue().unwrap();
                self.gate.moved(end);
                self.waits.push((promised, end - arrived));
                let takes = service(numbers);
                self.begin(end, takes);
                break;
            }
        }
    }

    /// The median of how far promises were off, in hundredths of what really happened.
    fn off_percent(&self) -> u64 {
        let mut off: Vec<u64> = self
            .waits
            .iter()
            .filter(|(_, was)| *was > 0)
            .map(|(promised, was)| promised.abs_diff(*was) * 100 / was)
            .collect();
        off.sort_unstable();
        off[off.len() / 2]
    }
}

/// A kind of requests: how long one takes, how long they take in the mean, and how many run at once.
struct Kind {
    name: &'static str,
    service: fn(&mut Numbers) -> Nanos,
    mean: Nanos,
    at_once: &'static [u32],
}

/// Requests that take the same, that differ at random, that are of two kinds, and some that hold their place for long.
const KINDS: [Kind; 4] = [
    Kind { name: "the same", service: |_| 10 * MS, mean: 10 * MS, at_once: &[1, 4, 64] },
    Kind {
        name: "at random",
        service: |numbers| numbers.around(10 * MS),
        mean: 10 * MS,
        at_once: &[1, 4, 64],
    },
    Kind {
        name: "two kinds",
        service: |numbers| if numbers.next().is_multiple_of(10) { 91 * MS } else { MS },
        mean: 10 * MS,
        at_once: &[1, 4, 64],
    },
    // These take places for longer than this lasts, and so few of them that the others go on.
    Kind {
        name: "streams",
        service: |numbers| if numbers.next().is_multiple_of(400) { 3_600_000 * MS } else { 10 * MS },
        mean: 10 * MS,
        at_once: &[64],
    },
];

#[test]
fn what_is_promised_is_what_happens() {
    for (Kind { name, service, mean, at_once }, seed) in KINDS.iter().zip(1..) {
        for at_once in *at_once {
            // One and a half times what can be served, for a while: the line grows as it does.
            let mut simulation = Simulation::new(*at_once, LONG);
            let gap = mean / u64::from(*at_once) * 2 / 3;
            simulation.run(4_000, gap, &mut Numbers(seed), service);
            let off = simulation.off_percent();
            let allowed = if *name == "the same" { 20 } else { 75 };
            assert!(off <= allowed, "{name}, {at_once} at once: off by {off} %");
            assert_eq!((simulation.shed, simulation.too_late), (0, 0));
        }
    }
}

#[test]
fn what_can_not_be_in_time_is_shed_and_what_can_is_not() {
    for (Kind { name, service, mean, at_once }, seed) in KINDS.iter().zip(11..) {
        for at_once in *at_once {
            // Twice what can be served: about half is shed, and few wait in vain.
            let gap = mean / u64::from(*at_once) / 2;
            let mut simulation = Simulation::new(*at_once, 20 * mean);
            simulation.run(8_000, gap, &mut Numbers(seed), service);
            let (served, shed, in_vain) = (simulation.waits.len(), simulation.shed, simulation.too_late);
            let told = format!("{name}, {at_once} at once: {served} waited, {in_vain} in vain, {shed} shed");
            assert!(served > 2_500 && shed > 2_000 && in_vain * 4 < served, "{told}");
            // Nobody is shed who has all the time there is.
            let mut patient = Simulation::new(*at_once, LONG);
            patient.run(1_000, gap, &mut Numbers(seed), service);
            assert_eq!(patient.shed, 0, "{told}");
        }
    }
}

#[test]
fn a_line_that_stands_is_not_promised_to_move() {
    let gate = Gate::new(1, 1_000);
    let mut now = NOW;
    assert_eq!(gate.arrive(now, LONG), Admission::Go);
    for _ in 0..100 {
        assert_eq!(gate.arrive(now, LONG), Admission::Wait);
    }
    for _ in 0..50 {
        now += MS;
        leave(&gate, now, MS);
        gate.enter_from_queue().unwrap();
        gate.moved(now);
    }
    let before = gate.expected_wait(now).likely;
    assert!((45 * MS..60 * MS).contains(&before), "{before}");
    let stands = gate.expected_wait(now + 5_000 * MS).likely;
    assert!(stands > 5_000 * MS, "{stands}");
}
