//! Preambles of the PROXY protocol: no split makes a difference, an outcome stands whatever follows, and what a proxy
//! writes reads back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidegate_proto::edge::canonical;
use tidegate_proto::edge::proxy::{Bad, PREAMBLE_BYTES_MAX, Preamble, Source, parse};

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = PREAMBLE_BYTES_MAX + 16;

/// Each front of the input, up to where the outcome stands; then the whole of it.
fn check_fronts(input: &[u8]) -> Result<Option<Preamble>, Bad> {
    let whole = parse(input);
    let mut before = Ok(None);
    for len in 0..=input.len().min(300) {
        let now = parse(&input[..len]);
        assert!(before == Ok(None) || now == before, "{before:?}, then {now:?} at {len}");
        before = now;
    }
    if before != Ok(None) {
        assert_eq!(whole, before);
    }
    if let Ok(Some(preamble)) = whole {
        assert!(preamble.len <= input.len().min(PREAMBLE_BYTES_MAX));
        assert_eq!(parse(&input[..preamble.len]), whole, "its own bytes are enough");
        assert_eq!(parse(&input[..preamble.len - 1]), Ok(None), "and all of them are needed");
        if let (Source::Client { from, to }, true) = (preamble.source, input.starts_with(b"PROXY TCP4 ")) {
            assert_eq!(line(from, to), &input[..preamble.len], "there is one way to write it");
        }
    }
    if input.len() >= PREAMBLE_BYTES_MAX {
        assert_ne!(whole, Ok(None), "it would go on for ever");
    }
    whole
}

fn address(choices: &mut Choices<'_>, v6: bool) -> SocketAddr {
    let mut room = [0; 18];
    let taken = choices.bytes(18);
    room[..taken.len()].copy_from_slice(taken);
    let port = u16::from_be_bytes([room[16], room[17]]);
    let ip = match (v6, <[u8; 16]>::try_from(&room[..16])) {
        (true, Ok(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => IpAddr::V4(Ipv4Addr::new(room[0], room[1], room[2], room[3])),
    };
    SocketAddr::new(ip, port)
}

fn line(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

fn header(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut block = Vec::new();
    for addr in [from, to] {
        match addr.ip() {
            IpAddr::V4(ip) => block.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => block.extend_from_slice(&ip.octets()),
        }
    }
    block.extend_from_slice(&from.port().to_be_bytes());
    block.extend_from_slice(&to.port().to_be_bytes());
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.push(if from.is_ipv4() { 0x11 } else { 0x21 });
    header.extend_from_slice(&u16::try_from(block.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend_from_slice(&block);
    header
}

/// Choices: raw bytes, or two addresses with what follows.
pub fn preamble(input: &[u8]) {
    let mut choices = Choices::new(input);
    let kind = choices.byte();
    if kind.is_multiple_of(2) {
        let _ = check_fronts(choices.rest(INPUT_BYTES_MAX));
        return;
    }
    let v6 = kind & 2 != 0;
    let (from, to) = (address(&mut choices, v6), address(&mut choices, v6));
    let rest = choices.rest(64);
    for preamble in [line(from, to), header(from, to)] {
        let len = preamble.len();
        let source = Source::Client { from: canonical(from), to: canonical(to) };
        let expected = Preamble { source, secure: false, len };
        assert_eq!(check_fronts(&[&preamble, rest].concat()), Ok(Some(expected)));
    }
}
