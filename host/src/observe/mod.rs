//! What the server tells about itself.

pub(crate) mod access_log;
pub(crate) mod denials;
mod dev_log;
pub(crate) mod failures;
pub(crate) mod guest_log;
pub mod log;
mod rate;
mod sink;
