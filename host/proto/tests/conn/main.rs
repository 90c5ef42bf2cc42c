//! The connection, driven as a server would drive it but for sockets, guests and time: whole exchanges, any split of
//! the bytes, any size of writes, and every deadline.

#[path = "../common/mod.rs"]
mod common;

mod answer;
mod bodies;
mod client;
mod deadlines;
mod endings;
mod persistence;
mod sending;
mod server;
mod splits;
mod vectors;
#[path = "../common/wire.rs"]
mod wire;
