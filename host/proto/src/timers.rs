//! A hierarchical timer wheel with ticks of one millisecond.
//!
//! It knows no clock: time comes in as milliseconds since whatever instant the caller counts from. A deadline stands
//! in the level of the highest base-64 digit in which it differs from the wheel's time, in the slot of its own digit
//! there. So every occupied slot lies ahead of the wheel's time, nothing wraps around, and the first occupied slot of
//! the lowest occupied level is the next one due: a jump of hours costs as much as what it passes, not as its length.
//!
//! Invariants:
//! - a timer fires at its deadline or later, never before, and exactly once unless cancelled;
//! - timers that fire in one call come in the order of their deadlines, equal ones in the order they were set;
//! - an id names one timer for ever: once it fired or was cancelled the id is stale, and says so.

use core::num::NonZeroU32;

/// Bits of a deadline that one level looks at.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const DIGIT_MASK: u64 = SLOTS as u64 - 1;
/// Enough for any `u64`: 11 x 6 bits.
const LEVELS: usize = 11;
/// The list of timers whose deadline had passed when they were set: the one after all slots.
const DUE: u16 = 704;
/// Where a node stands that holds no timer.
const FREE: u16 = u16::MAX;
/// The end of a list.
const NIL: u32 = u32::MAX;

const _: () = assert!(DUE as usize == LEVELS * SLOTS);

/// Names one timer of one wheel. Stale once the timer fired or was cancelled. `Option<TimerId>` takes 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

/// One timer, 32 bytes for a key of eight. The nodes of a slot form a ring: the first one's `previous` is the last.
#[derive(Debug)]
struct Node<K> {
    at_ms: u64,
    key: K,
    next: u32,
    previous: u32,
    generation: NonZeroU32,
    place: u16,
}

/// The timers of one worker. `K` is what comes back when a timer fires.
#[derive(Debug)]
pub struct Wheel<K: Copy> {
    nodes: Vec<Node<K>>,
    /// The first free node; free nodes are linked by `next`.
    free: u32,
    /// The first node of each slot, levels one after the other, and of the list of what is due.
    firsts: [u32; LEVELS * SLOTS + 1],
    /// One bit per occupied slot.
    occupied: [u64; LEVELS],
    /// Every timer up to here has fired, apart from those in the list of what is due.
    now_ms: u64,
    /// No timer in the list of what is due has an earlier deadline.
    due_floor_ms: u64,
    len: usize,
    /// Used while the list of what is due is put in order; empty between calls.
    scratch: Vec<(u64, K)>,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel whose time is `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self {
            nodes: Vec::new(),
            free: NIL,
            firsts: [NIL; LEVELS * SLOTS + 1],
            occupied: [0; LEVELS],
            now_ms,
            due_floor_ms: u64::MAX,
            len: 0,
            scratch: Vec::new(),
        }
    }

    /// Timers set and not yet fired.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The time of the last [`Wheel::advance`].
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Sets a timer for `at_ms`. One that has passed already fires at the next [`Wheel::advance`].
    pub fn insert(&mut self, at_ms: u64, key: K) -> TimerId {
        let (index, generation) = self.allocate(at_ms, key);
        if at_ms <= self.now_ms {
            self.due_floor_ms = self.due_floor_ms.min(at_ms);
            self.link(DUE, index);
        } else {
            self.place(index, at_ms);
        }
        self.len = self.len.saturating_add(1);
        TimerId { index, generation }
    }

    /// Takes a timer back. False when it fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let current =
            self.node(id.index).is_some_and(|node| node.place != FREE && node.generation == id.generation);
        if current {
            self.unlink(id.index);
            self.release(id.index);
        }
        current
    }

    /// Moves the time forward and appends the keys of all timers whose deadline is at or before it. A time before the
    /// wheel's own counts as the wheel's own.
    ///
    /// Takes time for each timer that fires and, over a timer's whole life, for each level it comes down through.
    pub fn advance(&mut self, now_ms: u64, fired: &mut Vec<K>) {
        self.fire_due(fired);
        while let Some((level, slot, start_ms)) = self.next_slot() {
            if start_ms > now_ms {
                break;
            }
            self.now_ms = start_ms;
            let mut index = self.take_slot(level, slot);
            while let Some((at_ms, key, next)) =
                self.node(index).map(|node| (node.at_ms, node.key, node.next))
            {
                if at_ms <= start_ms {
                    fired.push(key);
                    self.release(index);
                } else {
                    self.place(index, at_ms);
                }
                index = next;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// When to call [`Wheel::advance`] next: the earliest deadline or a time before it, never a later one. None when
    /// no timer is set.
    pub fn next_at(&self) -> Option<u64> {
        if self.first(DUE) != NIL {
            return Some(self.due_floor_ms);
        }
        self.next_slot().map(|(_, _, start_ms)| start_ms)
    }

    /// Fires what was set with a deadline already passed. Those all come before anything in a slot.
    fn fire_due(&mut self, fired: &mut Vec<K>) {
        let mut index = self.first(DUE);
        if index == NIL {
            return;
        }
        self.set_first(DUE, NIL);
        self.due_floor_ms = u64::MAX;
        let mut scratch = core::mem::take(&mut self.scratch);
        // The ring is open at its end: the last node's `next` is NIL.
        while let Some((at_ms, key, next)) = self.node(index).map(|node| (node.at_ms, node.key, node.next)) {
            scratch.push((at_ms, key));
            self.release(index);
            index = next;
        }
        // Stable, so that equal deadlines stay in the order they were set.
        scratch.sort_by_key(|(at_ms, _)| *at_ms);
        fired.extend(scratch.drain(..).map(|(_, key)| key));
        self.scratch = scratch;
    }

    /// The next occupied slot, and the first millisecond that belongs to it.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, bits) = self.occupied.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        let slot = bits.trailing_zeros();
        let shift = shift_of(level);
        let above = self.now_ms.checked_shr(shift.saturating_add(DIGIT_BITS)).unwrap_or(0);
        let prefix = above.checked_shl(shift.saturating_add(DIGIT_BITS)).unwrap_or(0);
        let start_ms = prefix | u64::from(slot).checked_shl(shift).unwrap_or(0);
        Some((level, slot as usize, start_ms))
    }

    /// Puts a node into the slot of a deadline that lies ahead.
    fn place(&mut self, index: u32, at_ms: u64) {
        let different = (at_ms ^ self.now_ms) | 1;
        let level = different.ilog2().wrapping_div(DIGIT_BITS) as usize;
        // A digit of base 64: it fits whatever it is converted to.
        let digit = at_ms.checked_shr(shift_of(level)).unwrap_or(0) & DIGIT_MASK;
        let slot = usize::try_from(digit).unwrap_or(0);
        if let Some(bits) = self.occupied.get_mut(level) {
            *bits |= bit_of(slot);
        }
        self.link(place_of(level, slot), index);
    }

    /// Empties a slot and gives its first node; the nodes stay linked by `next`.
    fn take_slot(&mut self, level: usize, slot: usize) -> u32 {
        self.vacate(level, slot);
        let place = place_of(level, slot);
        let first = self.first(place);
        self.set_first(place, NIL);
        first
    }

    fn vacate(&mut self, level: usize, slot: usize) {
        if let Some(bits) = self.occupied.get_mut(level) {
            *bits &= !bit_of(slot);
        }
    }

    /// Appends a node to the list of a place.
    fn link(&mut self, place: u16, index: u32) {
        let first = self.first(place);
        let last = if first == NIL { index } else { self.node(first).map_or(index, |node| node.previous) };
        if let Some(node) = self.node_mut(index) {
            node.place = place;
            node.next = NIL;
            node.previous = last;
        }
        if first == NIL {
            self.set_first(place, index);
            return;
        }
        if let Some(node) = self.node_mut(last) {
            node.next = index;
        }
        if let Some(node) = self.node_mut(first) {
            node.previous = index;
        }
    }

    /// Takes a node out of the list it stands in.
    fn unlink(&mut self, index: u32) {
        let Some((place, next, previous)) =
            self.node(index).map(|node| (node.place, node.next, node.previous))
        else {
            return;
        };
        let first = self.first(place);
        if first == index {
            self.set_first(place, next);
            if let Some(node) = self.node_mut(next) {
                node.previous = previous;
            } else if place != DUE {
                let place = usize::from(place);
                self.vacate(place.wrapping_div(SLOTS), place % SLOTS);
            }
            return;
        }
        if let Some(node) = self.node_mut(previous) {
            node.next = next;
        }
        // The last node's neighbour is the first, which keeps the way to the end.
        let after = if next == NIL { first } else { next };
        if let Some(node) = self.node_mut(after) {
            node.previous = previous;
        }
    }

    /// A node out of the free list, or a new one.
    fn allocate(&mut self, at_ms: u64, key: K) -> (u32, NonZeroU32) {
        let index = self.free;
        if let Some(node) = self.node_mut(index) {
            let (next, generation) = (node.next, node.generation);
            node.at_ms = at_ms;
            node.key = key;
            self.free = next;
            return (index, generation);
        }
        // Four billion timers of 32 bytes do not fit into a machine's memory: the fallback is never taken.
        let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        let generation = NonZeroU32::MIN;
        self.nodes.push(Node { at_ms, key, next: NIL, previous: NIL, generation, place: FREE });
        (index, generation)
    }

    /// Gives a node back that stands in no list any more. Its id is stale from here on.
    fn release(&mut self, index: u32) {
        let free = self.free;
        if let Some(node) = self.node_mut(index) {
            node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
            node.place = FREE;
            node.next = free;
            self.free = index;
            self.len = self.len.saturating_sub(1);
        }
    }

    fn node(&self, index: u32) -> Option<&Node<K>> {
        self.nodes.get(index as usize)
    }

    fn node_mut(&mut self, index: u32) -> Option<&mut Node<K>> {
        self.nodes.get_mut(index as usize)
    }

    fn first(&self, place: u16) -> u32 {
        self.firsts.get(usize::from(place)).copied().unwrap_or(NIL)
    }

    fn set_first(&mut self, place: u16, index: u32) {
        if let Some(first) = self.firsts.get_mut(usize::from(place)) {
            *first = index;
        }
    }
}

/// The bits of a deadline below those that a level looks at.
fn shift_of(level: usize) -> u32 {
    DIGIT_BITS.saturating_mul(u32::try_from(level).unwrap_or(u32::MAX))
}

/// The bit of a slot in its level.
fn bit_of(slot: usize) -> u64 {
    u32::try_from(slot).ok().and_then(|slot| 1_u64.checked_shl(slot)).unwrap_or(0)
}

/// The number of a slot among all.
fn place_of(level: usize, slot: usize) -> u16 {
    u16::try_from(level.saturating_mul(SLOTS).saturating_add(slot)).unwrap_or(FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advanced(wheel: &mut Wheel<u64>, now_ms: u64) -> Vec<u64> {
        let mut fired = Vec::new();
        wheel.advance(now_ms, &mut fired);
        fired
    }

    #[test]
    fn a_timer_is_small() {
        assert!(size_of::<Node<u64>>() <= 32);
        assert_eq!(size_of::<Option<TimerId>>(), 8);
    }

    #[test]
    fn nothing_fires_early() {
        for at in [1, 63, 64, 65, 4095, 4096, 4097, 262_144, 1 << 40, u64::MAX] {
            for start in [0, 1, 62, 4000] {
                if start >= at {
                    continue;
                }
                let mut wheel = Wheel::new(start);
                wheel.insert(at, 7);
                assert_eq!(advanced(&mut wheel, at - 1), [], "{start} to {at}");
                assert!(wheel.next_at().unwrap() <= at);
                assert_eq!(advanced(&mut wheel, at), [7], "{start} to {at}");
                assert!(wheel.is_empty());
            }
        }
    }

    #[test]
    fn they_fire_in_the_order_of_their_deadlines() {
        let mut wheel = Wheel::new(1000);
        for at in [5000, 1001, 900, 70_000, 1064, 800, 5000, 1001] {
            wheel.insert(at, at);
        }
        assert_eq!(wheel.next_at(), Some(800));
        assert_eq!(advanced(&mut wheel, 100_000), [800, 900, 1001, 1001, 1064, 5000, 5000, 70_000]);
    }

    #[test]
    fn equal_deadlines_fire_as_they_were_set() {
        let mut wheel = Wheel::new(0);
        wheel.insert(5000, 1);
        wheel.insert(5000, 2);
        assert_eq!(advanced(&mut wheel, 4990), []);
        wheel.insert(5000, 3);
        assert_eq!(advanced(&mut wheel, 5000), [1, 2, 3]);
        wheel.insert(5000, 4);
        wheel.insert(5000, 5);
        assert_eq!(advanced(&mut wheel, 5000), [4, 5]);
    }

    #[test]
    fn a_stale_id_cancels_nothing() {
        let mut wheel = Wheel::new(0);
        let first = wheel.insert(10, 1);
        assert!(wheel.cancel(first));
        assert!(!wheel.cancel(first));
        let second = wheel.insert(10, 2);
        assert_eq!(first.index, second.index, "the node is used again");
        assert!(!wheel.cancel(first));
        assert_eq!(advanced(&mut wheel, 10), [2]);
        assert!(!wheel.cancel(second));
    }

    #[test]
    fn any_of_a_slot_can_be_cancelled() {
        for cancelled in 0..4_usize {
            for at in [0, 50] {
                let mut wheel = Wheel::new(10);
                let ids: Vec<_> = (0..4).map(|key| wheel.insert(at, key)).collect();
                assert!(wheel.cancel(ids[cancelled]));
                wheel.insert(at, 9);
                let mut expected: Vec<u64> = (0..4).filter(|key| *key != cancelled as u64).collect();
                expected.push(9);
                assert_eq!(advanced(&mut wheel, 60), expected);
            }
        }
    }

    #[test]
    fn a_slot_emptied_by_cancelling_is_not_due() {
        let mut wheel = Wheel::new(0);
        let near = wheel.insert(10, 1);
        let past = wheel.insert(0, 2);
        wheel.insert(100_000, 3);
        assert!(wheel.cancel(near) && wheel.cancel(past));
        let next = wheel.next_at().unwrap();
        assert!(next > 10 && next <= 100_000, "{next}");
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn a_long_jump_is_as_cheap_as_what_it_passes() {
        let mut wheel = Wheel::new(0);
        wheel.insert(u64::MAX - 1, 1);
        assert_eq!(advanced(&mut wheel, u64::MAX - 2), []);
        assert_eq!(advanced(&mut wheel, u64::MAX), [1]);
    }

    #[test]
    fn time_never_goes_back() {
        let mut wheel = Wheel::new(500);
        wheel.insert(600, 1);
        assert_eq!(advanced(&mut wheel, 100), []);
        assert_eq!(wheel.now_ms(), 500);
        assert_eq!(advanced(&mut wheel, 600), [1]);
    }
}
