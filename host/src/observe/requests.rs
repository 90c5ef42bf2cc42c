//! A live request as it is told of: by workers, by the admin side, and by the command line.

use serde::{Deserialize, Serialize};

/// A live request, as `ps` lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RequestView {
    /// As in the log and on error responses.
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) version: u64,
    pub(crate) worker: u16,
    /// `request`, `connection` (raw TCP), or `resident`.
    pub(crate) kind: String,
    /// Method and path, without the query. Empty but for requests.
    pub(crate) request: String,
    /// Since its head was complete.
    pub(crate) age_ms: u64,
    pub(crate) cpu_us: u64,
    /// `running`, `ready`, `admission`, `load` (its code is being loaded), `request body`, `response` (the client reads slowly),
    /// `timer`, `socket`, `file`, `store` (key-value), or what the guest polls for.
    pub(crate) waits_for: String,
}
