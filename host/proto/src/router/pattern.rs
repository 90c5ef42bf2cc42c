//! A route as it is written, taken apart and checked. Knows nothing of matching.

use super::RouteError;

/// More segments than this in one pattern are refused: matching descends one call a segment.
const SEGMENTS_MAX: usize = 64;

/// The host part of a pattern, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// None given: any host, and no host.
    Any,
    /// This host alone.
    Exact(String),
    /// Every host that ends in a dot and this one.
    Below(String),
}

/// One segment of a pattern's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Param,
    /// `*`: the path may end here, or go on.
    Rest,
}

/// A checked pattern. `Rest` stands last or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) host: HostPattern,
    pub(super) segments: Vec<Segment>,
    /// The parameters' names, in order.
    pub(super) names: Vec<Box<str>>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, RouteError> {
        let invalid = |reason| RouteError::Syntax { pattern: text.to_owned(), reason };
        let Some((host, path)) = text.split_once('/') else {
            return Err(invalid("a path is missing; everything on a host is `host/*`, on any host `/*`"));
        };
        let host = parse_host(host).map_err(invalid)?;
        let mut segments = Vec::new();
        let mut names: Vec<Box<str>> = Vec::new();
        for part in path.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(invalid("`*` may only be the last segment"));
            }
            if segments.len() == SEGMENTS_MAX {
                return Err(invalid("it has more than 64 segments"));
            }
            let (segment, name) = parse_segment(part).map_err(invalid)?;
            if let Some(name) = name {
                if names.iter().any(|known| **known == *name) {
                    return Err(RouteError::DuplicateParameter {
                        pattern: text.to_owned(),
                        name: name.to_owned(),
                    });
                }
                names.push(name.into());
            }
            segments.push(segment);
        }
        Ok(Self { host, segments, names })
    }
}

/// A segment, and its name when it is a parameter.
fn parse_segment(part: &str) -> Result<(Segment, Option<&str>), &'static str> {
    if part == "*" {
        return Ok((Segment::Rest, None));
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let mut bytes = name.bytes();
        let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
        if !starts_well || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err("a parameter's name is made of letters, digits and `_`, and begins with no digit");
        }
        return Ok((Segment::Param, Some(name)));
    }
    check_literal(part)?;
    Ok((Segment::Literal(part.to_owned()), None))
}

/// RFC 3986 section 3.3: pchar, apart from `*`. What no request can carry would be a route that never matches.
fn check_literal(part: &str) -> Result<(), &'static str> {
    let decoded = part.to_ascii_lowercase().replace("%2e", ".");
    if decoded == "." || decoded == ".." {
        return Err("dot segments are refused in requests, so this would never match");
    }
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'}' => return Err("`{name}` must be a whole segment"),
            b'*' => return Err("`*` must be a whole segment, the last one"),
            b'?' | b'#' => return Err("a route has no query and no fragment"),
            b'%' => {
                let escaped = [bytes.next(), bytes.next()];
                if !escaped.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())) {
                    return Err("two hexadecimal digits must follow a `%`");
                }
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte) => {}
            _ if byte.is_ascii() => return Err("a character in it cannot stand in a path"),
            _ => return Err("characters outside of ASCII are written percent-encoded"),
        }
    }
    Ok(())
}

fn parse_host(text: &str) -> Result<HostPattern, &'static str> {
    if text.is_empty() {
        return Ok(HostPattern::Any);
    }
    let lower = text.to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix("*.") {
        return check_name(rest).map(|name| HostPattern::Below(name.to_owned()));
    }
    if let Some(inner) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<core::net::Ipv6Addr>() {
            Ok(_) => Ok(HostPattern::Exact(lower)),
            Err(_) => Err("the host is not an IPv6 address"),
        };
    }
    check_name(&lower).map(|name| HostPattern::Exact(name.to_owned()))
}

/// A name, or an IPv4 address, without its trailing dot.
fn check_name(host: &str) -> Result<&str, &'static str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.contains('*') {
        return Err(
            "`*` stands for the first labels of a host, as in `*.example.com`; any host is no host at all",
        );
    }
    if host.ends_with(':') {
        return Err("a host is given without a scheme, as in `example.com/*`");
    }
    if host.contains(':') {
        return Err("a host is given without a port");
    }
    if host.is_empty() || host.split('.').any(str::is_empty) {
        return Err("the host has an empty label");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err("the host has a character that no host name has");
    }
    Ok(host)
}
