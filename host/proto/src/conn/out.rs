//! Bytes that wait to be sent.

/// Encoded heads and chunk framing, with a cursor for what has left. `sent <= bytes.len()`.
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

    /// Where to append.
    pub fn tail(&mut self) -> &mut Vec<u8> {
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
