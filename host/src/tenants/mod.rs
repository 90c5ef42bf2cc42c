//! The apps that are served, and whether they may take another request.

pub(crate) mod admission;
pub(crate) mod registry;
