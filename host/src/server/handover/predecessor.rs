//! The new process's side: what it was given, and what it asks for.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::wire::{Message, receive, send};

/// How long the sockets may be on their way; they are sent at once.
const SOCKETS_WITHIN: Duration = Duration::from_secs(30);
/// How long the old process may take to let go of its state.
const GO_WITHIN: Duration = Duration::from_secs(60);

/// How long the old process may take to say who serves now.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// The server that this one follows.
#[derive(Debug)]
pub(crate) struct Predecessor {
    control: OwnedFd,
}

/// The sockets of an address.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The address as the old process's settings had it.
    pub(crate) wanted: String,
    number: usize,
    /// Whoever has it last removes its file.
    pub(crate) is_ours: bool,
    pub(crate) sockets: Vec<OwnedFd>,
}

impl Predecessor {
    /// Receives all sockets.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) fn meet(control: OwnedFd) -> Result<(Self, Vec<Handed>)> {
        let mut all: Vec<Handed> = Vec::new();
        let told = "the server that started this one does not hand over its sockets";
        set_socket_timeout(&control, Timeout::Recv, Some(SOCKETS_WITHIN)).context(told)?;
        loop {
            match receive(&control).context(told)? {
                Some((Message::Sockets { wanted, number, is_ours }, sockets)) => match all.last_mut() {
                    Some(last) if last.number == number => last.sockets.extend(sockets),
                    _ => all.push(Handed { wanted, number, is_ours, sockets }),
                },
                Some((Message::Begin, _)) => return Ok((Self { control }, all)),
                Some((message, _)) => bail!("{told}: it says {message:?} instead"),
                None => bail!("{told}: it is gone"),
            }
        }
    }

    /// Waits until the state folder is free. Also when the old process is gone, which frees it.
    ///
    /// # Errors
    /// The old process does not let go of it.
    pub(crate) fn claim_state(&self) -> Result<()> {
        if send(&self.control, &Message::NeedState, &[]).is_err() {
            tracing::warn!("the server that started this one is gone: its state is free");
            return Ok(());
        }
        set_socket_timeout(&self.control, Timeout::Recv, Some(GO_WITHIN))?;
        match receive(&self.control) {
            Ok(Some((Message::Go, _))) => Ok(()),
            Ok(Some((message, _))) => {
                bail!("the server that started this one says {message:?} instead of `go`")
            }
            Ok(None) => {
                tracing::warn!("the server that started this one is gone: its state is free");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bail!("the server that started this one does not let go of the state folder")
            }
            Err(error) => {
                Err(error).context("the server that started this one can not be asked for the state")
            }
        }
    }

    /// This process serves: the other may go. Returns when it does.
    pub(crate) fn relieve(self) {
        if send(&self.control, &Message::Ready, &[]).is_err() {
            // All that it had to give is here.
            tracing::warn!("the server that started this one is gone already");
            return;
        }
        // It hangs up once it has told a service manager who serves now: before that nobody listens to this process.
        let _ = set_socket_timeout(&self.control, Timeout::Recv, Some(LEAVE_WITHIN));
        while let Ok(Some(_)) = receive(&self.control) {}
    }
}
