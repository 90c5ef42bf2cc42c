//! What a service manager is told (sd_notify(3)), and its watchdog.
//!
//! Without NOTIFY_SOCKET in the environment nobody is told anything. What can not be told is passed over: a server does
//! not stop serving because nobody listens to how it is.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::health::{Health, Phase};
use crate::shared::Shared;

/// Where messages go: a path, or `@` and an abstract name.
const SOCKET: &str = "NOTIFY_SOCKET";

/// It serves; also after a reload.
pub(super) fn ready() {
    tell("READY=1\nSTATUS=serving\n");
}

/// It reads its settings again; [`ready`] follows.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"));
}

/// It serves still, and something of note is under way.
pub(super) fn status(text: &str) {
    tell(&format!("STATUS={text}\n"));
}

/// It finishes what it has, and ends.
pub(super) fn stopping() {
    tell("STOPPING=1\nSTATUS=draining\n");
}

/// The service is another process from here on.
pub(super) fn main_pid(pid: u32) {
    tell(&format!("MAINPID={pid}\n"));
}

fn tell(message: &str) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, message) {
        tracing::warn!(%error, socket = %socket.display(), "the service manager can not be told");
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let addr = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no Unix socket")),
    };
    let from = UnixDatagram::unbound()?;
    // A service manager that hangs holds up nobody.
    from.set_write_timeout(Some(Duration::from_secs(1)))?;
    from.send_to_addr(message.as_bytes(), &addr).map(drop)
}

/// How often the watchdog wants to hear of this process. None: there is none.
fn watchdog() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    let mine = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    watchdog_of(variable("WATCHDOG_USEC").as_deref(), mine)
}

fn watchdog_of(micros: Option<&str>, mine: bool) -> Option<Duration> {
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    mine.then(|| Duration::from_micros(micros))
}

/// Tells the watchdog that this process is well for as long as every loop turns.
pub(super) fn keep_watchdog(shared: &Arc<Shared>, health: &Health) -> io::Result<()> {
    let Some(within) = watchdog() else { return Ok(()) };
    let (shared, health) = (Arc::downgrade(shared), health.clone());
    let watch = thread::Builder::new().name("watchdog".into());
    watch.spawn(move || watch_workers(&shared, &health, within / 3)).map(drop)
}

fn watch_workers(shared: &Weak<Shared>, health: &Health, every: Duration) {
    let mut well = true;
    // Another process has its own watchdog.
    while health.phase() != Phase::HandedOver {
        let Some(shared) = shared.upgrade() else { return };
        let missing = shared.pulse.missing();
        if missing.is_empty() {
            tell("WATCHDOG=1\n");
        } else if well {
            tracing::error!(workers = ?missing, "these loops do not turn any more: the watchdog is not told that all is well");
        }
        well = missing.is_empty();
        if well {
            shared.pulse.ask();
            shared.wake_all();
        }
        drop(shared);
        thread::sleep(every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("tidegate-test-{}", std::process::id());
        let manager = [
            UnixDatagram::bind(&path).unwrap(),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        ];
        let addrs = [path.into_os_string(), format!("@{name}").into()];
        for (manager, addr) in manager.iter().zip(addrs) {
            send(&addr, "READY=1\n").unwrap();
            let mut got = [0; 64];
            let n = manager.recv(&mut got).unwrap();
            assert_eq!(&got[..n], b"READY=1\n");
        }
        assert!(send(OsStr::new("vsock:2:1"), "x").is_err());
        assert!(send(OsStr::new("/nowhere/notify"), "x").is_err());
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        assert_eq!(watchdog_of(Some("3000000"), true), Some(Duration::from_secs(3)));
        for (micros, mine) in [(Some("3000000"), false), (None, true), (Some("0"), true), (Some("x"), true)] {
            assert_eq!(watchdog_of(micros, mine), None);
        }
    }
}
