//! What an app may use.

use std::time::Duration;

use tidegate_proto::pipe::{Watermarks, WatermarksError};

/// What one app may use. CPU, memory, wall time and what goes through sockets are per request, the rest per app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppLimits {
    /// All memories of an instance together.
    pub memory_bytes: u64,
    /// CPU time of a request.
    pub cpu: Duration,
    /// Time until the response head.
    pub wall: Duration,
    /// Requests that run at once.
    pub concurrency: u32,
    /// Requests that wait for their turn.
    pub queue: u32,
    /// The longest request body. None is unlimited.
    pub body_bytes: Option<u64>,
    /// A direction of a request is full at this many bytes.
    pub high_watermark: usize,
    /// And has room again at this many.
    pub low_watermark: usize,
    /// Log bytes a second; what is more is dropped and counted.
    pub log_bytes_per_s: u64,
    /// Elements of all tables of an instance together.
    pub table_elements: usize,
    /// Sockets that are open at once.
    pub sockets_max: u32,
    /// Bytes in and out through the sockets of one call. `u64::MAX` is unlimited.
    pub socket_bytes_max: u64,
    /// Connections a second that it may begin.
    pub connects_per_s: u32,
    /// Requests a second, with a burst of one second's. None is unlimited.
    pub requests_per_s: Option<u32>,
    /// Client connections that are busy with it, from a request's head to the last byte of its answer. None is unlimited.
    pub connections_max: Option<u32>,
    /// The longest response body. None is unlimited.
    pub response_bytes: Option<u64>,
    /// Log lines a second. None: the bytes are all that is counted.
    pub log_lines_per_s: Option<u32>,
    /// CPU time over all its requests and workers, in hundredths of one core. None is unlimited.
    pub cpu_percent: Option<u32>,
}

impl Default for AppLimits {
    fn default() -> Self {
        let marks = Watermarks::default();
        Self {
            memory_bytes: 64 << 20,
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            concurrency: 256,
            queue: 1024,
            body_bytes: None,
            high_watermark: marks.high,
            low_watermark: marks.low,
            log_bytes_per_s: 64 << 10,
            table_elements: 20_000,
            sockets_max: 1024,
            socket_bytes_max: u64::MAX,
            connects_per_s: 1000,
            requests_per_s: None,
            connections_max: None,
            response_bytes: None,
            log_lines_per_s: None,
            cpu_percent: None,
        }
    }
}

impl AppLimits {
    /// The two marks of a pipe of this app, checked together as neither can be alone.
    pub fn watermarks(&self) -> Result<Watermarks, WatermarksError> {
        Watermarks::new(self.high_watermark, self.low_watermark)
    }
}
