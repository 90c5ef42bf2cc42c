//! Hosting: apps that are deployed, changed and undone while they are served, and what is kept of them.
//!
//! [`Operator`] is what the admin side asks. It stands on a [`crate::server::Deployer`], which makes versions and puts them
//! in place, and on a [`tidegate_store::Store`], which keeps them. It knows no HTTP and no WebAssembly.

mod bounds;
mod canary;
mod change;
mod deploy;
mod live;
mod manifest;
mod operator;
mod routes;
mod spec;
mod start;
mod tenants;
pub(crate) mod types;
mod warm_up;

pub(crate) use manifest::ManifestSource;
pub(crate) use operator::Operator;
pub(crate) use spec::settings_of;
pub(crate) use start::Hosting;
