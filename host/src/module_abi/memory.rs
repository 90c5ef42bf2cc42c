//! Guest memory, checked.

use std::io::Write;
use std::ops::Range;

use wasmtime::{Caller, Result, Trap, bail};

use crate::guest::cost::enter;
use crate::guest::state::GuestState;

/// The guest's memory and its state, at once; spends what any call costs.
///
/// # Errors
/// The instance is not complete yet: a start function calls the host. Or the guest is stopped ([`enter`]). Both are traps.
pub(super) fn parts<'a>(
    caller: &'a mut Caller<'_, GuestState>,
) -> Result<(&'a mut [u8], &'a mut GuestState)> {
    let Some(memory) = caller.data().side.memory else {
        bail!("the host was called by a start function, before the instance was complete");
    };
    enter(caller.data())?;
    Ok(memory.data_and_store_mut(caller))
}

/// A pointer and a length, both unsigned 32-bit numbers, as a range.
///
/// # Errors
/// They leave memory: a trap.
pub(super) fn range(memory: &[u8], ptr: i32, len: i32) -> Result<Range<usize>> {
    let start = ptr.cast_unsigned() as usize;
    let end = start.saturating_add(len.cast_unsigned() as usize);
    if end > memory.len() {
        return Err(Trap::MemoryOutOfBounds.into());
    }
    Ok(start..end)
}

/// The bytes a guest points to.
///
/// # Errors
/// As [`range`].
pub(super) fn bytes(memory: &[u8], ptr: i32, len: i32) -> Result<&[u8]> {
    let range = range(memory, ptr, len)?;
    memory.get(range).ok_or_else(|| Trap::MemoryOutOfBounds.into())
}

/// The bytes a guest points to, to be written.
///
/// # Errors
/// As [`range`].
pub(super) fn bytes_mut(memory: &mut [u8], ptr: i32, len: i32) -> Result<&mut [u8]> {
    let range = range(memory, ptr, len)?;
    memory.get_mut(range).ok_or_else(|| Trap::MemoryOutOfBounds.into())
}

/// Writes a little-endian number.
///
/// # Errors
/// As [`range`].
pub(super) fn put<const N: usize>(memory: &mut [u8], ptr: i32, value: [u8; N]) -> Result<()> {
    bytes_mut(memory, ptr, i32::try_from(N)?)?.copy_from_slice(&value);
    Ok(())
}

/// Short texts made on the stack: addresses and ids.
pub(super) struct Text {
    bytes: [u8; 160],
    len: usize,
}

impl Text {
    /// What does not fit is cut; nothing that is put here is that long.
    pub(super) fn of(value: impl std::fmt::Display) -> Self {
        let mut text = Self { bytes: [0; 160], len: 0 };
        let mut room = &mut text.bytes[..];
        let before = room.len();
        let _ = write!(room, "{value}");
        text.len = before - room.len();
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_as_unsigned_numbers() {
        let memory = [0; 16];
        for (ptr, len, ok) in [
            (0, 16, true),
            (16, 0, true),
            (15, 1, true),
            (15, 2, false),
            (17, 0, false),
            (-1, 1, false),
            (0, -1, false),
            (-1, -1, false),
            (i32::MAX, i32::MAX, false),
        ] {
            assert_eq!(range(&memory, ptr, len).is_ok(), ok, "{ptr} {len}");
        }
    }

    #[test]
    fn texts_are_what_they_display() {
        assert_eq!(Text::of("127.0.0.1:80").as_bytes(), b"127.0.0.1:80");
        assert_eq!(Text::of("x".repeat(500)).as_bytes().len(), 160);
    }
}
