//! What `usage` writes: what this request has used, and what is left of each clock.
//!
//! ```text
//!  0 size u32, version u16 = 1, reserved u16
//!  8 cpu_used_ns u64       16 cpu_left_ns u64
//! 24 wall_left_ns u64      until the response head is due; u64::MAX once it is set
//! 32 memory_bytes u64      all linear memories together
//! 40 memory_bytes_max u64
//! ```

use crate::VERSION;
use crate::bytes::{Writer, get_u16, get_u32, get_u64};

/// Bytes of the layout in this version.
pub const BYTES: usize = 48;

/// What a request has used so far.
///
/// ```
/// use tidegate_abi::usage::Usage;
///
/// let usage = Usage { cpu_used_ns: 1_500_000, ..Usage::default() };
/// let packed = usage.to_bytes();
/// assert_eq!(Usage::parse(&packed), Some(usage));
/// assert_eq!(Usage::parse(&packed[..8]), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used, in nanoseconds.
    pub cpu_used_ns: u64,
    /// CPU time left, in nanoseconds.
    pub cpu_left_ns: u64,
    /// Wall time left until the response head is due, in nanoseconds; `u64::MAX` once it is set.
    pub wall_left_ns: u64,
    /// Linear memory in use, in bytes.
    pub memory_bytes: u64,
    /// The limit of linear memory, in bytes.
    pub memory_bytes_max: u64,
}

impl Usage {
    /// The packed layout. See [`Usage`].
    #[must_use]
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        let mut w = Writer::new(&mut out);
        w.u32(BYTES as u32);
        w.u16(VERSION);
        w.u16(0);
        w.u64(self.cpu_used_ns);
        w.u64(self.cpu_left_ns);
        w.u64(self.wall_left_ns);
        w.u64(self.memory_bytes);
        w.u64(self.memory_bytes_max);
        out
    }

    /// Reads a packed layout; `None` if it is cut off or of another version. See [`Usage`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if (get_u32(bytes, 0)? as usize) < BYTES || get_u16(bytes, 4)? != VERSION {
            return None;
        }
        Some(Self {
            cpu_used_ns: get_u64(bytes, 8)?,
            cpu_left_ns: get_u64(bytes, 16)?,
            wall_left_ns: get_u64(bytes, 24)?,
            memory_bytes: get_u64(bytes, 32)?,
            memory_bytes_max: get_u64(bytes, 40)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_back() {
        let usage = Usage {
            cpu_used_ns: 1,
            cpu_left_ns: 2,
            wall_left_ns: u64::MAX,
            memory_bytes: 3,
            memory_bytes_max: 4,
        };
        assert_eq!(Usage::parse(&usage.to_bytes()), Some(usage));
        assert_eq!(Usage::parse(&usage.to_bytes()[..BYTES - 1]), None);
    }
}
