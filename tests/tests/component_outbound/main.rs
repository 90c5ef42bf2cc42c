//! Guests that talk to others, built as components: what they do over sockets and over HTTP is the same through `wasi:sockets`
//! and `wasi:http` as through the module ABI. The tests are those of the modules, word for word: in this binary
//! `artifacts::guest` gives components.

#[path = "../cookbook_gather.rs"]
mod cookbook_gather;
#[path = "../outbound.rs"]
mod outbound;
#[path = "../outbound_tls.rs"]
mod outbound_tls;
#[path = "../proxy.rs"]
mod proxy;
#[path = "../socket_leaks.rs"]
mod socket_leaks;
#[path = "../socket_policy.rs"]
mod socket_policy;
#[path = "../sockets.rs"]
mod sockets;
