//! One request to the admin side, what all of them share, and what an answer is.
//!
//! It must never know what can be asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::ResponseHead;

use super::auth::Keys;
use super::control::Control;
use super::wire::{Gone, Wire};
use crate::hosting::types::{Actor, Refusal};

/// What the connections share.
pub(super) struct Desk {
    pub(super) control: Arc<dyn Control>,
    pub(super) keys: Keys,
    /// The user that the server runs as.
    pub(super) own: u32,
    /// Logs that are being followed.
    pub(super) followers: AtomicUsize,
}

impl Desk {
    pub(super) fn new(control: Arc<dyn Control>, keys: Keys) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self { control, keys, own, followers: AtomicUsize::new(0) }
    }
}

/// A request that may be answered.
pub(super) struct Call<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) desk: &'a Desk,
    pub(super) actor: Actor,
    /// What stands in the path where the pattern has a name in braces.
    pub(super) parameter: String,
    /// The query, without its question mark.
    pub(super) query: String,
}

/// An answer.
pub(super) enum Reply {
    /// All of it.
    Whole { status: u16, media_type: &'static str, body: Vec<u8> },
    /// Nothing but a status.
    Empty(u16),
    /// It has been sent already, a piece at a time.
    Sent,
}

/// A head. What it says is about somebody's server: it is not to be kept on the way, nor taken for anything else.
pub(super) fn response_head(status: u16, media_type: &str) -> Result<ResponseHead, Gone> {
    let mut head = ResponseHead::default();
    let set = head
        .set_status(status)
        .and_then(|()| head.push(b"cache-control", b"no-store"))
        .and_then(|()| head.push(b"x-content-type-options", b"nosniff"))
        .and_then(|()| match media_type {
            "" => Ok(()),
            media_type => head.push(b"content-type", media_type.as_bytes()),
        });
    set.map(|()| head).map_err(|_| Gone)
}

/// What a body that is too long, too slow or malformed comes to.
pub(super) fn broken_body(error: PeerError) -> Refusal {
    super::problem::invalid(error.detail(), None)
}
