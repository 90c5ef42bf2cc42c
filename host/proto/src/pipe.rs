//! A byte-counted pipe with watermarks: one direction of one request's body.
//!
//! The writer asks for a permit and may write that many bytes; zero means wait. Once the pipe has filled, the permit
//! stays zero until the reader has brought it down to the low mark, so that neither side is woken for single bytes.
//! The pipe knows neither who reads nor who writes, wakes nobody, and never blocks: whoever moves bytes looks at
//! [`Pipe::permit`] and [`Pipe::is_readable`] before and after.
//!
//! Invariants, checked after every public call in a debug build:
//! - `len <= high` and `len <= capacity`; the capacity is zero or a power of two;
//! - the pipe is blocked from the moment `len == high` until `len <= low`, and at no other time;
//! - an empty pipe begins at offset zero, so that the next receive is one contiguous part;
//! - after `end()` nothing comes in.

use thiserror::Error;

/// The first allocation of a pipe, in bytes.
const FIRST_BYTES: usize = 4 * 1024;
/// What [`Pipe::reset`] lets a pipe keep for its next use, in bytes.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// The highest high mark, in bytes: far above what a configuration allows, low enough that no sum here overflows.
const HIGH_BYTES_MAX: usize = 1 << 30;

/// When a pipe is full, and when it has room again. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The most bytes a pipe holds.
    pub high: usize,
    /// After it was full, a pipe takes bytes again when it holds this many or fewer.
    pub low: usize,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { high: 64 * 1024, low: 16 * 1024 }
    }
}

/// Why two numbers are not a pair of watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WatermarksError {
    /// A pipe that holds nothing moves nothing.
    #[error("the high watermark must not be zero")]
    Zero,
    /// With the marks the wrong way round a full pipe would never open again, or open at once.
    #[error("the low watermark must be below the high one")]
    Order,
    /// More than one GiB.
    #[error("the high watermark must not be above 1 GiB")]
    TooHigh,
}

impl Watermarks {
    /// Checked marks, in bytes: `0 < high <= 1 GiB`, `low < high`.
    pub fn new(high: usize, low: usize) -> Result<Self, WatermarksError> {
        if high == 0 {
            Err(WatermarksError::Zero)
        } else if high > HIGH_BYTES_MAX {
            Err(WatermarksError::TooHigh)
        } else if low >= high {
            Err(WatermarksError::Order)
        } else {
            Ok(Self { high, low })
        }
    }

    /// The nearest valid pair: the fields are public, and a pipe must hold its invariants whatever they say.
    fn normalised(self) -> Self {
        let high = self.high.clamp(1, HIGH_BYTES_MAX);
        Self { high, low: self.low.min(high.saturating_sub(1)) }
    }
}

/// A bounded ring of bytes with an end.
#[derive(Debug)]
pub struct Pipe {
    /// Empty, or a power of two long.
    storage: Box<[u8]>,
    /// Where the first byte stands in `storage`.
    start: usize,
    len: usize,
    marks: Watermarks,
    total_in: u64,
    /// Filled, and not yet back at the low mark.
    blocked: bool,
    /// The last receive filled all the room it was given: the sender has more, so the next one gets more.
    eager: bool,
    ended: bool,
}

impl Pipe {
    /// An empty pipe. It holds no storage until bytes come in.
    pub fn new(marks: Watermarks) -> Self {
        Self {
            storage: Box::default(),
            start: 0,
            len: 0,
            marks: marks.normalised(),
            total_in: 0,
            blocked: false,
            eager: false,
            ended: false,
        }
    }

    /// Bytes waiting to be read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes are waiting. An empty pipe may still be open: see [`Pipe::drained`].
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The marks in force.
    pub fn marks(&self) -> Watermarks {
        self.marks
    }

    /// Bytes of storage held now.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Bytes that [`Pipe::write`] would take now. Zero from the moment the pipe filled until it is down at its low
    /// mark, and after the end.
    pub fn permit(&self) -> usize {
        if self.blocked || self.ended { 0 } else { self.marks.high.saturating_sub(self.len) }
    }

    /// All bytes that ever came in since the last reset.
    pub fn total_in(&self) -> u64 {
        self.total_in
    }

    /// A read would not have to wait: there are bytes, or the end is known.
    pub fn is_readable(&self) -> bool {
        self.len > 0 || self.ended
    }

    /// Says that nothing more comes in. What is inside can still be read.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether [`Pipe::end`] was called.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ended, and read to the last byte.
    pub fn drained(&self) -> bool {
        self.ended && self.len == 0
    }

    /// Takes as many bytes as the permit allows and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.permit());
        self.reserve(count);
        let mut rest = bytes.get(..count).unwrap_or_default();
        // At most twice: up to the end of the storage, then from its beginning.
        while !rest.is_empty() {
            let free = self.free_part();
            let part = rest.len().min(free.len());
            if part == 0 {
                break;
            }
            let (now, later) = rest.split_at(part);
            if let Some(space) = free.get_mut(..part) {
                space.copy_from_slice(now);
            }
            self.filled(part);
            rest = later;
        }
        self.check();
        count.saturating_sub(rest.len())
    }

    /// Room to receive into: the first contiguous free part, at most `max` bytes and never more than the permit. Empty
    /// exactly when `max` or the permit is zero. Say with [`Pipe::commit`] how much of it was filled.
    ///
    /// Storage grows only when it is full, or when the last receive filled its room: a connection that trickles stays
    /// small, and one that streams soon gets all of the high mark.
    pub fn spare(&mut self, max: usize) -> &mut [u8] {
        let wanted = max.min(self.permit());
        if wanted == 0 {
            return Default::default();
        }
        let full = self.len == self.storage.len();
        if full || (self.eager && self.free_part().len() < wanted) {
            self.grow();
        }
        self.eager = false;
        let free = self.free_part();
        let part = wanted.min(free.len());
        free.get_mut(..part).unwrap_or_default()
    }

    /// Adds the first `count` bytes of what [`Pipe::spare`] gave out.
    pub fn commit(&mut self, count: usize) {
        let room = self.permit().min(self.free_part().len());
        let count = count.min(room);
        self.eager = count > 0 && count == room;
        self.filled(count);
        self.check();
    }

    /// The bytes inside, in order: the second part is empty unless they wrap around.
    pub fn peek(&self) -> [&[u8]; 2] {
        let first_len = self.storage.len().saturating_sub(self.start).min(self.len);
        let first = self.storage.get(self.start..self.start.saturating_add(first_len)).unwrap_or_default();
        let second = self.storage.get(..self.len.saturating_sub(first_len)).unwrap_or_default();
        [first, second]
    }

    /// Drops the first `count` bytes, or all when there are fewer. At the low mark a full pipe opens again.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len = self.len.saturating_sub(count);
        self.start = if self.len == 0 { 0 } else { self.wrapped(count) };
        if self.len <= self.marks.low {
            self.blocked = false;
        }
        self.check();
    }

    /// Copies out as much as there is and fits, and says how many bytes. Zero is the end only when [`Pipe::drained`].
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let mut count: usize = 0;
        for part in self.peek() {
            let room = into.get_mut(count..).unwrap_or_default();
            let taken = part.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..taken), part.get(..taken)) {
                to.copy_from_slice(from);
            }
            count = count.saturating_add(taken);
        }
        self.consume(count);
        count
    }

    /// Moves up to `max` bytes into another pipe, as many as its permit allows, and says how many.
    pub fn forward(&mut self, to: &mut Self, max: usize) -> usize {
        let mut moved: usize = 0;
        for part in self.peek() {
            let wanted = part.len().min(max.saturating_sub(moved));
            let taken = to.write(part.get(..wanted).unwrap_or_default());
            moved = moved.saturating_add(taken);
            if taken < part.len() {
                break;
            }
        }
        self.consume(moved);
        moved
    }

    /// Makes the pipe as good as new, with other marks. Small storage is kept for the next use, more is given back.
    pub fn reset(&mut self, marks: Watermarks) {
        let mut storage = core::mem::take(&mut self.storage);
        if storage.len() > KEPT_BYTES_MAX {
            storage = Box::default();
        }
        *self = Self { storage, ..Self::new(marks) };
    }

    /// Gives the storage back when there is nothing in it, as an idle connection does.
    pub fn release_if_empty(&mut self) {
        if self.len == 0 {
            self.storage = Box::default();
            self.start = 0;
        }
    }

    /// The offset in `storage` that is `count` bytes after the first one.
    fn wrapped(&self, count: usize) -> usize {
        self.start.wrapping_add(count) & self.storage.len().saturating_sub(1)
    }

    /// The free bytes that follow the last one, up to the end of the storage or to the first byte.
    fn free_part(&mut self) -> &mut [u8] {
        if self.len == self.storage.len() {
            return Default::default();
        }
        let from = self.wrapped(self.len);
        let to = if from < self.start { self.start } else { self.storage.len() };
        self.storage.get_mut(from..to).unwrap_or_default()
    }

    /// Counts `count` bytes that were put behind the last one.
    fn filled(&mut self, count: usize) {
        self.len = self.len.saturating_add(count);
        self.total_in = self.total_in.saturating_add(count as u64);
        if self.len >= self.marks.high {
            self.blocked = true;
        }
    }

    /// Makes room for `more` bytes, which the caller has a permit for.
    fn reserve(&mut self, more: usize) {
        while self.storage.len() < self.len.saturating_add(more) {
            let before = self.storage.len();
            self.grow();
            if self.storage.len() == before {
                break;
            }
        }
    }

    /// Doubles the storage, unless it holds all of the high mark already.
    fn grow(&mut self) {
        let most = self.marks.high.checked_next_power_of_two().unwrap_or(HIGH_BYTES_MAX);
        let size = self.storage.len().saturating_mul(2).max(FIRST_BYTES).min(most);
        if size <= self.storage.len() {
            return;
        }
        let mut storage = vec![0; size].into_boxed_slice();
        let mut at: usize = 0;
        for part in self.peek() {
            let end = at.saturating_add(part.len());
            if let Some(space) = storage.get_mut(at..end) {
                space.copy_from_slice(part);
            }
            at = end;
        }
        self.storage = storage;
        self.start = 0;
    }

    fn check(&self) {
        debug_assert!(self.len <= self.marks.high && self.len <= self.storage.len());
        debug_assert!(self.storage.is_empty() || self.storage.len().is_power_of_two());
        debug_assert!(self.start == 0 || (self.len > 0 && self.start < self.storage.len()));
        debug_assert!(self.len < self.marks.high || self.blocked);
        debug_assert!(self.len > self.marks.low || !self.blocked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(high: usize, low: usize) -> Pipe {
        Pipe::new(Watermarks::new(high, low).unwrap())
    }

    #[test]
    fn marks_are_checked() {
        assert_eq!(Watermarks::new(0, 0), Err(WatermarksError::Zero));
        assert_eq!(Watermarks::new(4, 4), Err(WatermarksError::Order));
        assert_eq!(Watermarks::new(usize::MAX, 4), Err(WatermarksError::TooHigh));
        assert_eq!(Watermarks::new(1, 0), Ok(Watermarks { high: 1, low: 0 }));
    }

    #[test]
    fn marks_that_nobody_checked_still_make_a_working_pipe() {
        let mut pipe = Pipe::new(Watermarks { high: 0, low: 9 });
        assert_eq!(pipe.write(b"ab"), 1);
        assert_eq!(pipe.permit(), 0);
        pipe.consume(1);
        assert_eq!(pipe.permit(), 1);
    }

    #[test]
    fn a_full_pipe_opens_at_the_low_mark() {
        let mut pipe = pipe(8, 2);
        assert_eq!(pipe.write(b"0123456789"), 8);
        assert_eq!(pipe.write(b"x"), 0);
        pipe.consume(5);
        assert_eq!(pipe.permit(), 0, "three bytes are above the low mark");
        pipe.consume(1);
        assert_eq!(pipe.permit(), 6);
        assert_eq!(pipe.total_in(), 8);
    }

    #[test]
    fn filling_it_exactly_blocks_too() {
        let mut pipe = pipe(4, 1);
        assert_eq!(pipe.write(b"abcd"), 4);
        pipe.consume(2);
        assert_eq!(pipe.permit(), 0);
    }

    #[test]
    fn below_the_high_mark_nothing_blocks() {
        let mut pipe = pipe(8, 2);
        assert_eq!(pipe.write(b"abcdefg"), 7);
        assert_eq!(pipe.permit(), 1);
        pipe.consume(1);
        assert_eq!(pipe.permit(), 2);
    }

    #[test]
    fn bytes_wrap_around() {
        let mut pipe = pipe(8, 7);
        assert_eq!(pipe.write(b"abcdef"), 6);
        pipe.consume(4);
        assert_eq!(pipe.write(b"ghijk"), 5);
        assert_eq!(pipe.peek(), [b"efgh".as_slice(), b"ijk".as_slice()]);
        let mut out = [0; 16];
        assert_eq!(pipe.read(&mut out), 7);
        assert_eq!(&out[..7], b"efghijk");
        assert_eq!(pipe.start, 0);
    }

    #[test]
    fn an_end_lets_the_rest_be_read_and_nothing_in() {
        let mut pipe = pipe(8, 2);
        assert_eq!(pipe.write(b"ab"), 2);
        assert!(!pipe.drained());
        pipe.end();
        assert_eq!((pipe.write(b"c"), pipe.permit(), pipe.spare(4).len()), (0, 0, 0));
        assert!(pipe.is_readable() && !pipe.drained());
        pipe.consume(2);
        assert!(pipe.is_readable() && pipe.drained());
    }

    #[test]
    fn storage_grows_as_bytes_come_in() {
        let mut pipe = Pipe::new(Watermarks::default());
        assert_eq!(pipe.capacity(), 0);
        assert_eq!(pipe.spare(64 * 1024).len(), 4096);
        pipe.commit(100);
        assert_eq!(pipe.capacity(), 4096);
        assert_eq!(pipe.write(&[7; 60_000]), 60_000);
        assert_eq!(pipe.capacity(), 65_536);
        assert_eq!(pipe.write(&[7; 60_000]), 65_536 - 60_100);
        assert_eq!(pipe.capacity(), 65_536, "never more than the power of two that holds the high mark");
    }

    #[test]
    fn a_receive_that_fills_its_room_gets_more_next_time() {
        let mut pipe = Pipe::new(Watermarks::default());
        let mut rooms = Vec::new();
        for _ in 0..6 {
            let room = pipe.spare(usize::MAX).len();
            rooms.push(room);
            pipe.commit(room);
            pipe.consume(room);
        }
        assert_eq!(rooms, [4096, 8192, 16_384, 32_768, 65_536, 65_536]);
        assert_eq!(pipe.spare(usize::MAX).len(), 65_536);
        pipe.commit(10);
        pipe.consume(10);
        assert_eq!(pipe.spare(100).len(), 100);
    }

    #[test]
    fn a_commit_larger_than_the_room_is_cut() {
        let mut pipe = pipe(8, 2);
        let room = pipe.spare(3).len();
        assert_eq!(room, 3);
        pipe.commit(100);
        assert_eq!(pipe.len(), 8);
    }

    #[test]
    fn forward_moves_what_the_other_allows() {
        let mut from = pipe(16, 2);
        let mut to = pipe(6, 1);
        assert_eq!(from.write(b"0123456789"), 10);
        assert_eq!(from.forward(&mut to, 4), 4);
        assert_eq!(from.forward(&mut to, 100), 2);
        assert_eq!(from.forward(&mut to, 100), 0);
        assert_eq!((from.len(), to.len()), (4, 6));
        to.consume(6);
        assert_eq!(from.forward(&mut to, 100), 4);
        assert_eq!(to.peek(), [b"6789".as_slice(), b"".as_slice()]);
    }

    #[test]
    fn reset_keeps_small_storage_only() {
        let mut pipe = Pipe::new(Watermarks::default());
        assert_eq!(pipe.write(&[1; 10_000]), 10_000);
        pipe.end();
        pipe.reset(Watermarks::default());
        assert_eq!((pipe.capacity(), pipe.len(), pipe.is_ended(), pipe.total_in()), (16_384, 0, false, 0));
        assert_eq!(pipe.write(&[1; 20_000]), 20_000);
        pipe.reset(Watermarks::default());
        assert_eq!(pipe.capacity(), 0);
    }

    #[test]
    fn an_empty_pipe_gives_its_storage_back() {
        let mut pipe = pipe(8, 2);
        assert_eq!(pipe.write(b"abc"), 3);
        pipe.release_if_empty();
        assert_eq!(pipe.capacity(), 8);
        pipe.consume(3);
        pipe.release_if_empty();
        assert_eq!(pipe.capacity(), 0);
        assert_eq!(pipe.write(b"abc"), 3);
    }
}
