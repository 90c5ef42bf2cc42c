//! Bytes that can be checked wherever they turn up: a cheap generator, seeded by whom the bytes belong to.

/// A stream of bytes that is the same for the same seed, and soon differs for any other.
#[derive(Clone)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    /// `seed` names the owner: (app, connection, request) folded into a number.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, word: [0; 8], used: 8 }
    }

    // splitmix64: fast, and any two seeds give unrelated streams.
    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next `out.len()` bytes of the stream.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == 8 {
                self.word = self.next_word().to_le_bytes();
                self.used = 0;
            }
            let n = out.len().min(8 - self.used);
            out[..n].copy_from_slice(&self.word[self.used..self.used + n]);
            self.used += n;
            out = &mut out[n..];
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        self.fill(&mut out);
        out
    }

    /// Compares `bytes` with the next ones of the stream; the error is the index of the first difference.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut expected = [0; 4096];
        for (block, piece) in bytes.chunks(expected.len()).enumerate() {
            let expected = &mut expected[..piece.len()];
            self.fill(expected);
            if expected != piece {
                let at = expected.iter().zip(piece).position(|(a, b)| a != b).unwrap_or(0);
                return Err(block * 4096 + at);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_bytes() {
        let whole = Pattern::new(7).take(10_000);
        let mut pieces = Pattern::new(7);
        let mut joined = Vec::new();
        for n in [1, 2, 7, 8, 9, 973, 9_000] {
            joined.extend(pieces.take(n));
        }
        assert_eq!(whole, joined);
        assert_eq!(Pattern::new(7).check(&whole), Ok(()));
    }

    #[test]
    fn a_difference_is_found_where_it_is() {
        let mut bytes = Pattern::new(7).take(10_000);
        bytes[9_001] ^= 1;
        assert_eq!(Pattern::new(7).check(&bytes), Err(9_001));
        assert_ne!(Pattern::new(8).take(16), Pattern::new(7).take(16));
    }
}
