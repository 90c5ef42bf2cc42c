//! The apps that are served, how one set of them follows another, and whether they may take another request.

pub(crate) mod admission;
pub(crate) mod canary;
pub(crate) mod commands;
pub(crate) mod current;
pub(crate) mod notice;
pub(crate) mod probes;
pub(crate) mod quota;
pub(crate) mod rate;
pub(crate) mod registry;
