//! Any row of operations against maps in memory, over restarts: the same answers, the same counts.

use std::collections::BTreeMap;

use super::*;

/// A small generator of numbers: the same seed gives the same row.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

type Map = BTreeMap<Key, Vec<u8>>;

fn used(map: &Map) -> Usage {
    let bytes = map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
    Usage { keys: map.len() as u64, bytes }
}

/// What has to be answered, said in the plainest way.
fn expected(map: &mut Map, quota: Quota, operation: &Operation) -> Result<Answer, Error> {
    let before = map.clone();
    let answer = match operation {
        Operation::Get(key) => Answer::Value(map.get(key).cloned()),
        Operation::Exists(key) => Answer::Found(map.contains_key(key)),
        Operation::GetMany(keys) => Answer::Values(keys.iter().map(|key| map.get(key).cloned()).collect()),
        Operation::List { prefix, after } => {
            let is_behind = |key: &&Key| after.as_ref().is_none_or(|after| *key > after);
            let keys = map.keys().filter(|key| key.starts_with(&**prefix)).filter(is_behind).cloned();
            Answer::Keys(Page { keys: keys.collect(), more: false })
        }
        Operation::Usage => Answer::Usage(used(map)),
        Operation::RemoveSpace => {
            map.clear();
            Answer::Done
        }
        Operation::Set(key, value) => {
            map.insert(key.clone(), value.clone());
            Answer::Done
        }
        Operation::SetMany(pairs) => {
            map.extend(pairs.iter().cloned());
            Answer::Done
        }
        Operation::Delete(key) => {
            map.remove(key);
            Answer::Done
        }
        Operation::DeleteMany(keys) => {
            keys.iter().for_each(|key| drop(map.remove(key)));
            Answer::Done
        }
        Operation::Increment(key, delta) => {
            let text = map.get(key).map_or("0", |value| std::str::from_utf8(value).unwrap_or("x"));
            let sum = text.parse::<i64>().map_err(|_| Error::NotANumber)?;
            let sum = sum.checked_add(*delta).ok_or(Error::Overflow)?;
            map.insert(key.clone(), sum.to_string().into_bytes());
            Answer::Number(sum)
        }
        Operation::Swap { key, old, new } => {
            let fits = map.get(key) == old.as_ref();
            match new {
                Some(new) if fits => drop(map.insert(key.clone(), new.clone())),
                None if fits => drop(map.remove(key)),
                _ => {}
            }
            Answer::Found(fits)
        }
    };
    let (was, is) = (used(&before), used(map));
    let error = match () {
        () if is.keys > was.keys && is.keys > quota.keys => Error::QuotaKeys,
        () if is.bytes > was.bytes && is.bytes > quota.bytes => Error::QuotaBytes,
        () => return Ok(answer),
    };
    *map = before;
    Err(error)
}

fn any_operation(dice: &mut Dice) -> Operation {
    let key = |dice: &mut Dice| {
        Key::new(&format!("{}{}", ["a", "a/", "b"][dice.below(3) as usize], dice.below(6))).unwrap()
    };
    let value = |dice: &mut Dice| match dice.below(3) {
        0 => dice.below(100).to_string().into_bytes(),
        1 => vec![b'x'; dice.below(40) as usize],
        _ => Vec::new(),
    };
    let maybe = |dice: &mut Dice| (dice.below(2) == 0).then(|| value(dice));
    let keys = |dice: &mut Dice| (0..dice.below(5)).map(|_| key(dice)).collect();
    match dice.below(15) {
        0 => Operation::Get(key(dice)),
        1 => Operation::Exists(key(dice)),
        2 => Operation::GetMany(keys(dice)),
        3 => Operation::List {
            prefix: ["", "a", "a/", "b"][dice.below(4) as usize].into(),
            after: (dice.below(2) == 0).then(|| key(dice)),
        },
        4..=6 => Operation::Set(key(dice), value(dice)),
        7 => Operation::SetMany((0..dice.below(5)).map(|_| (key(dice), value(dice))).collect()),
        8 | 9 => Operation::Delete(key(dice)),
        10 => Operation::DeleteMany(keys(dice)),
        11 => Operation::Increment(key(dice), dice.below(200) as i64 - 100),
        12 | 13 => Operation::Swap { key: key(dice), old: maybe(dice), new: maybe(dice) },
        _ if dice.below(10) == 0 => Operation::RemoveSpace,
        _ => Operation::Usage,
    }
}

#[test]
fn any_row_of_operations_does_what_maps_do() {
    for seed in 1..=20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv.redb");
        let mut dice = Dice::new(seed);
        let names = ["one", "two", "twofold"];
        let spaces = names.map(|name| space_of(name, "", 8, 150));
        let mut maps: [Map; 3] = Default::default();
        let mut backend = Embedded::file(&path);
        for step in 0..150 {
            if dice.below(40) == 0 {
                backend = {
                    drop(backend);
                    Embedded::file(&path)
                };
            }
            let which = dice.below(3) as usize;
            let operation = any_operation(&mut dice);
            let shown = format!("seed {seed}, step {step}: {operation:?} on {}", names[which]);
            let wanted = expected(&mut maps[which], spaces[which].quota, &operation);
            assert_eq!(run(&backend, &spaces[which], operation), wanted, "{shown}");
        }
        for (name, map) in names.iter().zip(&maps) {
            assert_eq!(backend.usage(name), Ok(used(map)), "seed {seed}: {name}");
        }
    }
}
