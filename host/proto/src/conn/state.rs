//! Every state of a connection and every transition between them; nothing else.
//!
//! A connection has one state per direction. A transition consumes the old state and returns the next one, or says
//! that the event is not possible there. `tests` holds the whole table, the rejections too.
//!
//! Receiving (RFC 9112 section 2):
//!
//! ```text
//!         FirstByte       HeadThenBody      BodyEnd
//!   Idle ───────────> Head ──────────> Body ───────> Ended
//!    ^                  └────────── HeadOnly ──────────^ │
//!    │        Body ── Discard ──> Discard ── BodyEnd ──┘ │
//!    └────────────────────── Next ───────────────────────┘
//! ```
//!
//! Refuse leads to `Refused` from each of these, Eof to `Closed` from there too; nothing leads out of `Closed`.

/// What the receiving side is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// Between requests: no byte of the next head has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// The head is complete; body bytes go to the guest.
    Body,
    /// The whole request has come. Pipelined bytes wait until it is answered.
    Ended,
    /// The rest of the body is read and thrown away.
    Discard,
    /// The peer broke a rule, or is not listened to any more: what still comes is thrown away.
    Refused,
    /// The peer has ended its side: nothing more comes.
    Closed,
}

/// What may happen to the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEvent {
    /// The first byte of a head.
    FirstByte,
    /// The head is complete and a body follows.
    HeadThenBody,
    /// The head is complete and is the whole request.
    HeadOnly,
    /// The last byte of the body.
    BodyEnd,
    /// Nobody wants the rest of the body.
    Discard,
    /// The answer is complete: the next request may begin.
    Next,
    /// The peer has ended its side.
    Eof,
    /// The input broke a rule, or nothing more of it is wanted.
    Refuse,
}

/// What the sending side is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// No request is being answered.
    Idle,
    /// A request waits for its final head.
    Await,
    /// The final head is queued; the body follows.
    Body,
    /// The whole answer is queued.
    Done,
    /// The answer was cut off: the connection ends without a clean end.
    Cut,
}

/// What may happen to the sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEvent {
    /// A request's head is complete.
    Request,
    /// The final head is queued.
    Head,
    /// The end of the body is queued.
    End,
    /// The answer to input that is not a request: head and body at once.
    Reject,
    /// The next request may begin.
    Next,
    /// The answer fails.
    Cut,
}

/// An event that cannot happen in a state: a bug in the caller, never a peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this event is not possible in this state")]
pub struct Impossible;

impl Recv {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Impossible`] if the event cannot happen here.
    pub const fn on(self, event: RecvEvent) -> Result<Self, Impossible> {
        use RecvEvent as E;
        Ok(match (self, event) {
            (Self::Idle, E::FirstByte) => Self::Head,
            (Self::Head, E::HeadThenBody) => Self::Body,
            (Self::Head, E::HeadOnly) => Self::Ended,
            (Self::Body, E::BodyEnd) => Self::Ended,
            (Self::Body, E::Discard) => Self::Discard,
            (Self::Discard, E::BodyEnd) => Self::Ended,
            (Self::Ended, E::Next) => Self::Idle,
            (Self::Idle | Self::Head | Self::Body | Self::Ended | Self::Discard, E::Refuse) => Self::Refused,
            (Self::Idle | Self::Head | Self::Body | Self::Ended | Self::Discard | Self::Refused, E::Eof) => {
                Self::Closed
            }
            _ => return Err(Impossible),
        })
    }

    /// True where bytes from the peer are of use now.
    #[must_use]
    pub const fn wants_input(self) -> bool {
        matches!(self, Self::Idle | Self::Head | Self::Body | Self::Discard)
    }
}

impl Send {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`Impossible`] if the event cannot happen here.
    pub const fn on(self, event: SendEvent) -> Result<Self, Impossible> {
        use SendEvent as E;
        Ok(match (self, event) {
            (Self::Idle, E::Request) => Self::Await,
            (Self::Await, E::Head) => Self::Body,
            (Self::Body, E::End) => Self::Done,
            (Self::Idle | Self::Await, E::Reject) => Self::Done,
            (Self::Done, E::Next) => Self::Idle,
            (Self::Idle | Self::Await | Self::Body | Self::Done, E::Cut) => Self::Cut,
            _ => return Err(Impossible),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECV: [Recv; 7] =
        [Recv::Idle, Recv::Head, Recv::Body, Recv::Ended, Recv::Discard, Recv::Refused, Recv::Closed];
    const RECV_EVENTS: [RecvEvent; 8] = [
        RecvEvent::FirstByte,
        RecvEvent::HeadThenBody,
        RecvEvent::HeadOnly,
        RecvEvent::BodyEnd,
        RecvEvent::Discard,
        RecvEvent::Next,
        RecvEvent::Eof,
        RecvEvent::Refuse,
    ];
    const SEND: [Send; 5] = [Send::Idle, Send::Await, Send::Body, Send::Done, Send::Cut];
    const SEND_EVENTS: [SendEvent; 6] = [
        SendEvent::Request,
        SendEvent::Head,
        SendEvent::End,
        SendEvent::Reject,
        SendEvent::Next,
        SendEvent::Cut,
    ];

    /// A row a state, a column an event in the order of `RECV_EVENTS`; `None` is impossible.
    const RECV_TABLE: [[Option<Recv>; 8]; 7] = {
        const I: Option<Recv> = Some(Recv::Idle);
        const H: Option<Recv> = Some(Recv::Head);
        const B: Option<Recv> = Some(Recv::Body);
        const E: Option<Recv> = Some(Recv::Ended);
        const D: Option<Recv> = Some(Recv::Discard);
        const R: Option<Recv> = Some(Recv::Refused);
        const C: Option<Recv> = Some(Recv::Closed);
        const X: Option<Recv> = None;
        [
            // FirstByte HeadThenBody HeadOnly BodyEnd Discard Next Eof Refuse
            [H, X, X, X, X, X, C, R], // Idle
            [X, B, E, X, X, X, C, R], // Head
            [X, X, X, E, D, X, C, R], // Body
            [X, X, X, X, X, I, C, R], // Ended
            [X, X, X, E, X, X, C, R], // Discard
            [X, X, X, X, X, X, C, X], // Refused
            [X, X, X, X, X, X, X, X], // Closed
        ]
    };

    const SEND_TABLE: [[Option<Send>; 6]; 5] = {
        const I: Option<Send> = Some(Send::Idle);
        const A: Option<Send> = Some(Send::Await);
        const B: Option<Send> = Some(Send::Body);
        const D: Option<Send> = Some(Send::Done);
        const C: Option<Send> = Some(Send::Cut);
        const X: Option<Send> = None;
        [
            // Request Head End Reject Next Cut
            [A, X, X, D, X, C], // Idle
            [X, B, X, D, X, C], // Await
            [X, X, D, X, X, C], // Body
            [X, X, X, X, I, C], // Done
            [X, X, X, X, X, X], // Cut
        ]
    };

    #[test]
    fn every_receiving_state_meets_every_event() {
        for (state, row) in RECV.iter().zip(RECV_TABLE) {
            for (event, expected) in RECV_EVENTS.iter().zip(row) {
                assert_eq!(state.on(*event).ok(), expected, "{state:?} x {event:?}");
            }
        }
    }

    #[test]
    fn every_sending_state_meets_every_event() {
        for (state, row) in SEND.iter().zip(SEND_TABLE) {
            for (event, expected) in SEND_EVENTS.iter().zip(row) {
                assert_eq!(state.on(*event).ok(), expected, "{state:?} x {event:?}");
            }
        }
    }

    #[test]
    fn only_four_receiving_states_read() {
        let reading: Vec<_> = RECV.into_iter().filter(|s| s.wants_input()).collect();
        assert_eq!(reading, [Recv::Idle, Recv::Head, Recv::Body, Recv::Discard]);
    }
}
