//! Hosting: apps that are deployed, changed and undone while they are served, and what is kept of them.
//!
//! [`Operator`] is what the admin side asks. It stands on a [`crate::server::Deployer`], which makes versions and puts them
//! in place, and on a [`tidegate_store::Store`], which keeps them. It knows no HTTP and no WebAssembly.

mod audit;
mod bounds;
mod canary;
mod change;
mod deploy;
mod hosted;
mod live;
mod make;
mod manifest;
mod operator;
mod routes;
mod shares;
mod source;
mod spec;
mod start;
mod tenants;
mod trial;
pub(crate) mod types;
mod uploads;
mod views;
mod warm_up;
mod watch;

pub(crate) use operator::Operator;
pub(crate) use source::ManifestSource;
pub(crate) use spec::settings_of;
pub(crate) use start::Hosting;
