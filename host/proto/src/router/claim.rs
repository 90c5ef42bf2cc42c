//! Whether patterns meet: for whoever says whose routes may be where. Knows nothing of whom they are for.

use super::RouteError;
use super::pattern::{HostPattern, Pattern, Segment};

/// A checked pattern that others are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim(Pattern);

impl Claim {
    /// # Errors
    /// The text is not a pattern.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        Pattern::parse(text).map(Self)
    }

    /// True if every request that `self` matches is one that `whole` matches.
    pub fn is_within(&self, whole: &Self) -> bool {
        host_within(&self.0.host, &whole.0.host) && path_within(&self.0.segments, &whole.0.segments)
    }

    /// True if there is a request that both match.
    pub fn meets(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (host_within(&a.host, &b.host) || host_within(&b.host, &a.host))
            && paths_meet(&a.segments, &b.segments)
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Two host patterns meet only where one is within the other.
fn host_within(host: &HostPattern, whole: &HostPattern) -> bool {
    match (host, whole) {
        (_, HostPattern::Any) => true,
        (HostPattern::Exact(host), HostPattern::Exact(whole)) => host == whole,
        (HostPattern::Exact(host), HostPattern::Below(domain)) => is_below(host, domain),
        (HostPattern::Below(host), HostPattern::Below(domain)) => host == domain || is_below(host, domain),
        (HostPattern::Any, _) | (HostPattern::Below(_), HostPattern::Exact(_)) => false,
    }
}

fn path_within(path: &[Segment], whole: &[Segment]) -> bool {
    match (path.split_first(), whole.split_first()) {
        (_, Some((Segment::Rest, _))) | (None, None) => true,
        (Some((one, path)), Some((other, whole))) => {
            let covered = match (one, other) {
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                (Segment::Literal(one), Segment::Param) => !one.is_empty(),
                (Segment::Param, Segment::Param) => true,
                _ => false,
            };
            covered && path_within(path, whole)
        }
        _ => false,
    }
}

fn paths_meet(one: &[Segment], other: &[Segment]) -> bool {
    match (one.split_first(), other.split_first()) {
        (Some((Segment::Rest, _)), _) | (_, Some((Segment::Rest, _))) | (None, None) => true,
        (Some((a, one)), Some((b, other))) => {
            let meet = match (a, b) {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Literal(text), Segment::Param) | (Segment::Param, Segment::Literal(text)) => {
                    !text.is_empty()
                }
                _ => true,
            };
            meet && paths_meet(one, other)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        Claim::parse(text).unwrap()
    }

    #[test]
    fn what_is_within() {
        let table = [
            ("a.example/x", "a.example/*", true),
            ("a.example/*", "a.example/*", true),
            ("A.example/x/y", "a.example/x/*", true),
            ("a.example/x", "a.example/x/*", true),
            ("a.example/*", "a.example/x/*", false),
            ("b.example/x", "a.example/*", false),
            ("/x", "a.example/*", false),
            ("a.example/x", "/*", true),
            ("x.a.example/", "*.a.example/*", true),
            ("*.x.a.example/y", "*.a.example/*", true),
            ("*.a.example/y", "*.a.example/*", true),
            ("a.example/", "*.a.example/*", false),
            ("evila.example/", "*.a.example/*", false),
            ("*.example/", "*.a.example/*", false),
            ("/u/{id}", "/u/{name}", true),
            ("/u/7", "/u/{name}", true),
            ("/u/", "/u/{name}", false),
            ("/u/{id}", "/u/7", false),
            ("/u/{id}/*", "/u/{id}", false),
        ];
        for (route, whole, within) in table {
            assert_eq!(claim(route).is_within(&claim(whole)), within, "{route} in {whole}");
        }
    }

    #[test]
    fn what_meets() {
        let table = [
            ("a.example/*", "/x", true),
            ("a.example/x", "b.example/x", false),
            ("*.a.example/*", "x.a.example/y", true),
            ("/u/{id}", "/u/7", true),
            ("/u/{id}/a", "/u/7/b", false),
            ("/u/{id}", "/u/", false),
            ("/a/*", "/a", true),
            ("/a/*", "/ab", false),
            ("/a", "/a/b", false),
        ];
        for (one, other, meets) in table {
            assert_eq!(claim(one).meets(&claim(other)), meets, "{one} and {other}");
            assert_eq!(claim(other).meets(&claim(one)), meets, "{other} and {one}");
        }
    }
}
