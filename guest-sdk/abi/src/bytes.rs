//! Checked little-endian access; nothing here panics on what a peer wrote.

pub(crate) fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The bytes that a span `{offset u32, len u32}` at `at` names.
pub(crate) fn get_span(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let start = get_u32(bytes, at)? as usize;
    let len = get_u32(bytes, at.checked_add(4)?)? as usize;
    bytes.get(start..start.checked_add(len)?)
}

/// Writes numbers into a buffer that was sized before; running out of it is remembered, never a panic.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, overflow: false }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        match self.out.get_mut(self.at..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at = end;
            }
            None => self.overflow = true,
        }
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Writes the span `{offset, len}` of `bytes` that will stand at `*next`, and moves `*next` behind them.
    pub(crate) fn span(&mut self, next: &mut usize, len: usize) {
        let (Ok(offset), Ok(len32)) = (u32::try_from(*next), u32::try_from(len)) else {
            self.overflow = true;
            return;
        };
        self.u32(offset);
        self.u32(len32);
        *next = next.saturating_add(len);
    }

    /// The bytes written, or `None` if they did not fit.
    pub(crate) fn finish(self) -> Option<usize> {
        (!self.overflow).then_some(self.at)
    }
}
