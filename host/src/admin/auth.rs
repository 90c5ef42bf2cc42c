//! Who asks, and whether they may.
//!
//! On the Unix socket it is the kernel that says who the peer is; on TCP a token does. What a browser was made to send is
//! refused wherever it comes from. Nothing that a client sent is repeated, in an answer or in a record.
//!
//! Invariants: tokens are kept as hashes alone, and compared in constant time; whoever shows one that is right gets in,
//! however many wrong ones came from the same address. What keeps guesses from being right is the length of the secrets;
//! that they are slow keeps them from being a burden.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_proto::http1::head::RequestHead;

use super::problem::Problem;
use crate::config::{TokenSettings, ValueError};
use crate::hosting::types::Actor;

/// Bytes of the shortest secret that is one.
const SECRET_BYTES_MIN: usize = 16;
/// Wrong tokens that an address may show before its answers become slow; one more is forgiven each second.
const ATTEMPTS: u32 = 10;
const FORGIVEN_AFTER: Duration = Duration::from_secs(1);
/// Addresses that are told apart. Beyond that they are all one.
const ADDRESSES_MAX: usize = 1024;
/// How often a record is made of those who were turned away.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// The kind of refusal whose answer is to be slow, and the last of its connection.
pub(super) const TOO_MANY_ATTEMPTS: &str = "too-many-attempts";
/// For how long such an answer is held.
pub(super) const HELD: Duration = FORGIVEN_AFTER;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Of the Unix socket: a process of this user.
    User(u32),
    /// Of TCP.
    Address(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A token that opens the door.
struct Token {
    name: String,
    hash: blake3::Hash,
    tenant: Option<String>,
}

/// What the door knows. Clones are of the same door.
#[derive(Clone)]
pub(crate) struct Keys {
    tokens: Arc<[Token]>,
    attempts: Arc<Mutex<Attempts>>,
    refused: Arc<Mutex<Refused>>,
}

impl Keys {
    /// Reads the secrets.
    ///
    /// # Errors
    /// One cannot be read, is too short to be one, or is that of another token too.
    pub(crate) fn read(settings: &[TokenSettings]) -> Result<Self, ValueError> {
        let mut tokens: Vec<Token> = Vec::new();
        for TokenSettings { name, secret, tenant } in settings {
            let text = secret.read()?;
            let text = text.trim_ascii();
            let error = |what: &str| ValueError::new(format!("the secret of the token `{name}` {what}"));
            if text.len() < SECRET_BYTES_MIN {
                let error = error(&format!("is shorter than {SECRET_BYTES_MIN} characters"));
                return Err(error.help("make one with `openssl rand -hex 32`"));
            }
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(error("holds characters that a header cannot carry")
                    .help("make one with `openssl rand -hex 32`"));
            }
            let hash = blake3::hash(text.as_bytes());
            if let Some(other) = tokens.iter().find(|other| other.hash == hash) {
                return Err(error(&format!("is that of `{}` too", other.name)));
            }
            tokens.push(Token { name: name.clone(), hash, tenant: tenant.clone() });
        }
        Ok(Self { tokens: tokens.into(), attempts: Arc::default(), refused: Arc::default() })
    }

    /// Finds out who asks. `own` is the user that the server runs as.
    pub(super) fn actor(&self, peer: Peer, own: u32, head: &RequestHead) -> Result<Actor, Problem> {
        if let Peer::User(uid) = peer
            && uid != own
            && uid != 0
        {
            return Err(Problem::new(403, "forbidden", "the admin socket is its owner's alone"));
        }
        let mut given = head.fields().get_all("authorization");
        match (given.next(), peer) {
            // Whoever may do everything may also do less, with a token.
            (None, Peer::User(uid)) => Ok(Actor { name: format!("uid {uid}"), tenant: None }),
            (None, Peer::Address(_)) => Err(unauthorized("the request has no token")
                .help("send one as `Authorization: Bearer TOKEN`; the tidegate command line reads it from TIDEGATE_TOKEN")),
            (Some(_), _) if given.next().is_some() => {
                Err(unauthorized("the request has more than one Authorization"))
            }
            (Some(value), peer) => self.bearer(peer, value, Instant::now()),
        }
    }

    fn bearer(&self, peer: Peer, value: &[u8], now: Instant) -> Result<Actor, Problem> {
        let shown = strip_scheme(value).map(blake3::hash);
        // All are looked at: how long it takes says nothing of which it was.
        let mut found = None;
        for token in &*self.tokens {
            if shown.is_some_and(|shown| shown == token.hash) {
                found = Some(token);
            }
        }
        if let Some(token) = found {
            return Ok(Actor { name: format!("token {}", token.name), tenant: token.tenant.clone() });
        }
        // Past this the token is wrong: nobody else's wrong ones count against one that is right.
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.fail(peer, now) {
            return Err(unauthorized("the token is not one of this server's"));
        }
        let problem = Problem::new(429, TOO_MANY_ATTEMPTS, "too many wrong tokens from this address");
        Err(problem.field("retry-after", "1").help("the right token is let in all the same"))
    }

    /// Somebody was turned away. Says how often that was if it is time for a record.
    pub(super) fn note_refused(&self, now: Instant) -> Option<u64> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.times = refused.times.saturating_add(1);
        if refused.told.is_some_and(|told| now.saturating_duration_since(told) < RECORD_EVERY) {
            return None;
        }
        refused.told = Some(now);
        Some(std::mem::take(&mut refused.times))
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(401, "unauthorized", detail).field("www-authenticate", "Bearer realm=\"tidegate\"")
}

/// What follows `Bearer ` (RFC 6750).
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// Refuses what a page in somebody's browser may have sent: a request with an Origin and, on TCP, one for a host that is
/// a name (its address may have been changed to ours in the meantime).
pub(super) fn check_site(peer: Peer, head: &RequestHead) -> Result<(), Problem> {
    if head.fields().get("origin").is_some() {
        return Err(Problem::new(403, "cross-site", "requests of web pages are not served here"));
    }
    let host = head.host();
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if matches!(peer, Peer::Address(_)) && host != "localhost" && plain.parse::<IpAddr>().is_err() {
        let problem = Problem::new(403, "cross-site", "the request is for a host by name");
        return Err(problem.help("ask for the address itself, as in `Host: 127.0.0.1:9000`"));
    }
    Ok(())
}

#[derive(Default)]
struct Refused {
    times: u64,
    told: Option<Instant>,
}

/// Wrong tokens, by where they came from.
#[derive(Default)]
struct Attempts(HashMap<Option<Peer>, Bucket>);

#[derive(Clone, Copy)]
struct Bucket {
    failures: u32,
    since: Instant,
}

impl Bucket {
    /// As it stands now.
    fn at(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.since);
        let forgiven = u32::try_from(passed.as_secs() / FORGIVEN_AFTER.as_secs()).unwrap_or(u32::MAX);
        if forgiven == 0 {
            return self;
        }
        Self { failures: self.failures.saturating_sub(forgiven), since: now }
    }
}

impl std::hash::Hash for Peer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self.key() {
            Self::User(uid) => uid.hash(state),
            Self::Address(address) => address.hash(state),
        }
    }
}

impl Peer {
    /// Whoever has one address of IPv6 has many: the upper half counts.
    pub(super) fn key(self) -> Self {
        match self {
            Self::Address(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self::Address(IpAddr::V6(network.into()))
            }
            other => other,
        }
    }
}

impl Attempts {
    fn key(&self, peer: Peer) -> Option<Peer> {
        let key = Some(peer.key());
        if self.0.contains_key(&key) || self.0.len() < ADDRESSES_MAX { key } else { None }
    }

    /// A wrong token was shown. False: there were too many of them lately.
    fn fail(&mut self, peer: Peer, now: Instant) -> bool {
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, bucket| bucket.at(now).failures > 0);
        }
        let bucket = self.0.entry(self.key(peer)).or_insert(Bucket { failures: 0, since: now });
        *bucket = bucket.at(now);
        let few = bucket.failures < ATTEMPTS;
        bucket.failures = bucket.failures.saturating_add(u32::from(few));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use tidegate_proto::http1::head::parse;
    use tidegate_proto::limits::Limits;

    const SECRET: &str = "0123456789abcdef";
    const LOCAL: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn head(lines: &str) -> RequestHead {
        let mut head = RequestHead::default();
        parse(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), &Limits::default(), &mut head).unwrap();
        head
    }

    fn keys(tokens: &[(&str, &str, Option<&str>)]) -> Result<Keys, ValueError> {
        let folder = tempfile::tempdir().unwrap();
        let settings: Vec<_> = tokens
            .iter()
            .map(|(name, secret, tenant)| {
                let path = folder.path().join(name);
                std::fs::write(&path, secret).unwrap();
                TokenSettings {
                    name: (*name).to_owned(),
                    secret: SecretSource::File(path),
                    tenant: tenant.map(str::to_owned),
                }
            })
            .collect();
        Keys::read(&settings)
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        for (tokens, told) in [
            (&[("a", "hush", None)][..], "`a` is shorter than 16"),
            (&[("a", "0123456789 abcdef", None)], "characters that a header cannot carry"),
            (&[("a", SECRET, None), ("b", SECRET, None)], "`b` is that of `a` too"),
        ] {
            let error = keys(tokens).err().unwrap();
            assert!(error.message.contains(told), "{error:?}");
            assert!(tokens.iter().all(|(_, secret, _)| !error.message.contains(secret)), "{error:?}");
        }
        assert!(Keys::read(&[]).is_ok());
    }

    #[test]
    fn the_socket_is_its_owners() {
        let keys = keys(&[("ci", &format!("{SECRET}\n"), Some("acme"))]).unwrap();
        let plain = head("Host: x\r\n");
        assert_eq!(keys.actor(Peer::User(5), 5, &plain).unwrap().name, "uid 5");
        assert_eq!(keys.actor(Peer::User(0), 5, &plain).unwrap().name, "uid 0");
        assert_eq!(keys.actor(Peer::User(6), 5, &plain).unwrap_err().status, 403);
        assert_eq!(keys.actor(Peer::User(6), 0, &plain).unwrap_err().status, 403);
        // A token makes less of an owner, and nothing of anybody else.
        let shown = head(&format!("Host: x\r\nAuthorization: Bearer {SECRET}\r\n"));
        let actor = keys.actor(Peer::User(5), 5, &shown).unwrap();
        assert_eq!((actor.name.as_str(), actor.tenant.as_deref()), ("token ci", Some("acme")));
        assert_eq!(keys.actor(Peer::User(6), 5, &shown).unwrap_err().status, 403);
    }

    #[test]
    fn on_tcp_a_token_is_needed() {
        let keys = keys(&[("ci", SECRET, None)]).unwrap();
        for good in ["Bearer ", "bearer ", "BEARER   "] {
            let head = head(&format!("Host: x\r\nAuthorization: {good}{SECRET}\r\n"));
            assert_eq!(keys.actor(LOCAL, 0, &head).unwrap().name, "token ci");
        }
        for bad in [
            String::new(),
            format!("Authorization: {SECRET}\r\n"),
            format!("Authorization: Basic {SECRET}\r\n"),
            format!("Authorization: Bearer {SECRET}0\r\n"),
            format!("Authorization: Bearer {}\r\n", &SECRET[1..]),
            "Authorization: Bearer \r\n".to_owned(),
            format!("Authorization: Bearer {SECRET}\r\nAuthorization: Bearer {SECRET}\r\n"),
        ] {
            let problem = keys.actor(LOCAL, 0, &head(&format!("Host: x\r\n{bad}"))).unwrap_err();
            assert_eq!(problem.status, 401, "{bad:?}");
            assert_eq!(problem.field.as_ref().unwrap().0, "www-authenticate");
            assert!(!problem.detail.contains("012345"), "{problem:?}");
        }
    }

    #[test]
    fn wrong_tokens_come_at_a_bounded_rate_and_keep_no_right_one_out() {
        let keys = keys(&[("ci", SECRET, None)]).unwrap();
        let (start, right) = (Instant::now(), format!("Bearer {SECRET}"));
        let wrong = |now| keys.bearer(LOCAL, b"Bearer guess", now).unwrap_err();
        for _ in 0..ATTEMPTS {
            assert_eq!(wrong(start).status, 401);
        }
        for _ in 0..1000 {
            let problem = wrong(start);
            assert_eq!((problem.status, problem.kind), (429, TOO_MANY_ATTEMPTS));
            assert_eq!(keys.bearer(LOCAL, right.as_bytes(), start).unwrap().name, "token ci");
        }
        let other = Peer::Address("192.0.2.1".parse().unwrap());
        assert_eq!(keys.bearer(other, b"Bearer guess", start).unwrap_err().status, 401);
        let later = start + FORGIVEN_AFTER;
        assert_eq!((wrong(later).status, wrong(later).status), (401, 429));
    }

    #[test]
    fn addresses_are_bounded_in_number_too() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let few =
            (0..5000_u32).filter(|n| attempts.fail(Peer::Address(IpAddr::V4((*n).into())), now)).count();
        assert_eq!(few, ADDRESSES_MAX + ATTEMPTS as usize);
        assert!(attempts.0.len() <= ADDRESSES_MAX + 1);
        let stranger = Peer::Address("203.0.113.1".parse().unwrap());
        assert!(!attempts.fail(stranger, now), "those who are not told apart share their attempts");
        let later = now + FORGIVEN_AFTER * 10_000;
        assert!(attempts.fail(stranger, later) && attempts.0.len() < 3);
        let half = |last: u16| Peer::Address(IpAddr::V6(format!("2001:db8::{last}").parse().unwrap()));
        assert_eq!(half(1).key(), half(2).key());
    }

    #[test]
    fn what_browsers_send_is_refused() {
        for (lines, tcp, unix) in [
            ("Host: 127.0.0.1:9000\r\n", true, true),
            ("Host: [::1]:9000\r\n", true, true),
            ("Host: localhost\r\n", true, true),
            ("Host: evil.example\r\n", false, true),
            ("Host: 127.0.0.1.evil.example\r\n", false, true),
            ("Host:\r\n", false, true),
            ("Host: 127.0.0.1\r\nOrigin: null\r\n", false, false),
            ("Host: localhost\r\nOrigin: http://127.0.0.1\r\n", false, false),
        ] {
            assert_eq!(check_site(LOCAL, &head(lines)).is_ok(), tcp, "{lines:?}");
            assert_eq!(check_site(Peer::User(0), &head(lines)).is_ok(), unix, "{lines:?}");
        }
    }

    #[test]
    fn records_of_refusals_are_bounded_and_count() {
        let keys = keys(&[]).unwrap();
        let now = Instant::now();
        let told: Vec<_> = (0..5).map(|_| keys.note_refused(now)).collect();
        assert_eq!(told, [Some(1), None, None, None, None]);
        assert_eq!(keys.note_refused(now + RECORD_EVERY), Some(5));
    }
}
