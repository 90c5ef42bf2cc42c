//! The PROXY protocol, versions 1 and 2: a preamble with which a proxy says whose bytes follow it.
//!
//! [`parse`] looks at all that has come so far and remembers nothing. Must never know who sent it, nor what follows.
//!
//! Invariants: for the same bytes the outcome does not depend on how they were split; once there is an outcome, no bytes
//! that follow change it; a preamble is at most [`PREAMBLE_BYTES_MAX`] long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::{canonical, port};

/// The longest preamble, in bytes. Version 2 could announce 64 KiB; addresses and all extensions in use need a few hundred.
pub const PREAMBLE_BYTES_MAX: usize = 4096;

/// The longest line of version 1, in bytes, with its end.
const LINE_BYTES_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to the addresses of version 2.
const FIXED_BYTES: usize = 16;

/// Extensions that are looked at: a checksum of the preamble, and what is known of TLS.
const TLV_CRC32C: u8 = 0x03;
const TLV_SSL: u8 = 0x20;
/// The client came over TLS.
const CLIENT_SSL: u8 = 0x01;

/// For whom the bytes behind the preamble are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy speaks for itself, as in a health check.
    Proxy,
    /// A client over TCP.
    Client {
        /// Its address.
        from: SocketAddr,
        /// Where it arrived.
        to: SocketAddr,
    },
    /// A client over a Unix socket of the proxy's machine.
    Unix,
    /// Some client: the proxy does not say which, or not in a way that can be used.
    Unknown,
}

/// A whole preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// For whom the rest is.
    pub source: Source,
    /// The client came to the proxy over TLS, as an extension says.
    pub secure: bool,
    /// Its bytes: what is behind them belongs to the client.
    pub len: usize,
}

/// Why it is not a preamble. Nothing after it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Bad {
    /// The first bytes are those of something else.
    #[error("the connection does not begin with a PROXY preamble")]
    Absent,
    /// Version 1: the line has no end within its bound.
    #[error("the PROXY line is longer than 107 bytes")]
    LongLine,
    /// Version 1: not as the protocol has it.
    #[error("the PROXY line is malformed")]
    Line,
    /// Version 2: a version, command, family or transport that there is not.
    #[error("the PROXY header has a version, command or family that is not known")]
    Unassigned,
    /// Version 2: longer than is taken.
    #[error("the PROXY header is longer than 4 KiB")]
    Long,
    /// Version 2: too short for its addresses.
    #[error("the PROXY header is too short for its addresses")]
    Short,
    /// Version 2: an extension that reaches beyond the end.
    #[error("an extension of the PROXY header is malformed")]
    Extension,
    /// Version 2: it was damaged.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads the preamble at the start of `input`: all bytes of a connection so far. `None` asks for more.
///
/// # Errors
/// It is none: the connection is to be closed.
pub fn parse(input: &[u8]) -> Result<Option<Preamble>, Bad> {
    let begins = |with: &[u8]| {
        let shared = input.len().min(with.len());
        input.get(..shared) == with.get(..shared)
    };
    if begins(LINE_START) {
        line(input)
    } else if begins(SIGNATURE) {
        header(input)
    } else {
        Err(Bad::Absent)
    }
}

/// Version 1.
fn line(input: &[u8]) -> Result<Option<Preamble>, Bad> {
    let window = input.get(..LINE_BYTES_MAX).unwrap_or(input);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Bad::LongLine) };
    };
    let text = window.get(LINE_START.len()..end).and_then(|text| std::str::from_utf8(text).ok());
    let source = described(text.ok_or(Bad::Line)?).ok_or(Bad::Line)?;
    Ok(Some(Preamble { source, secure: false, len: end.saturating_add(2) }))
}

/// What stands in the line behind `PROXY `.
fn described(text: &str) -> Option<Source> {
    let mut words = text.split(' ');
    let parse: fn(&str) -> Option<IpAddr> = match words.next()? {
        // Whatever follows that is to be ignored.
        "UNKNOWN" => return Some(Source::Unknown),
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (from, to) = (parse(words.next()?)?, parse(words.next()?)?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    let end = words.next().is_none();
    end.then(|| client(SocketAddr::new(from, from_port), SocketAddr::new(to, to_port)))
}

fn client(from: SocketAddr, to: SocketAddr) -> Source {
    Source::Client { from: canonical(from), to: canonical(to) }
}

/// Version 2.
fn header(input: &[u8]) -> Result<Option<Preamble>, Bad> {
    let Some(rest) = input.get(SIGNATURE.len()..) else { return Ok(None) };
    let Some(&version_command) = rest.first() else { return Ok(None) };
    if !matches!(version_command, 0x20 | 0x21) {
        return Err(Bad::Unassigned);
    }
    let is_local = version_command == 0x20;
    let Some(&kind) = rest.get(1) else { return Ok(None) };
    // Of the proxy's own connections the family is not looked at.
    if !is_local && (kind >> 4 > 3 || kind & 0xf > 2) {
        return Err(Bad::Unassigned);
    }
    let Some(&[high, low]) = rest.get(2..4) else { return Ok(None) };
    let len = FIXED_BYTES.saturating_add(usize::from(u16::from_be_bytes([high, low])));
    if len > PREAMBLE_BYTES_MAX {
        return Err(Bad::Long);
    }
    let addresses = match kind {
        _ if is_local => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => 0,
    };
    if len < FIXED_BYTES.saturating_add(addresses) {
        return Err(Bad::Short);
    }
    let Some(whole) = input.get(..len) else { return Ok(None) };
    let block = whole.get(FIXED_BYTES..).unwrap_or_default();
    let source = match kind {
        _ if is_local => Source::Proxy,
        0x11 => v4(block).ok_or(Bad::Short)?,
        0x21 => v6(block).ok_or(Bad::Short)?,
        0x31 => Source::Unix,
        // Datagrams do not come here, and of what is not specified nobody knows where its extensions begin.
        _ => Source::Unknown,
    };
    let secure = match source {
        Source::Client { .. } | Source::Unix => extensions(whole, FIXED_BYTES.saturating_add(addresses))?,
        Source::Proxy | Source::Unknown => false,
    };
    Ok(Some(Preamble { source, secure, len }))
}

fn v4(block: &[u8]) -> Option<Source> {
    let (&from, block) = block.split_first_chunk::<4>()?;
    let (&to, block) = block.split_first_chunk::<4>()?;
    ports(IpAddr::V4(Ipv4Addr::from(from)), IpAddr::V4(Ipv4Addr::from(to)), block)
}

fn v6(block: &[u8]) -> Option<Source> {
    let (&from, block) = block.split_first_chunk::<16>()?;
    let (&to, block) = block.split_first_chunk::<16>()?;
    ports(IpAddr::V6(Ipv6Addr::from(from)), IpAddr::V6(Ipv6Addr::from(to)), block)
}

fn ports(from: IpAddr, to: IpAddr, block: &[u8]) -> Option<Source> {
    let (&from_port, block) = block.split_first_chunk::<2>()?;
    let &to_port = block.first_chunk::<2>()?;
    let (from_port, to_port) = (u16::from_be_bytes(from_port), u16::from_be_bytes(to_port));
    Some(client(SocketAddr::new(from, from_port), SocketAddr::new(to, to_port)))
}

/// Goes through the extensions from `at` on. True if one says that the client came over TLS.
fn extensions(whole: &[u8], at: usize) -> Result<bool, Bad> {
    let mut rest = whole.get(at..).unwrap_or_default();
    let mut secure = false;
    while let Some((&kind, after)) = rest.split_first() {
        let (&len, after) = after.split_first_chunk::<2>().ok_or(Bad::Extension)?;
        let (value, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(len))).ok_or(Bad::Extension)?;
        match kind {
            TLV_CRC32C => {
                let &sum = value.as_array::<4>().ok_or(Bad::Extension)?;
                let end = whole.len().saturating_sub(after.len());
                let (before, behind) = (whole.get(..end.saturating_sub(4)), whole.get(end..));
                let parts = [before.unwrap_or_default(), &[0; 4], behind.unwrap_or_default()];
                if crc32c(parts.into_iter().flatten().copied()) != u32::from_be_bytes(sum) {
                    return Err(Bad::Checksum);
                }
            }
            TLV_SSL => secure |= value.first().ok_or(Bad::Extension)? & CLIENT_SSL != 0,
            _ => {}
        }
        rest = after;
    }
    Ok(secure)
}

/// CRC-32C (Castagnoli), a bit at a time: once a connection, over some hundred bytes.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8)
            .fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogue, and the vectors of RFC 3720 appendix B.4.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
    }
}
