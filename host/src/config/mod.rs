//! From a manifest and flags to checked, typed [`Settings`].
//!
//! Nothing past this module parses a setting or wonders whether one is sane. It reads files that the command line
//! names, and only reads; it knows no engine and no socket.

pub mod edge;
mod keys;
mod kv;
mod limits;
mod listen;
pub mod manifest;
mod mount;
mod problem;
mod secret;
mod settings;
pub mod sockets;
mod state;
mod suggest;
mod tenants;
mod units;

pub use edge::EdgeSettings;
pub(crate) use keys::{APP_FLAG_KEYS, APP_KEYS, HTTP_KEYS, set_from_flag};
pub use kv::KvSettings;
pub use limits::AppLimits;
pub use listen::{ListenAddr, TcpListen};
pub use manifest::{BuildCommand, BuildSettings, BuildTarget};
pub use mount::Mount;
pub(crate) use problem::escaped;
pub use problem::{ConfigError, Problem, ValueError};
pub use secret::{SecretSource, TokenSettings};
pub use settings::{AppSettings, Instances, LogFormat, LogTarget, ServerSettings, Settings};
pub(crate) use settings::{check_app_name, check_env, check_routes};
pub use sockets::{Rule, SocketSettings};
pub use state::StateFolder;
pub(crate) use suggest::did_you_mean;
pub use tenants::{TenantLimits, TenantSettings};
pub(crate) use units::{Given, about_bytes};
