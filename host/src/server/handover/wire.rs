//! Messages of the handover, and descriptors with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Descriptors of one message; the kernel takes 253.
pub(super) const FDS_MAX: usize = 250;
/// Bytes of a message: a path has 4 KiB at most.
const BYTES_MAX: usize = 64 * 1024;
/// Bytes that descriptors take on their way.
const SPACE: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Message {
    Sockets {
        /// The address as the settings have it.
        wanted: String,
        /// Which of the addresses: two may be wanted alike, where the system chooses the port.
        number: usize,
        /// It is no service manager's: whoever has it last removes its file.
        is_ours: bool,
    },
    Begin,
    NeedState,
    Go,
    Ready,
}

/// The two ends.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message with at most [`FDS_MAX`] descriptors.
pub(super) fn send(to: impl AsFd, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors at once"));
    }
    loop {
        // A peer that is gone is an error here and no signal.
        match sendmsg(&to, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The next message and what came with it. None: the other end is closed.
pub(super) fn receive(from: impl AsFd) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&from, &mut slices, &mut rights, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            // Who closes with something unread resets.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    let mut fds = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let message = bytes.get(..got.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(message)?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_together_and_the_end_is_told() {
        let (here, there) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let sockets = Message::Sockets { wanted: "127.0.0.1:0".into(), number: 3, is_ours: false };
        let fds = vec![file.as_fd(); FDS_MAX];
        send(&here, &sockets, &fds).unwrap();
        send(&here, &Message::Begin, &[]).unwrap();
        let (message, fds) = receive(&there).unwrap().unwrap();
        assert_eq!((message, fds.len()), (sockets, FDS_MAX));
        let (message, fds) = receive(&there).unwrap().unwrap();
        assert_eq!((message, fds.len()), (Message::Begin, 0));
        drop(here);
        assert!(receive(&there).unwrap().is_none());
        assert!(send(&there, &Message::Ready, &[]).is_err());
    }

    #[test]
    fn what_is_new_in_a_message_is_passed_over_and_a_new_kind_is_not() {
        let (here, there) = pair().unwrap();
        for (text, known) in
            [(r#"{"kind":"need-state","more":[1]}"#, true), (r#"{"kind":"later"}"#, false), ("x", false)]
        {
            rustix::io::write(&here, text.as_bytes()).unwrap();
            assert_eq!(receive(&there).is_ok(), known, "{text}");
        }
    }
}
