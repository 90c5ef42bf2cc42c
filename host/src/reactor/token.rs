//! What a readiness event is for.
//!
//! A token carries a slot and a generation. The generation changes every time a slot is given to someone else, so that
//! an event that was collected before that is recognised as stale and ignored.

use mio::Token;

/// Slots from here on are not sessions.
const RESERVED: u32 = 0xffff_0000;
/// Set in the index of a guest's socket, and in no session's: nobody has as many descriptors.
const NET: u32 = 0x8000_0000;
const WAKER: u32 = u32::MAX;

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Another thread has something for this worker.
    Waker,
    /// The listener of that index.
    Listener(usize),
    /// A session.
    Session(Slot),
    /// A guest's socket.
    Net(Slot),
}

/// A slot and the generation that it had when it was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Source {
    pub(crate) fn token(self) -> Token {
        let (index, generation) = match self {
            Self::Waker => (WAKER, 0),
            Self::Listener(i) => (RESERVED | u32::try_from(i & 0xfff).unwrap_or(0), 0),
            Self::Session(slot) => (slot.index, slot.generation),
            Self::Net(slot) => (NET | slot.index, slot.generation),
        };
        Token((generation as usize) << 32 | index as usize)
    }

    pub(crate) fn of(token: Token) -> Self {
        let index = (token.0 & 0xffff_ffff) as u32;
        match index {
            WAKER => Self::Waker,
            i if i >= RESERVED => Self::Listener((i & 0xfff) as usize),
            index if index & NET != 0 => {
                Self::Net(Slot { index: index & !NET, generation: (token.0 >> 32) as u32 })
            }
            index => Self::Session(Slot { index, generation: (token.0 >> 32) as u32 }),
        }
    }
}

/// Slots with generations. A slot that is given away again has another generation.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slab: slab::Slab<(u32, T)>,
    generation: u32,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slab: slab::Slab::new(), generation: 0 }
    }

    /// Puts in what `make` makes of its slot.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Slot) -> T) -> Slot {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let index = u32::try_from(entry.key()).unwrap_or(RESERVED - 1);
        let slot = Slot { index, generation: self.generation };
        entry.insert((self.generation, make(slot)));
        slot
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(slot.index as usize)?;
        (*generation == slot.generation).then_some(value)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        self.get_mut(slot)?;
        Some(self.slab.remove(slot.index as usize).1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The slots in use now.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.slab
            .iter()
            .map(|(index, (generation, _))| Slot {
                index: u32::try_from(index).unwrap_or(RESERVED - 1),
                generation: *generation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source() {
        for source in [
            Source::Waker,
            Source::Listener(0),
            Source::Listener(17),
            Source::Session(Slot { index: 0, generation: 1 }),
            Source::Session(Slot { index: 70_000, generation: u32::MAX }),
        ] {
            assert_eq!(Source::of(source.token()), source);
        }
    }

    #[test]
    fn a_stale_slot_is_not_found() {
        let mut slots = Slots::new();
        let old = slots.insert_with(|_| 'a');
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert_with(|_| 'b');
        assert_eq!(old.index, new.index);
        assert_eq!(slots.get_mut(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut 'b'));
    }
}
