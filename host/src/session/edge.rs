//! For whom a peer speaks: for itself, or, if it is one of the proxies that are named, for a client.
//!
//! The only place that decides whether a word about the client is believed. A preamble is read before the first request
//! and holds for the connection; fields are read from each request and hold for that.
//!
//! Invariants: of a peer that is not a proxy nothing is believed, and no guest sees what it says about others; without
//! `proxies` nothing here costs more than a look at the names of a request's fields.

use tidegate_proto::edge::forwarded::{Family, origin};
use tidegate_proto::edge::proxy::{Source, parse};

use super::{Fate, Session};
use crate::config::EdgeSettings;
use crate::exchange::{Ends, Inner};
use crate::local::Local;
use crate::observe::edge;

/// What a connection's word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It speaks for itself: what it says about others is taken out.
    Stranger,
    /// A proxy, which is believed.
    Proxy,
    /// A proxy whose preamble has not come as a whole.
    Announcing,
    /// The connection is to be closed: it is no proxy's, or did not begin with a preamble.
    Refused,
}

impl Standing {
    /// Of a connection that was accepted.
    pub(super) fn of(ends: Ends, settings: &EdgeSettings) -> Self {
        match (settings.proxies.trusts_peer(ends.peer), settings.proxy_protocol) {
            (true, true) => Self::Announcing,
            (true, false) => Self::Proxy,
            (false, false) => Self::Stranger,
            (false, true) => {
                edge::tell_closed(ends.peer, "it is not from one of the `proxies`");
                Self::Refused
            }
        }
    }
}

impl Session {
    /// Reads the preamble at the start of `input`, all that has come so far. Gives its length once it is whole; no
    /// request is read before that. What is none is [`Standing::Refused`]: nothing is known of the other side, not even
    /// that it speaks HTTP, so that it is told nothing.
    pub(super) fn take_preamble(&mut self, local: &mut Local, input: &[u8]) -> Option<usize> {
        let preamble = match parse(input) {
            Ok(preamble) => preamble?,
            Err(bad) => {
                edge::tell_closed(self.ends.peer, &bad.to_string());
                self.standing = Standing::Refused;
                return None;
            }
        };
        self.secure = preamble.secure;
        self.standing = match preamble.source {
            Source::Proxy => Standing::Proxy,
            Source::Client { from, to } => {
                self.ends = Ends { peer: Some(from), local: Some(to) };
                // It may be a proxy itself, whose fields are believed then.
                let is_proxy = local.shared.settings.edge.proxies.trusts(from.ip());
                if is_proxy { Standing::Proxy } else { Standing::Stranger }
            }
            Source::Unix => {
                self.ends = Ends { peer: None, local: None };
                Standing::Stranger
            }
            // Somebody's requests follow, and nobody knows whose.
            Source::Unknown => Standing::Stranger,
        };
        if input.len() == preamble.len
            && let Some(active) = self.active.take()
        {
            local.give_back_active(active);
        }
        Some(preamble.len)
    }

    /// The time for the preamble is over.
    pub(super) fn give_up_preamble(&self) -> Fate {
        edge::tell_closed(self.ends.peer, "the PROXY preamble did not come in time");
        Fate::Close
    }
}

/// Fills in who asks, and takes out of the head what nobody is to believe.
pub(super) fn identify(standing: Standing, settings: &EdgeSettings, inner: &mut Inner) {
    let believed = standing == Standing::Proxy;
    let Inner { head, facts, .. } = inner;
    if believed {
        let said = origin(head.fields(), settings.forwarded, |addr| settings.proxies.trusts(addr));
        facts.ends.peer = said.client.or(facts.ends.peer);
        facts.secure = said.secure.unwrap_or(facts.secure);
    }
    // The proxy writes the one family; the other would come from its client as it is.
    let stays = |family: Family| believed && family == settings.forwarded;
    let removed = head.retain_fields(|name| Family::of(name).is_none_or(stays));
    if removed > 0 && !believed {
        edge::tell_removed(facts.ends.peer);
    }
}
