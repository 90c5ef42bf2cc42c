//! Every state of a client's connection and every transition between them; nothing else.
//!
//! One state per direction. A transition consumes the old state and returns the next one, or says that the event is not
//! possible there. `tests` holds the whole table, the rejections too.
//!
//! Sending:                                         Receiving (RFC 9112 sections 6.3, 9.3):
//!
//! ```text
//!         WithBody          End                             Request        HeadThenBody      BodyEnd
//!   Idle ──────────> Body ───────> Done              Idle ─────────> Head ─────────────> Body ───────> Ended
//!    ^ └──────────── HeadOnly ──────^ │               ^               │ ^ └──── HeadOnly ───────────────^ │ │
//!    └───────────────── Next ─────────┘               │               └─┘ Interim                         │ │
//!                                                     └───────────────────────── Next ────────────────────┘ │
//!   Cut leads to Cut from each but Cut.                                                  Spent <── Spoil ───┘
//!   Fail leads to Broken from each but Broken; so does Spoil from Idle.
//! ```

pub use crate::conn::state::Impossible;

/// What the sending side is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Send {
    /// No request is under way.
    #[default]
    Idle,
    /// The head is written; the body follows.
    Body,
    /// The whole request is written.
    Done,
    /// The request is cut off: it never ends cleanly.
    Cut,
}

/// What may happen to the sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEvent {
    /// A head is written, and a body follows.
    WithBody,
    /// A head is written that is the whole request.
    HeadOnly,
    /// The end of the body is written.
    End,
    /// The next request may begin.
    Next,
    /// The request is given up, or cannot be sent.
    Cut,
}

/// What the receiving side is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recv {
    /// No response is due.
    #[default]
    Idle,
    /// The head of a response is due.
    Head,
    /// The final head has come; the body is due.
    Body,
    /// The response has come whole, and another may follow on the same connection.
    Ended,
    /// The response has come whole, and the connection carries nothing more: the server said so, ended it, or sent what
    /// nobody asked for.
    Spent,
    /// What came is no response, or there is none to come any more.
    Broken,
}

/// What may happen to the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEvent {
    /// A request is written.
    Request,
    /// An interim response.
    Interim,
    /// The final head, and a body follows.
    HeadThenBody,
    /// The final head, which is the whole response.
    HeadOnly,
    /// The end of the body.
    BodyEnd,
    /// Nothing more can follow on this connection.
    Spoil,
    /// The next request may begin.
    Next,
    /// A rule is broken, or the connection.
    Fail,
}

impl Send {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Impossible`] if the event cannot happen here.
    pub const fn on(self, event: SendEvent) -> Result<Self, Impossible> {
        use SendEvent as E;
        Ok(match (self, event) {
            (Self::Idle, E::WithBody) => Self::Body,
            (Self::Idle, E::HeadOnly) => Self::Done,
            (Self::Body, E::End) => Self::Done,
            (Self::Done, E::Next) => Self::Idle,
            (Self::Idle | Self::Body | Self::Done, E::Cut) => Self::Cut,
            _ => return Err(Impossible),
        })
    }
}

impl Recv {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Impossible`] if the event cannot happen here.
    pub const fn on(self, event: RecvEvent) -> Result<Self, Impossible> {
        use RecvEvent as E;
        Ok(match (self, event) {
            (Self::Idle, E::Request) => Self::Head,
            (Self::Head, E::Interim) => Self::Head,
            (Self::Head, E::HeadThenBody) => Self::Body,
            (Self::Head, E::HeadOnly) => Self::Ended,
            (Self::Body, E::BodyEnd) => Self::Ended,
            (Self::Ended, E::Next) => Self::Idle,
            (Self::Ended | Self::Spent, E::Spoil) => Self::Spent,
            (Self::Idle, E::Spoil) => Self::Broken,
            (Self::Idle | Self::Head | Self::Body | Self::Ended | Self::Spent, E::Fail) => Self::Broken,
            _ => return Err(Impossible),
        })
    }

    /// True if the response has come whole.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Ended | Self::Spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND: [Send; 4] = [Send::Idle, Send::Body, Send::Done, Send::Cut];
    const SEND_EVENTS: [SendEvent; 5] =
        [SendEvent::WithBody, SendEvent::HeadOnly, SendEvent::End, SendEvent::Next, SendEvent::Cut];
    const RECV: [Recv; 6] = [Recv::Idle, Recv::Head, Recv::Body, Recv::Ended, Recv::Spent, Recv::Broken];
    const RECV_EVENTS: [RecvEvent; 8] = [
        RecvEvent::Request,
        RecvEvent::Interim,
        RecvEvent::HeadThenBody,
        RecvEvent::HeadOnly,
        RecvEvent::BodyEnd,
        RecvEvent::Spoil,
        RecvEvent::Next,
        RecvEvent::Fail,
    ];

    /// A row a state, a column an event in the order of `SEND_EVENTS`; `None` is impossible.
    const SEND_TABLE: [[Option<Send>; 5]; 4] = {
        const I: Option<Send> = Some(Send::Idle);
        const B: Option<Send> = Some(Send::Body);
        const D: Option<Send> = Some(Send::Done);
        const C: Option<Send> = Some(Send::Cut);
        const X: Option<Send> = None;
        [
            // WithBody HeadOnly End Next Cut
            [B, D, X, X, C], // Idle
            [X, X, D, X, C], // Body
            [X, X, X, I, C], // Done
            [X, X, X, X, X], // Cut
        ]
    };

    const RECV_TABLE: [[Option<Recv>; 8]; 6] = {
        const I: Option<Recv> = Some(Recv::Idle);
        const H: Option<Recv> = Some(Recv::Head);
        const B: Option<Recv> = Some(Recv::Body);
        const E: Option<Recv> = Some(Recv::Ended);
        const S: Option<Recv> = Some(Recv::Spent);
        const F: Option<Recv> = Some(Recv::Broken);
        const X: Option<Recv> = None;
        [
            // Request Interim HeadThenBody HeadOnly BodyEnd Spoil Next Fail
            [H, X, X, X, X, F, X, F], // Idle
            [X, H, B, E, X, X, X, F], // Head
            [X, X, X, X, E, X, X, F], // Body
            [X, X, X, X, X, S, I, F], // Ended
            [X, X, X, X, X, S, X, F], // Spent
            [X, X, X, X, X, X, X, X], // Broken
        ]
    };

    #[test]
    fn every_sending_state_meets_every_event() {
        for (state, row) in SEND.iter().zip(SEND_TABLE) {
            for (event, expected) in SEND_EVENTS.iter().zip(row) {
                assert_eq!(state.on(*event).ok(), expected, "{state:?} x {event:?}");
            }
        }
    }

    #[test]
    fn every_receiving_state_meets_every_event() {
        for (state, row) in RECV.iter().zip(RECV_TABLE) {
            for (event, expected) in RECV_EVENTS.iter().zip(row) {
                assert_eq!(state.on(*event).ok(), expected, "{state:?} x {event:?}");
            }
        }
    }

    #[test]
    fn a_response_is_whole_in_two_states() {
        let whole: Vec<_> = RECV.into_iter().filter(|state| state.is_complete()).collect();
        assert_eq!(whole, [Recv::Ended, Recv::Spent]);
    }
}
