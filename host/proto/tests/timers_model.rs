//! The timer wheel against a naive model: a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_proto::timers::{TimerId, Wheel};

#[derive(Clone, Debug)]
enum Step {
    /// Milliseconds from now; negative ones have passed.
    Insert(i64),
    /// Which of all ids ever given, stale ones too.
    Cancel(prop::sample::Index),
    Advance(u64),
    /// To where `next_at` says, as a loop does.
    AdvanceToNext,
}

fn a_distance() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..5_u64,
        4 => 0..130_u64,
        3 => 4000..4200_u64,
        3 => 0..70_000_u64,
        2 => 0..20_000_000_u64,
        1 => 0..(1_u64 << 45),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => a_distance().prop_map(|ms| Step::Insert(ms.cast_signed())),
        1 => (-100..1_i64).prop_map(Step::Insert),
        4 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        3 => a_distance().prop_map(Step::Advance),
        4 => Just(Step::AdvanceToNext),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn it_agrees_with_a_sorted_map(start in 0..300_000_u64, steps in prop::collection::vec(a_step(), 1..150)) {
        let mut now = start;
        let mut wheel = Wheel::new(now);
        // By deadline, then by the order they were set: the order in which they fire.
        let mut model: BTreeMap<(u64, u64), ()> = BTreeMap::new();
        let mut given: Vec<(TimerId, (u64, u64))> = Vec::new();
        let mut fired = Vec::new();
        for step in steps {
            let target = match step {
                Step::Insert(ms) => {
                    let at = now.saturating_add_signed(ms);
                    let key = (at, given.len() as u64);
                    given.push((wheel.insert(at, key.1), key));
                    model.insert(key, ());
                    None
                }
                Step::Cancel(which) => {
                    if !given.is_empty() {
                        let (id, key) = given[which.index(given.len())];
                        prop_assert_eq!(wheel.cancel(id), model.remove(&key).is_some());
                    }
                    None
                }
                Step::Advance(ms) => Some(now + ms),
                Step::AdvanceToNext => wheel.next_at(),
            };
            if let Some(target) = target {
                now = now.max(target);
                fired.clear();
                wheel.advance(target, &mut fired);
                let later = model.split_off(&(now + 1, 0));
                let expected: Vec<u64> = std::mem::replace(&mut model, later).into_keys().map(|key| key.1).collect();
                prop_assert_eq!(&fired, &expected);
                prop_assert_eq!(wheel.now_ms(), now);
            }
            prop_assert_eq!(wheel.len(), model.len());
            prop_assert_eq!(wheel.is_empty(), model.is_empty());
            match (wheel.next_at(), model.keys().next()) {
                (None, None) => {}
                (Some(next), Some((at, _))) => prop_assert!(next <= *at, "{} is after {}", next, at),
                (next, first) => prop_assert!(false, "{:?} beside {:?}", next, first),
            }
        }
        // Going from one `next_at` to the next always ends: each step fires something or brings it a level down.
        let mut turns = 0;
        while let Some(next) = wheel.next_at() {
            wheel.advance(next, &mut fired);
            turns += 1;
            prop_assert!(turns <= given.len() * 12 + 1);
        }
    }
}
