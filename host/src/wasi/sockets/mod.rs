//! `wasi:sockets`: the call's [`Network`] behind the standard's resources.
//!
//! What a socket is, and what an app may do with one, is `net`'s. Here stands the order in which the standard wants its
//! operations ([`tcp`], [`udp`]), what a stream of a connection is ([`streams`]), and which of the standard's errors an error
//! is ([`errors`]). Nothing waits here: an operation that would says `would-block`, and its pollable leaves the task's waker
//! with the socket.
//!
//! A guest whose app has no rules for sockets gets resources without a socket behind them: so it learns that access is
//! denied when it says where to, and the operator is told which rule would allow just that.
//!
//! Invariant: a resource that a reused component kept of an earlier call has a socket that was closed with that call.
//!
//! [`Network`]: crate::net::network::Network

mod address;
mod datagrams;
mod errors;
mod names;
mod network;
mod options;
mod streams;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use wasmtime::Result;
use wasmtime::component::Linker;

use self::bindings::wasi::sockets as wasi_sockets;
use self::errors::Failure;
use super::{HasWasi, Wasi};
use crate::guest::component::ComponentState;
use crate::guest::cost::{moved, opened, spend};

/// What `bindgen!` makes of `host/wit/deps/sockets.wit`.
mod bindings {
    #![allow(unreachable_pub, reason = "generated code is public, and gives only public names on")]

    /// The types behind the resources, and what an operation fails with.
    mod resources {
        pub type Failure = super::super::errors::Failure;
        pub type Network = super::super::network::NetworkHandle;
        pub type TcpSocket = super::super::tcp::TcpSocket;
        pub type UdpSocket = super::super::udp::UdpSocket;
        pub type IncomingDatagramStream = super::super::datagrams::Incoming;
        pub type OutgoingDatagramStream = super::super::datagrams::Outgoing;
        pub type ResolveAddressStream = super::super::names::Addresses;
    }

    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package tidegate:sockets;

            world guest {
                import wasi:sockets/instance-network@0.2.12;
                import wasi:sockets/ip-name-lookup@0.2.12;
                import wasi:sockets/tcp-create-socket@0.2.12;
                import wasi:sockets/udp-create-socket@0.2.12;
            }
        ",
        world: "tidegate:sockets/guest",
        imports: { default: trappable },
        require_store_data_send: true,
        trappable_error_type: { "wasi:sockets/network.error-code" => resources::Failure },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network.network": resources::Network,
            "wasi:sockets/tcp.tcp-socket": resources::TcpSocket,
            "wasi:sockets/udp.udp-socket": resources::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": resources::IncomingDatagramStream,
            "wasi:sockets/udp.outgoing-datagram-stream": resources::OutgoingDatagramStream,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": resources::ResolveAddressStream,
        },
    });
}

/// What an operation gives, besides errors and traps.
type Given<T> = Result<T, Failure>;

/// Defines `wasi:sockets`.
///
/// # Errors
/// A name was defined twice: a bug.
pub(super) fn add_to_linker(
    linker: &mut Linker<ComponentState>,
    wasi: fn(&mut ComponentState) -> Wasi<'_>,
) -> Result<()> {
    wasi_sockets::network::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::instance_network::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::ip_name_lookup::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::tcp::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::tcp_create_socket::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::udp::add_to_linker::<_, HasWasi>(linker, wasi)?;
    wasi_sockets::udp_create_socket::add_to_linker::<_, HasWasi>(linker, wasi)
}

impl Wasi<'_> {
    /// Spends what a call costs that asks the system for something small.
    fn asks_system(&self) -> Result<()> {
        spend(self.state, moved(0))
    }

    /// Spends what it costs to open something, and to close it again.
    fn opens(&self) -> Result<()> {
        spend(self.state, opened())
    }

    /// A guest whose app has no rules for sockets wants a socket to send from: the operator is told so. Where to is not
    /// known yet.
    fn tell_no_rules(&mut self) {
        let id = self.state.exchange.lock().facts.id.to_string();
        let access = &self.state.network().access;
        let reason = "to send datagrams: the app has no rules for sockets";
        access.denials.tell(&access.app, &id, &reason, "sockets.connect = ['udp:HOST:PORT']");
    }
}
