//! What proxies say: preambles and fields by their vectors, in any split, and damaged.

use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_proto::edge::forwarded::{Family, Origin, origin};
use tidegate_proto::edge::proxy::{Bad, PREAMBLE_BYTES_MAX, Preamble, Source, parse};
use tidegate_proto::http1::fields::Fields;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    case: Vec<T>,
}

fn load<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/tests/vectors/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    toml::from_str::<File<T>>(&text).unwrap_or_else(|error| panic!("{path}: {error}")).case
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap_or_else(|_| panic!("{c:?} stands for no byte"))).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreambleCase {
    name: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    hex: String,
    #[serde(default)]
    zeros: usize,
    expect: String,
    #[serde(default)]
    rest: usize,
}

impl PreambleCase {
    fn input(&self) -> Vec<u8> {
        let mut input = latin1(&self.text);
        let digits: String = self.hex.split(' ').collect();
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("pairs of digits");
        input.extend((0..digits.len()).step_by(2).map(pair));
        input.resize(input.len() + self.zeros, 0);
        input
    }
}

static PREAMBLES: LazyLock<Vec<PreambleCase>> = LazyLock::new(|| load("proxy"));

fn told(outcome: Result<Option<Preamble>, Bad>) -> String {
    let preamble = match outcome {
        Ok(None) => return "more".to_owned(),
        Ok(Some(preamble)) => preamble,
        Err(bad) => return format!("refused: {bad:?}"),
    };
    let source = match preamble.source {
        Source::Client { from, to } => format!("{from} -> {to}"),
        Source::Proxy => "proxy".to_owned(),
        Source::Unix => "unix".to_owned(),
        Source::Unknown => "unknown".to_owned(),
    };
    if preamble.secure { format!("{source} over tls") } else { source }
}

#[test]
fn preambles() {
    assert!(PREAMBLES.len() > 60, "the file holds every case: {}", PREAMBLES.len());
    for case in PREAMBLES.iter() {
        let (name, input) = (&case.name, case.input());
        let outcome = parse(&input);
        assert_eq!(told(outcome), case.expect, "{name}");
        if let Ok(Some(preamble)) = outcome {
            assert_eq!(input.len() - preamble.len, case.rest, "{name}");
            assert!(preamble.len <= PREAMBLE_BYTES_MAX, "{name}");
        }
    }
}

/// What the first bytes said stays so, whatever follows them. That way no split makes a difference.
fn check_prefixes(input: &[u8]) {
    let mut before = Ok(None);
    for len in 0..=input.len() {
        let now = parse(&input[..len]);
        if before != Ok(None) {
            assert_eq!(now, before, "{:?} at {len}", input.escape_ascii().to_string());
        }
        if let Ok(Some(preamble)) = now {
            assert!(preamble.len <= len);
        }
        before = now;
    }
    if input.len() >= PREAMBLE_BYTES_MAX {
        assert_ne!(before, Ok(None), "it would go on for ever");
    }
}

#[test]
fn no_split_of_a_preamble_makes_a_difference() {
    for case in PREAMBLES.iter() {
        let mut input = case.input();
        check_prefixes(&input);
        if case.expect != "more" {
            input.extend_from_slice(b"PROXY UNKNOWN\r\n");
            assert_eq!(told(parse(&input)), case.expect, "{} with more behind it", case.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_preambles_bring_nothing_down(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut input = which.get(&PREAMBLES).input();
        input.truncate(300);
        for (at, byte) in damage {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        check_prefixes(&input);
        let cut = cut.index(input.len() + 1);
        input.drain(..cut);
        check_prefixes(&input);
    }

    #[test]
    fn any_header_of_version_2_is_taken_or_refused(
        kinds in any::<(u8, u8)>(),
        len in 0_u16..300,
        block in prop::collection::vec(any::<u8>(), 0..320),
    ) {
        let mut input = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        let known = kinds.0 % 2 == 0;
        input.push(if known { 0x21 } else { kinds.0 });
        input.push(if known { [0x11, 0x21, 0x31, 0x00][usize::from(kinds.1 % 4)] } else { kinds.1 });
        input.extend_from_slice(&len.to_be_bytes());
        input.extend_from_slice(&block);
        check_prefixes(&input);
        let whole = input.len() >= 16 + usize::from(len);
        prop_assert!(!whole || parse(&input) != Ok(None));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsCase {
    name: String,
    fields: Vec<Line>,
    client: Option<String>,
    secure: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    One(String),
    Many { repeat: String, times: usize },
}

impl FieldsCase {
    fn lines(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let lines = self.fields.iter().flat_map(|line| match line {
            Line::One(line) => vec![line.as_str()],
            Line::Many { repeat, times } => vec![repeat.as_str(); *times],
        });
        let parts = lines.map(|line| line.split_once(':').expect("`name: value`"));
        parts.map(|(name, value)| (latin1(name), latin1(value.trim_matches(' ')))).collect()
    }
}

static FIELDS: LazyLock<Vec<FieldsCase>> = LazyLock::new(|| load("forwarded"));

fn fields_of(lines: &[(Vec<u8>, Vec<u8>)]) -> (Fields, Family) {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.push(name, value));
    let family = fields.iter().find_map(|(name, _)| Family::of(name)).unwrap_or_default();
    (fields, family)
}

fn trusts(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.octets()[0] == 10,
        IpAddr::V6(addr) => addr.octets()[0] == 0xfd,
    }
}

#[test]
fn fields() {
    assert!(FIELDS.len() > 50, "the file holds every case: {}", FIELDS.len());
    for case in FIELDS.iter() {
        let (fields, family) = fields_of(&case.lines());
        let client = case.client.as_ref().map(|addr| addr.parse().expect("an address"));
        assert_eq!(origin(&fields, family, trusts), Origin { client, secure: case.secure }, "{}", case.name);
    }
}

/// The client's own address, as the proxy in front of us wrote it.
const TRUE: &str = "203.0.113.9";

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_fields_bring_nothing_down(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut lines = which.get(&FIELDS).lines();
        for (at, byte) in damage {
            let line = at.index(lines.len());
            let value = &mut lines[line].1;
            if !value.is_empty() {
                let at = at.index(value.len());
                value[at] = byte;
            }
        }
        let (fields, family) = fields_of(&lines);
        let found = origin(&fields, family, |_| false);
        let all = origin(&fields, family, |_| true);
        // Whoever trusts nobody takes the last address, and whoever trusts everybody the first.
        prop_assert!(all.client.is_none() || found.client.is_some());
    }

    /// Whatever a client sends, it does not become another's address behind a proxy that adds to it.
    #[test]
    fn no_client_is_another(
        sent in prop::collection::vec("[ -~\t\u{80}-\u{ff}]{0,40}", 0..3),
        made_up in any::<bool>(),
        own_line in any::<bool>(),
    ) {
        for (name, mine) in [("x-forwarded-for", TRUE.to_owned()), ("forwarded", format!("for={TRUE}"))] {
            let mut lines: Vec<_> = sent.iter().map(|value| (latin1(name), latin1(value))).collect();
            if made_up {
                lines.push((latin1(name), latin1(if name == "forwarded" { "for=10.0.0.1" } else { "10.0.0.1" })));
            }
            match lines.last_mut() {
                Some((_, value)) if !own_line => {
                    value.extend_from_slice(b", ");
                    value.extend_from_slice(mine.as_bytes());
                }
                _ => lines.push((latin1(name), mine.into_bytes())),
            }
            let (fields, family) = fields_of(&lines);
            let client = origin(&fields, family, trusts).client.map(|addr| addr.ip().to_string());
            if own_line || name != "forwarded" {
                prop_assert_eq!(client.as_deref(), Some(TRUE));
            } else {
                // Quotes that the client opened may swallow what the proxy added: then there is nobody.
                prop_assert!(client.is_none() || client.as_deref() == Some(TRUE), "{:?}", client);
            }
        }
    }
}
