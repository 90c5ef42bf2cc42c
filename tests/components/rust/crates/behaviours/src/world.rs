//! The rest of what WASI 0.2 gives: randomness, environment, standard streams, files, sockets.

use wasip2::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::filesystem::preopens;
use wasip2::io::streams::{OutputStream, StreamError};
use wasip2::random::{insecure, insecure_seed, random};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::Behaviour;
use crate::call::{Call, Lines, outcome};

pub(crate) const ALL: &[Behaviour] = &[
    ("random", random_bytes),
    ("random-huge", |call| {
        let bytes = random::get_random_bytes(1 << 40);
        call.answer(200, &format!("{}\n", bytes.len()));
    }),
    ("environment", environment),
    ("stdio", stdio),
    ("stdin", read_stdin),
    ("terminals", terminals),
    ("preopens", |call| {
        let mut lines = Lines::default();
        lines.add("directories", preopens::get_directories().len());
        call.say(&lines);
    }),
    ("tcp-connect", tcp_connect),
    ("tcp-bind", tcp_bind),
    ("udp-bind", udp_bind),
    ("resolve", resolve),
];

const LOOPBACK: IpSocketAddress =
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 1, address: (127, 0, 0, 1) });

fn random_bytes(call: Call) {
    let mut lines = Lines::default();
    lines.add("lengths", [0, 1, 1000].map(|len| random::get_random_bytes(len).len()));
    lines.add("insecure lengths", [0, 1, 1000].map(|len| insecure::get_insecure_random_bytes(len).len()));
    // Equal by chance once in 2^128, and in 2^64.
    lines.add("equal", random::get_random_bytes(16) == random::get_random_bytes(16));
    lines.add("equal numbers", random::get_random_u64() == random::get_random_u64());
    lines.add(
        "equal insecure numbers",
        insecure::get_insecure_random_u64() == insecure::get_insecure_random_u64(),
    );
    lines.add("zero seed", insecure_seed::insecure_seed() == (0, 0));
    call.say(&lines);
}

/// One variable only: a host may have some of its own.
fn environment(call: Call) {
    let mut lines = Lines::default();
    let variables: Vec<_> =
        environment::get_environment().into_iter().filter(|(name, _)| name == "GREETING").collect();
    lines.add("variables", variables);
    lines.add("arguments", environment::get_arguments().len());
    lines.add("folder", environment::initial_cwd());
    call.say(&lines);
}

fn stdio(call: Call) {
    let mut lines = Lines::default();
    let write = |stream: &OutputStream, text: &str| -> Result<(), StreamError> {
        let permit = stream.check_write()?;
        assert!(permit >= text.len() as u64, "a permit of {permit}");
        stream.write(text.as_bytes())?;
        stream.blocking_flush()?;
        stream.blocking_write_and_flush(b"and another line\n")
    };
    lines.add("stdout", outcome(write(&stdout::get_stdout(), "to standard output\n")));
    lines.add("stderr", outcome(write(&stderr::get_stderr(), "to standard error\n")));
    println!("by the library, out");
    eprintln!("by the library, err");
    call.say(&lines);
}

fn read_stdin(call: Call) {
    let mut lines = Lines::default();
    lines.add("stdin", outcome(stdin::get_stdin().blocking_read(1)));
    call.say(&lines);
}

fn terminals(call: Call) {
    let mut lines = Lines::default();
    lines.add("stdin", terminal_stdin::get_terminal_stdin().is_some());
    lines.add("stdout", terminal_stdout::get_terminal_stdout().is_some());
    lines.add("stderr", terminal_stderr::get_terminal_stderr().is_some());
    call.say(&lines);
}

fn name<T>(result: Result<T, ErrorCode>) -> Result<T, &'static str> {
    result.map_err(|error| error.name())
}

fn tcp_connect(call: Call) {
    let mut lines = Lines::default();
    match name(create_tcp_socket(IpAddressFamily::Ipv4)) {
        Ok(socket) => {
            lines.add("connect", name(socket.start_connect(&instance_network(), LOOPBACK)));
            lines.add("finish", name(socket.finish_connect()).err());
        }
        Err(error) => lines.add("create", error),
    }
    call.say(&lines);
}

fn tcp_bind(call: Call) {
    let mut lines = Lines::default();
    match name(create_tcp_socket(IpAddressFamily::Ipv4)) {
        Ok(socket) => lines.add("bind", name(socket.start_bind(&instance_network(), LOOPBACK))),
        Err(error) => lines.add("create", error),
    }
    call.say(&lines);
}

fn udp_bind(call: Call) {
    let mut lines = Lines::default();
    match name(create_udp_socket(IpAddressFamily::Ipv6)) {
        Ok(socket) => lines.add("bind", name(socket.start_bind(&instance_network(), LOOPBACK))),
        Err(error) => lines.add("create", error),
    }
    call.say(&lines);
}

/// What a host that denies says first, and what later.
fn resolve(call: Call) {
    let mut lines = Lines::default();
    for host in ["localhost", "127.0.0.1", "a b"] {
        match name(resolve_addresses(&instance_network(), host)) {
            Ok(stream) => {
                stream.subscribe().block();
                lines.add(host, name(stream.resolve_next_address()).map(|address| address.is_some()));
            }
            Err(error) => lines.add(host, ("at once", error)),
        }
    }
    call.say(&lines);
}
