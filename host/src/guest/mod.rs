//! Running guests: the engine, compiled programs, tasks on fibers, and whose turn it is.
//!
//! Nothing here knows a socket, and nothing here waits for anything but its guests.

pub(crate) mod anatomy;
pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod component;
pub(crate) mod cost;
pub(crate) mod crash;
mod describe;
pub(crate) mod desk;
pub(crate) mod engine;
mod exports;
pub(crate) mod limiter;
pub(crate) mod loading;
pub(crate) mod module;
pub(crate) mod mounts;
pub(crate) mod offer;
pub(crate) mod outcome;
pub(crate) mod places;
pub(crate) mod program;
pub(crate) mod scheduler;
mod stack;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod ticker;
pub(crate) mod wake;

pub use self::compile::compile_child;
