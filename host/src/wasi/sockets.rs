//! `wasi:sockets`: there for whoever imports it, and denied.
//!
//! JavaScript and Python components import all of it, whether they open sockets or not. As no socket is ever made, what is
//! behind one has no value.

use std::convert::Infallible;

use wasmtime::Result;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError, Pollable, subscribe};

use self::bindings::wasi::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use self::bindings::wasi::sockets::tcp::{Duration, ShutdownType};
use self::bindings::wasi::sockets::udp::{IncomingDatagram, OutgoingDatagram};
use self::bindings::wasi::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use super::{HasWasi, Wasi};
use crate::guest::component::ComponentState;
use crate::guest::cost::{parsed, spend};

/// What `bindgen!` makes of `host/wit/deps/sockets.wit`.
mod bindings {
    #![allow(unreachable_pub, reason = "generated code is public, and gives only public names on")]

    /// The types behind the resources.
    mod resources {
        pub type Network = super::super::Network;
        pub type TcpSocket = super::super::TcpSocket;
        pub type UdpSocket = super::super::UdpSocket;
        pub type IncomingDatagramStream = super::super::IncomingDatagramStream;
        pub type OutgoingDatagramStream = super::super::OutgoingDatagramStream;
        pub type ResolveAddressStream = super::super::ResolveAddressStream;
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

/// `network`: what addresses are reached through, which are none.
#[derive(Debug)]
pub(crate) struct Network;

/// `tcp-socket`.
#[derive(Debug)]
pub(crate) struct TcpSocket(Infallible);

/// `udp-socket`.
#[derive(Debug)]
pub(crate) struct UdpSocket(Infallible);

/// `incoming-datagram-stream`.
#[derive(Debug)]
pub(crate) struct IncomingDatagramStream(Infallible);

/// `outgoing-datagram-stream`.
#[derive(Debug)]
pub(crate) struct OutgoingDatagramStream(Infallible);

/// `resolve-address-stream`.
#[derive(Debug)]
pub(crate) struct ResolveAddressStream(Infallible);

/// What a call gives besides traps.
type Given<T> = Result<Result<T, ErrorCode>>;

/// Defines `wasi:sockets`.
///
/// # Errors
/// A name was defined twice: a bug.
pub(super) fn add_to_linker(
    linker: &mut Linker<ComponentState>,
    wasi: fn(&mut ComponentState) -> Wasi<'_>,
) -> Result<()> {
    network::add_to_linker::<_, HasWasi>(linker, wasi)?;
    instance_network::add_to_linker::<_, HasWasi>(linker, wasi)?;
    ip_name_lookup::add_to_linker::<_, HasWasi>(linker, wasi)?;
    tcp::add_to_linker::<_, HasWasi>(linker, wasi)?;
    tcp_create_socket::add_to_linker::<_, HasWasi>(linker, wasi)?;
    udp::add_to_linker::<_, HasWasi>(linker, wasi)?;
    udp_create_socket::add_to_linker::<_, HasWasi>(linker, wasi)
}

impl network::Host for Wasi<'_> {
    fn network_error_code(&mut self, _: Resource<IoError>) -> Result<Option<ErrorCode>> {
        self.enter()?;
        Ok(None)
    }
}

impl network::HostNetwork for Wasi<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for Wasi<'_> {
    fn instance_network(&mut self) -> Result<Resource<Network>> {
        self.enter()?;
        Ok(self.state.side.table.push(Network)?)
    }
}

impl tcp_create_socket::Host for Wasi<'_> {
    fn create_tcp_socket(&mut self, _: IpAddressFamily) -> Given<Resource<TcpSocket>> {
        self.enter()?;
        Ok(Err(ErrorCode::AccessDenied))
    }
}

impl udp_create_socket::Host for Wasi<'_> {
    fn create_udp_socket(&mut self, _: IpAddressFamily) -> Given<Resource<UdpSocket>> {
        self.enter()?;
        Ok(Err(ErrorCode::AccessDenied))
    }
}

impl ip_name_lookup::Host for Wasi<'_> {
    fn resolve_addresses(
        &mut self,
        _: Resource<Network>,
        name: String,
    ) -> Given<Resource<ResolveAddressStream>> {
        spend(self.state, parsed(name.len()))?;
        self.enter()?;
        // What other hosts answer where names may not be looked up.
        Ok(Err(ErrorCode::PermanentResolverFailure))
    }
}

/// Methods of a resource that there is none of: its handle is looked up, which traps, and no more can be.
macro_rules! of_nobody {
    ($resource:ty: $($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $method(&mut self, this: Resource<$resource> $(, _: $argument)*) -> $result {
            self.enter()?;
            match self.state.side.table.get(&this)?.0 {}
        })*

        fn drop(&mut self, this: Resource<$resource>) -> Result<()> {
            self.enter()?;
            match self.state.side.table.delete(this)?.0 {}
        }
    };
}

/// And what they wait with.
macro_rules! subscribe_to_nobody {
    ($resource:ty) => {
        fn subscribe(&mut self, this: Resource<$resource>) -> Result<Resource<DynPollable>> {
            self.enter()?;
            subscribe(&mut self.state.side.table, this)
        }
    };
}

macro_rules! never_ready {
    ($($resource:ty),*) => {$(
        #[async_trait]
        impl Pollable for $resource {
            async fn ready(&mut self) {
                match self.0 {}
            }
        }
    )*};
}

never_ready!(TcpSocket, UdpSocket, IncomingDatagramStream, OutgoingDatagramStream, ResolveAddressStream);

/// The two streams of a connection.
type Connection = (Resource<DynInputStream>, Resource<DynOutputStream>);
/// A connection that was accepted.
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);
/// The two streams of a socket for datagrams.
type Datagrams = (Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>);

impl ip_name_lookup::HostResolveAddressStream for Wasi<'_> {
    subscribe_to_nobody!(ResolveAddressStream);
    of_nobody! { ResolveAddressStream:
        resolve_next_address() -> Given<Option<IpAddress>>;
    }
}

impl tcp::Host for Wasi<'_> {}

impl tcp::HostTcpSocket for Wasi<'_> {
    subscribe_to_nobody!(TcpSocket);
    of_nobody! { TcpSocket:
        start_bind(Resource<Network>, IpSocketAddress) -> Given<()>;
        finish_bind() -> Given<()>;
        start_connect(Resource<Network>, IpSocketAddress) -> Given<()>;
        finish_connect() -> Given<Connection>;
        start_listen() -> Given<()>;
        finish_listen() -> Given<()>;
        accept() -> Given<Accepted>;
        local_address() -> Given<IpSocketAddress>;
        remote_address() -> Given<IpSocketAddress>;
        is_listening() -> Result<bool>;
        address_family() -> Result<IpAddressFamily>;
        set_listen_backlog_size(u64) -> Given<()>;
        keep_alive_enabled() -> Given<bool>;
        set_keep_alive_enabled(bool) -> Given<()>;
        keep_alive_idle_time() -> Given<Duration>;
        set_keep_alive_idle_time(Duration) -> Given<()>;
        keep_alive_interval() -> Given<Duration>;
        set_keep_alive_interval(Duration) -> Given<()>;
        keep_alive_count() -> Given<u32>;
        set_keep_alive_count(u32) -> Given<()>;
        hop_limit() -> Given<u8>;
        set_hop_limit(u8) -> Given<()>;
        receive_buffer_size() -> Given<u64>;
        set_receive_buffer_size(u64) -> Given<()>;
        send_buffer_size() -> Given<u64>;
        set_send_buffer_size(u64) -> Given<()>;
        shutdown(ShutdownType) -> Given<()>;
    }
}

impl udp::Host for Wasi<'_> {}

impl udp::HostUdpSocket for Wasi<'_> {
    subscribe_to_nobody!(UdpSocket);
    of_nobody! { UdpSocket:
        start_bind(Resource<Network>, IpSocketAddress) -> Given<()>;
        finish_bind() -> Given<()>;
        stream(Option<IpSocketAddress>) -> Given<Datagrams>;
        local_address() -> Given<IpSocketAddress>;
        remote_address() -> Given<IpSocketAddress>;
        address_family() -> Result<IpAddressFamily>;
        unicast_hop_limit() -> Given<u8>;
        set_unicast_hop_limit(u8) -> Given<()>;
        receive_buffer_size() -> Given<u64>;
        set_receive_buffer_size(u64) -> Given<()>;
        send_buffer_size() -> Given<u64>;
        set_send_buffer_size(u64) -> Given<()>;
    }
}

impl udp::HostIncomingDatagramStream for Wasi<'_> {
    subscribe_to_nobody!(IncomingDatagramStream);
    of_nobody! { IncomingDatagramStream:
        receive(u64) -> Given<Vec<IncomingDatagram>>;
    }
}

impl udp::HostOutgoingDatagramStream for Wasi<'_> {
    subscribe_to_nobody!(OutgoingDatagramStream);
    of_nobody! { OutgoingDatagramStream:
        check_send() -> Given<u64>;
        send(Vec<OutgoingDatagram>) -> Given<u64>;
    }
}
