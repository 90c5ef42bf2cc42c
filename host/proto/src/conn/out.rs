//! Bytes that wait to be sent.
//!
//! Knows neither what they mean nor where they go. Invariants: `sent <= bytes.len()`; appending while bytes are
//! pending drops those that have left, so that storage follows what is pending and never the length of a stream.

/// Encoded heads and chunk framing, with a cursor for what has left.
#[derive(Debug, Default)]
pub struct OutBuf {
    bytes: Vec<u8>,
    sent: usize,
}

impl OutBuf {
    /// What has not left yet.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or(&[])
    }

    /// True if all has left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent >= self.bytes.len()
    }

    /// Where to append. What stands in it already is not to be touched.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        // Only once that moves no more bytes than it drops: every byte is moved less than once on average.
        if self.sent > 0 && self.sent >= self.pending().len() {
            self.bytes.drain(..self.sent.min(self.bytes.len()));
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// `n` bytes have left. Returns how many of them were not ours.
    pub fn consume(&mut self, n: usize) -> usize {
        let mine = n.min(self.bytes.len().saturating_sub(self.sent));
        self.sent = self.sent.saturating_add(mine);
        if self.is_empty() {
            self.clear();
        }
        n.saturating_sub(mine)
    }

    /// Forgets everything, keeps the storage.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Gives storage above `bytes_max` back; only an empty one.
    pub fn shrink(&mut self, bytes_max: usize) {
        if self.is_empty() && self.bytes.capacity() > bytes_max {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_never_quite_flushed_does_not_grow() {
        let mut out = OutBuf::default();
        out.tail().extend_from_slice(b"0");
        for n in 0..10_000_u32 {
            let digit = b'0' + u8::try_from((n + 1) % 10).unwrap();
            out.tail().extend_from_slice(&[digit; 3]);
            assert_eq!(out.consume(3), 0);
            assert_eq!(out.pending(), [digit]);
        }
        assert!(out.bytes.capacity() < 64, "{}", out.bytes.capacity());
    }

    #[test]
    fn what_is_not_ours_comes_back() {
        let mut out = OutBuf::default();
        out.tail().extend_from_slice(b"abc");
        assert_eq!((out.consume(2), out.pending()), (0, &b"c"[..]));
        assert_eq!((out.consume(5), out.is_empty()), (4, true));
        assert_eq!(out.consume(1), 1);
    }

    #[test]
    fn only_an_empty_one_gives_storage_back() {
        let mut out = OutBuf::default();
        out.tail().extend_from_slice(&[7; 100]);
        out.shrink(10);
        assert_eq!(out.pending().len(), 100);
        out.clear();
        out.shrink(1_000);
        assert!(out.bytes.capacity() >= 100);
        out.shrink(10);
        assert_eq!(out.bytes.capacity(), 0);
    }
}
