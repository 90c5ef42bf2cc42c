//! A route's pattern: how it is written, and how specific it is for a path.
//!
//! Written as those of tidegate's own routes are, and matched with the same precedence. The patterns are not made into
//! anything when a router is built: a fresh instance builds it for one request, and looks at most of them once.

use std::fmt;

/// More segments than this in one pattern are refused: what is known of each has its place in a [`Rank`].
const SEGMENTS_MAX: usize = 64;

/// The name of the parameter that `*` is.
pub(super) const REST: &str = "*";

/// A segment of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'p> {
    Literal(&'p str),
    Param(&'p str),
    Rest,
}

impl<'p> Segment<'p> {
    /// Of a pattern that was checked.
    fn of(part: &'p str) -> Self {
        match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => Self::Param(name),
            None if part == REST => Self::Rest,
            None => Self::Literal(part),
        }
    }

    /// The smaller, the more specific.
    fn kind(self) -> u128 {
        match self {
            Self::Literal(_) => 0,
            Self::Param(_) => 1,
            Self::Rest => 2,
        }
    }
}

/// The segments of a pattern, or of a prefix, which may be empty and then has none.
fn segments(pattern: &str) -> impl Iterator<Item = Segment<'_>> {
    pattern.split('/').skip(1).map(Segment::of)
}

/// How specific a match is: two bits for each segment, the first of them in front. The smaller wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u128);

/// How far a path has been matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit<'a> {
    rank: u128,
    depth: usize,
    /// The segments that are left, without a slash in front; `None` if the path has ended.
    left: Option<&'a str>,
}

impl<'a> Fit<'a> {
    /// A path of which nothing is matched yet. What does not begin with a slash is no path: `*`, for one.
    pub(super) fn start(path: &'a str) -> Option<Self> {
        path.strip_prefix('/').map(|left| Self { rank: 0, depth: 0, left: Some(left) })
    }

    /// Matches the beginning of what is left. Nothing left is `/`, so that a nested `/` is the prefix itself.
    pub(super) fn prefix(self, prefix: &str) -> Option<Self> {
        let mut fit = self.along(prefix, |_, _| {})?;
        fit.left = fit.left.or(Some(""));
        Some(fit)
    }

    /// Matches all that is left.
    pub(super) fn whole(self, pattern: &str) -> Option<Rank> {
        let fit = self.along(pattern, |_, _| {})?;
        fit.left.is_none().then_some(Rank(fit.rank))
    }

    /// How specific it is to know no more than this.
    pub(super) fn rank(self) -> Rank {
        Rank(self.with(Segment::Rest).rank)
    }

    /// Tells `found` names and raw values of the parameters of `pattern`.
    pub(super) fn along<'p>(
        mut self,
        pattern: &'p str,
        mut found: impl FnMut(&'p str, &'a str),
    ) -> Option<Self> {
        for segment in segments(pattern) {
            if segment == Segment::Rest {
                found(REST, self.left.unwrap_or_default());
                self.left = None;
                return Some(self.with(segment));
            }
            let (part, left) = match self.left?.split_once('/') {
                Some((part, left)) => (part, Some(left)),
                None => (self.left?, None),
            };
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Param(name) if !part.is_empty() => found(name, part),
                _ => return None,
            }
            self.left = left;
            self = self.with(segment);
        }
        Some(self)
    }

    fn with(mut self, segment: Segment<'_>) -> Self {
        // Depths above the limit are refused when a router is built.
        self.rank |= segment.kind() << (126 - 2 * self.depth.min(SEGMENTS_MAX - 1));
        self.depth += 1;
        self
    }
}

/// Why a pattern cannot be a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Syntax(&'static str),
    /// It names two segments the same.
    Twice(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => f.write_str(reason),
            Self::Twice(name) => write!(f, "it has the parameter `{name}` twice"),
        }
    }
}

/// Checks a pattern that stands behind `prefix`, which was checked, and gives the shape of both: a number that is the same
/// for all that match the same paths, so that few have to be compared.
pub(super) fn check(prefix: &str, pattern: &str) -> Result<u32, Fault> {
    let mut shape = Shape::of(prefix);
    // Most patterns have nothing in them that could be wrong, and are looked at once.
    if prefix.len() + pattern.len() <= SEGMENTS_MAX && shape.add_plain(pattern) {
        return Ok(shape.0);
    }
    check_slowly(prefix, pattern)?;
    let mut shape = Shape::of(prefix);
    shape.add(pattern);
    Ok(shape.0)
}

fn check_slowly(prefix: &str, pattern: &str) -> Result<(), Fault> {
    if !pattern.starts_with('/') {
        return Err(Fault::Syntax("it must begin with a `/`"));
    }
    let before = prefix.matches('/').count();
    let mut ended = false;
    for (index, part) in pattern.split('/').skip(1).enumerate() {
        if ended {
            return Err(Fault::Syntax("`*` may only be the last segment"));
        }
        if before + index >= SEGMENTS_MAX {
            return Err(Fault::Syntax("it has more than 64 segments"));
        }
        ended = part == REST;
        if let Some(name) = check_segment(part).map_err(Fault::Syntax)? {
            let mut others = segments(prefix).chain(segments(pattern).take(index));
            if others.any(|segment| segment == Segment::Param(name)) {
                return Err(Fault::Twice(name.to_owned()));
            }
        }
    }
    Ok(())
}

/// Checks where a router is nested. It is `""` or ends without a slash.
pub(super) fn check_prefix(prefix: &str) -> Result<(), Fault> {
    if prefix.is_empty() {
        return Ok(());
    }
    check_slowly("", prefix)?;
    if prefix.ends_with('/') {
        return Err(Fault::Syntax("a prefix ends without a `/`"));
    }
    if prefix.ends_with("/*") {
        return Err(Fault::Syntax("a prefix goes without `*`: all that is below it is meant"));
    }
    Ok(())
}

/// The name, if the segment is a parameter.
fn check_segment(part: &str) -> Result<Option<&str>, &'static str> {
    match Segment::of(part) {
        Segment::Rest => Ok(None),
        Segment::Param(name) => {
            let mut bytes = name.bytes();
            let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
            if !starts_well || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(
                    "a parameter's name is made of letters, digits and `_`, and begins with no digit",
                );
            }
            Ok(Some(name))
        }
        Segment::Literal(text) => check_literal(text).map(|()| None),
    }
}

/// RFC 3986 section 3.3: pchar, apart from `*`. What no request can carry would be a route that never matches.
fn check_literal(part: &str) -> Result<(), &'static str> {
    if part.starts_with(':') {
        return Err("a parameter is written `{name}`, not `:name` (a literal `:` in front is `%3A`)");
    }
    if is_dots(part) {
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

/// True for `.` and `..`, percent-encoded or not.
fn is_dots(part: &str) -> bool {
    let mut left = part;
    let mut dots = 0;
    while let Some(rest) =
        left.strip_prefix('.').or_else(|| left.strip_prefix("%2e")).or_else(|| left.strip_prefix("%2E"))
    {
        (left, dots) = (rest, dots + 1);
    }
    left.is_empty() && matches!(dots, 1 | 2)
}

/// True if two patterns behind their prefixes match exactly the same paths.
pub(super) fn is_same((prefix, pattern): (&str, &str), (other_prefix, other): (&str, &str)) -> bool {
    let one = segments(prefix).chain(segments(pattern));
    let two = segments(other_prefix).chain(segments(other));
    one.map(anonymous).eq(two.map(anonymous))
}

fn anonymous(segment: Segment<'_>) -> Segment<'_> {
    if let Segment::Param(_) = segment { Segment::Param("") } else { segment }
}

/// A hash of patterns in which parameters have no names (FNV-1a).
struct Shape(u32);

impl Shape {
    fn of(prefix: &str) -> Self {
        let mut shape = Self(0x811c_9dc5);
        shape.add(prefix);
        shape
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }

    fn add(&mut self, pattern: &str) {
        for segment in segments(pattern) {
            self.byte(b'/');
            match segment {
                Segment::Literal(text) => text.bytes().for_each(|byte| self.byte(byte)),
                Segment::Param(_) => self.byte(b'{'),
                Segment::Rest => self.byte(b'*'),
            }
        }
    }

    /// The same for a pattern of letters, digits, `-` and `_` alone, which needs no other check. False, and nothing is
    /// known, for any other.
    fn add_plain(&mut self, pattern: &str) -> bool {
        for byte in pattern.bytes() {
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'/' | b'-' | b'_') {
                return false;
            }
            self.byte(byte);
        }
        pattern.starts_with('/')
    }
}
