//! Upstreams that do it wrong, one way each.

use std::io;
use std::time::Duration;

use super::peer::Peer;

/// What an upstream does when a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Says nothing, for ever.
    HangsBeforeHead,
    /// Says half a head, and nothing more.
    HangsInHead,
    /// Sends 10 of 100 bytes, and nothing more.
    HangsInBody,
    /// Ends the connection before any request was read.
    ClosesAtOnce,
    /// Ends the connection instead of an answer.
    ClosesBeforeHead,
    /// Ends it in the middle of the head.
    ClosesInHead,
    /// Says 100 bytes, sends 10 and ends.
    ClosesInBody,
    /// Ends after a chunk that was not the last.
    ClosesBetweenChunks,
    /// Ends in the middle of a chunk.
    ClosesInChunk,
    /// Resets instead of an answer.
    ResetsBeforeHead,
    /// Says 100 bytes, sends 10 and resets.
    ResetsInBody,
    /// Says 5 bytes, and sends another whole response behind them.
    LongerThanItSays,
    /// Bytes that are nothing.
    Garbage,
    /// Another protocol's greeting.
    NotHttp,
    /// A major version that this is not.
    OtherVersion,
    /// A status that there is not.
    NoSuchStatus,
    /// Fields, for ever.
    EndlessHead,
    /// One field, for ever.
    EndlessField,
    /// Interim responses, for ever.
    InterimFlood,
    /// 101 that nobody asked for.
    Switches,
    /// Content-Length and Transfer-Encoding.
    BothFramings,
    /// Two Content-Lengths that differ.
    TwoLengths,
    /// A Content-Length that is no number.
    LengthIsNoNumber,
    /// A coding that nobody asked for, below chunked.
    OtherCoding,
    /// A field without a colon.
    FieldWithoutColon,
    /// A field that is folded.
    FoldedField,
    /// A NUL in a value.
    NulInField,
    /// A chunk's size that is no number.
    ChunkSizeIsNoNumber,
    /// A chunk's size beyond 64 bits.
    ChunkSizeTooLarge,
    /// A chunk that goes on behind its end.
    ChunkTooLong,
    /// A chunk's extension, for ever.
    EndlessChunkSize,
    /// Trailers, for ever.
    EndlessTrailers,
    /// A body, for ever.
    EndlessBody,
    /// A byte of the body every 20 ms, 20 of them: slow, and whole.
    Slow,
    /// A byte of the head every 20 ms, for ever.
    SlowHead,
}

impl Bad {
    pub(super) fn behave(self, peer: &mut Peer) -> io::Result<()> {
        if self == Self::ClosesAtOnce {
            return Ok(());
        }
        while peer.request()?.is_some() {
            if !self.answer(peer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers one request. False: the connection ends.
    fn answer(self, peer: &mut Peer) -> io::Result<bool> {
        if let Some(bytes) = self.bytes() {
            peer.send(bytes)?;
        }
        match self {
            Self::HangsBeforeHead
            | Self::HangsInHead
            | Self::HangsInBody
            | Self::Switches
            | Self::BothFramings
            | Self::TwoLengths
            | Self::LengthIsNoNumber
            | Self::OtherCoding
            | Self::FieldWithoutColon
            | Self::FoldedField
            | Self::NulInField
            | Self::ChunkSizeIsNoNumber
            | Self::ChunkSizeTooLarge
            | Self::ChunkTooLong
            | Self::Garbage
            | Self::NotHttp
            | Self::OtherVersion
            | Self::NoSuchStatus => peer.wait_for_end().map(|_| false),
            Self::ClosesAtOnce
            | Self::ClosesBeforeHead
            | Self::ClosesInHead
            | Self::ClosesInBody
            | Self::ClosesBetweenChunks
            | Self::ClosesInChunk => Ok(false),
            Self::ResetsBeforeHead | Self::ResetsInBody => peer.reset().map(|()| false),
            Self::LongerThanItSays => Ok(true),
            Self::EndlessHead => forever(peer, || b"x-more: and more\r\n".repeat(500)),
            Self::EndlessField | Self::EndlessChunkSize => forever(peer, || vec![b'a'; 8_000]),
            Self::InterimFlood => forever(peer, || b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(300)),
            Self::EndlessTrailers => forever(peer, || b"x-more: and more\r\n".repeat(500)),
            Self::EndlessBody => {
                forever(peer, || [b"1f40\r\n", vec![b'b'; 8_000].as_slice(), b"\r\n"].concat())
            }
            Self::Slow => {
                for _ in 0..20 {
                    peer.pause(Duration::from_millis(20))?;
                    peer.send("s")?;
                }
                Ok(true)
            }
            Self::SlowHead => loop {
                peer.pause(Duration::from_millis(20))?;
                peer.send("a")?;
            },
        }
    }

    /// What is sent first.
    fn bytes(self) -> Option<&'static [u8]> {
        let text: &str = match self {
            Self::HangsInHead | Self::ClosesInHead => "HTTP/1.1 200 OK\r\nContent-",
            Self::HangsInBody | Self::ClosesInBody | Self::ResetsInBody => {
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789"
            }
            Self::ClosesBetweenChunks => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            }
            Self::ClosesInChunk => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello",
            Self::LongerThanItSays => {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
                 HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
            }
            Self::Garbage => "\u{1}\u{2}\u{3}\r\n\r\n\u{0}\u{7f}\r\n\r\n",
            Self::NotHttp => "SSH-2.0-OpenSSH_9.2\r\n",
            Self::OtherVersion => "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Self::NoSuchStatus => "HTTP/1.1 42 OK\r\nContent-Length: 5\r\n\r\nhello",
            Self::EndlessHead => "HTTP/1.1 200 OK\r\n",
            Self::EndlessField | Self::SlowHead => "HTTP/1.1 200 OK\r\nx-more: ",
            Self::Switches => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
            }
            Self::BothFramings => {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            }
            Self::TwoLengths => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            Self::LengthIsNoNumber => "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            Self::OtherCoding => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            }
            Self::FieldWithoutColon => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nno colon\r\n\r\nhello",
            Self::FoldedField => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: b\r\n c\r\n\r\nhello",
            Self::NulInField => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: b\u{0}c\r\n\r\nhello",
            Self::ChunkSizeIsNoNumber => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nmore\r\n"
            }
            Self::ChunkSizeTooLarge => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000005\r\nhello"
            }
            Self::ChunkTooLong => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello and more\r\n0\r\n\r\n"
            }
            Self::EndlessChunkSize => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;more="
            }
            Self::EndlessTrailers => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
            }
            Self::EndlessBody => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Self::Slow => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
            Self::HangsBeforeHead
            | Self::ClosesAtOnce
            | Self::ClosesBeforeHead
            | Self::ResetsBeforeHead
            | Self::InterimFlood => return None,
        };
        Some(text.as_bytes())
    }
}

/// Sends the same until the other side has had enough.
fn forever(peer: &mut Peer, piece: impl Fn() -> Vec<u8>) -> io::Result<bool> {
    let piece = piece();
    loop {
        peer.send(&piece)?;
    }
}
