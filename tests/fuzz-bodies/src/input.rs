//! Choices out of an input, and splits that follow from a seed.

use tidegate_proto::limits::Limits;

/// The bytes in front of an input, taken one by one; 0 where there are none.
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// So many bytes; fewer where there are no more.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// What is left: the input proper, up to so many bytes.
    pub(crate) fn rest(self, bytes_max: usize) -> &'a [u8] {
        &self.rest[..self.rest.len().min(bytes_max)]
    }
}

/// Numbers that follow from a seed (an xorshift): good enough to cut with.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u8) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (u64::from(seed) << 32 | u64::from(seed)))
    }

    /// Below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % n
    }

    /// `input` in pieces: mostly of a few bytes, some of them empty, some long.
    pub(crate) fn pieces<'a>(&mut self, input: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = input;
        while !rest.is_empty() {
            let most = [3, 17, 200][self.below(3)];
            let (piece, after) = rest.split_at(self.below(most).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// Bounds that small inputs meet.
pub(crate) fn narrow() -> Limits {
    Limits {
        head_bytes_max: 96,
        headers_max: 4,
        target_bytes_max: 12,
        chunk_ext_bytes_max: 6,
        trailer_bytes_max: 12,
        drain_bytes_max: 4,
        ..Limits::default()
    }
}
