//! The HTTP/1.1 codec: bytes to requests, responses to bytes (RFC 9110 and 9112).
//!
//! It holds no buffer of its own beyond what a message in progress needs, waits for nothing and knows no
//! connection: [`head`] finds and parses a head, [`framing`] decides once how long its body is, [`body`] decodes
//! that body, [`encode`] checks and writes what a guest answers. What is malformed is refused, never repaired:
//! two programs that repair differently are how requests are smuggled.

pub mod body;
pub mod encode;
pub mod fields;
pub mod framing;
pub mod head;
mod problem;
pub mod target;
