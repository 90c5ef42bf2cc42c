//! The bounds that hold for every connection: how much a peer may send and how long it may take.
//!
//! Plain numbers with the defaults of the product; nothing here measures or enforces. The codec reads the byte
//! bounds, the connection the times. All times are milliseconds, all sizes bytes, all rates bytes per second.

/// What one connection may cost. Every field is settable; [`Default`] gives what ships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head, from its first byte to the empty line that ends it; beyond it 431.
    pub head_bytes_max: usize,
    /// Most header lines in a head (and fields in a trailer section); beyond it 431. At most
    /// [`HEADERS_CEILING`](crate::http1::head::HEADERS_CEILING) whatever is set.
    pub headers_max: usize,
    /// Longest request target; beyond it 414.
    pub target_bytes_max: usize,
    /// Time for a whole head, from accept or from the request's first byte; beyond it 408.
    pub head_ms_max: u64,
    /// Slowest rate at which a body may arrive, and at which a response may be taken off us.
    pub rate_bytes_per_s_min: u64,
    /// Time before the slowest rate holds for a request body; below it then 408.
    pub body_grace_ms: u64,
    /// Time before the slowest rate holds for a reader of a response; below it then the connection is aborted.
    pub write_grace_ms: u64,
    /// How long a kept connection may lie idle between two requests.
    pub idle_ms_max: u64,
    /// How much of an unread request body is drained after the answer; a longer one closes the connection.
    pub drain_bytes_max: u64,
    /// How long a closing connection lingers for the peer to read its answer.
    pub linger_ms_max: u64,
    /// How long a response may stand still after the peer has closed its sending half.
    pub half_close_ms_max: u64,
    /// Chunk extensions of one body, all together; beyond it 400.
    pub chunk_ext_bytes_max: usize,
    /// The trailer section of one body; beyond it 431.
    pub trailer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            target_bytes_max: 8 * 1024,
            head_ms_max: 10_000,
            rate_bytes_per_s_min: 240,
            body_grace_ms: 5_000,
            write_grace_ms: 10_000,
            idle_ms_max: 65_000,
            drain_bytes_max: 64 * 1024,
            linger_ms_max: 2_000,
            half_close_ms_max: 2_000,
            chunk_ext_bytes_max: 16 * 1024,
            trailer_bytes_max: 16 * 1024,
        }
    }
}
