//! Buffers lent to connections while they need one; an idle connection holds none.

/// Storage that a returned buffer may keep.
const KEEP_BYTES_MAX: usize = 32 * 1024;
/// Returned buffers that are kept for the next borrower.
const KEEP_MAX: usize = 256;

/// A worker's pool of byte buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Takes a buffer back. One without storage, or with too much, is dropped.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEEP_BYTES_MAX && self.free.len() < KEEP_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_large_ones_do_not() {
        let mut buffers = Buffers::default();
        let mut one = buffers.lend();
        one.extend_from_slice(b"secret");
        buffers.give_back(one);
        assert_eq!(buffers.free.len(), 1);
        assert!(buffers.lend().is_empty());
        buffers.give_back(Vec::with_capacity(KEEP_BYTES_MAX + 1));
        assert!(buffers.free.is_empty());
    }
}
