//! What the server tells about itself.

pub(crate) mod access_log;
pub(crate) mod app_logs;
pub(crate) mod denials;
mod dev_log;
pub(crate) mod edge;
pub(crate) mod failures;
pub(crate) mod guest_log;
pub mod log;
pub(crate) mod metrics;
pub(crate) mod rate;
pub(crate) mod requests;
mod sink;
