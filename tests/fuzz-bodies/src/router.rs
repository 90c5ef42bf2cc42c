//! Patterns and lookups, held against a reader that tries every pattern.

use tidegate_proto::router::{Claim, Params, RouteError, RouterBuilder};

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = 2048;
const PATTERNS_MAX: usize = 24;

/// How specific a match is, the smaller the more: the kind of host, how short a wildcard's is, the kinds of segments.
type Rank = (u8, usize, Vec<u8>);

/// A pattern that was taken, apart. What is no pattern never comes here.
#[derive(Debug)]
struct Taken<'a> {
    text: &'a str,
    host: String,
    segments: Vec<&'a str>,
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

impl<'a> Taken<'a> {
    fn of(text: &'a str) -> Self {
        let (host, path) = text.split_once('/').expect("a path");
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        Self { text, host, segments: path.split('/').collect() }
    }

    /// Whether both match the same requests.
    fn same(&self, other: &Self) -> bool {
        let alike = |(one, other): (&&str, &&str)| one == other || (is_parameter(one) && is_parameter(other));
        self.host == other.host
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(alike)
    }

    fn rank(&self, host: &str, path: &str) -> Option<Rank> {
        let host = host.to_ascii_lowercase();
        let (class, shortness) = match self.host.strip_prefix("*.") {
            Some(domain) => {
                let label = host.strip_suffix(domain)?.strip_suffix('.')?;
                (!label.is_empty()).then_some((1, usize::MAX - domain.len()))?
            }
            None if self.host.is_empty() => (2, 0),
            None => (self.host == host).then_some((0, 0))?,
        };
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut kinds = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            match (*segment, parts.get(at)) {
                ("*", _) => {
                    kinds.push(2);
                    return Some((class, shortness, kinds));
                }
                (segment, Some(part)) if is_parameter(segment) && !part.is_empty() => kinds.push(1),
                (segment, Some(part)) if !is_parameter(segment) && segment == *part => kinds.push(0),
                _ => return None,
            }
        }
        (parts.len() == self.segments.len()).then_some((class, shortness, kinds))
    }

    /// Values of the parameters, and the bytes in front of what `*` stands for.
    fn values<'p>(&self, path: &'p str) -> (Vec<&'p str>, usize) {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let values = self.segments.iter().zip(&parts).filter(|(segment, _)| is_parameter(segment));
        let values = values.map(|(_, part)| *part).collect();
        let before = self.segments.len() - 1;
        let rest = self.segments.last() == Some(&"*");
        let mount = if rest { parts.iter().take(before).map(|part| part.len() + 1).sum() } else { 0 };
        (values, mount)
    }
}

/// Choices: how many of the lines are patterns. The rest are lines, and of those that are left one a request, as
/// `host/path`.
pub fn router(input: &[u8]) {
    let mut choices = Choices::new(input);
    let patterns = usize::from(choices.byte()) % PATTERNS_MAX;
    let Ok(text) = std::str::from_utf8(choices.rest(INPUT_BYTES_MAX)) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let (patterns, requests) = lines.split_at(patterns.min(lines.len()));
    let mut builder = RouterBuilder::new();
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for pattern in patterns {
        let claim = Claim::parse(pattern);
        match builder.insert(pattern, taken.len()) {
            Ok(()) => {
                let new = Taken::of(pattern);
                assert!(!taken.iter().any(|old| old.same(&new)), "{pattern:?} is there already");
                taken.push(new);
            }
            Err(RouteError::Conflict { other, .. }) => {
                let old = taken.iter().find(|old| old.text == other).expect("one that was taken");
                assert!(old.same(&Taken::of(pattern)), "{pattern:?} is not {other:?}");
            }
            Err(error) => {
                assert_eq!(claim.err(), Some(error), "{pattern:?}");
                continue;
            }
        }
        assert!(claim.is_ok(), "{pattern:?}");
    }
    let router = builder.build();
    assert_eq!(router.len(), taken.len());
    let mut params = Params::default();
    for request in requests {
        let (host, path) = request.split_at(request.find('/').unwrap_or(request.len()));
        let ranked = taken.iter().filter_map(|one| Some((one.rank(host, path)?, one)));
        let best = ranked.min_by(|one, other| one.0.cmp(&other.0)).map(|(_, one)| one);
        let found = router.find(host, path, &mut params);
        assert_eq!(found.as_ref().map(|found| found.pattern), best.map(|best| best.text), "{request:?}");
        let (Some(found), Some(best)) = (found, best) else { continue };
        let values: Vec<&str> = params.iter().map(|(_, range)| &path[range]).collect();
        assert_eq!((values, found.mount_len), best.values(path), "{request:?}");
    }
    check_claims(&taken, requests);
}

/// A request that both match is one where they meet; and who is within another matches nothing that the other does not.
fn check_claims(taken: &[Taken<'_>], requests: &[&str]) {
    let claims: Vec<_> = taken.iter().filter_map(|one| Claim::parse(one.text).ok()).collect();
    for (one, claim) in taken.iter().zip(&claims) {
        for (other, whole) in taken.iter().zip(&claims) {
            assert_eq!(claim.meets(whole), whole.meets(claim), "{:?} and {:?}", one.text, other.text);
            assert!(!claim.is_within(whole) || claim.meets(whole), "{:?} in {:?}", one.text, other.text);
            for request in requests {
                let (host, path) = request.split_at(request.find('/').unwrap_or(request.len()));
                let (a, b) = (one.rank(host, path).is_some(), other.rank(host, path).is_some());
                assert!(!(a && b) || claim.meets(whole), "{request:?}: {:?} and {:?}", one.text, other.text);
                assert!(
                    !a || b || !claim.is_within(whole),
                    "{request:?}: {:?} in {:?}",
                    one.text,
                    other.text
                );
            }
        }
    }
}
