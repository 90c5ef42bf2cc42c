//! A version that serves some of its app's requests: which ones, and how it does.

use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_proto::http1::fields::{Fields, is_token, trim_ows};

use crate::config::ValueError;

/// Which requests a canary gets: those that fit any part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Hundredths of all requests.
    percent: u8,
    header: Option<(String, Option<String>)>,
    cookie: Option<(String, Option<String>)>,
}

impl Chosen {
    /// `header` is `name` or `name: value`, `cookie` is `name` or `name=value`.
    ///
    /// # Errors
    /// One of them cannot be a header or a cookie, or nothing is chosen.
    pub(crate) fn parse(percent: u8, header: Option<&str>, cookie: Option<&str>) -> Result<Self, ValueError> {
        if percent > 100 {
            return Err(ValueError::new(format!("{percent} hundredths of the requests are more than all")));
        }
        let part = |text: &str, between: char, what: &str| {
            let (name, value) = match text.split_once(between) {
                Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
                None => (text.trim(), None),
            };
            if is_token(name.as_bytes()) {
                return Ok((name.to_owned(), value));
            }
            Err(ValueError::new(format!("`{}` cannot be the name of a {what}", name.escape_default())))
        };
        let header = header.map(|text| part(text, ':', "header")).transpose()?;
        let cookie = cookie.map(|text| part(text, '=', "cookie")).transpose()?;
        if percent == 0 && header.is_none() && cookie.is_none() {
            return Err(ValueError::new("it says of no request that it is the canary's")
                .help("give it a percentage, a header or a cookie"));
        }
        let header = header.map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Self { percent, header, cookie })
    }

    /// Whether a request with these headers is the canary's. `draw` is different from request to request.
    pub(crate) fn includes(&self, fields: &Fields, draw: u64) -> bool {
        // Neighbouring numbers fall far from each other, so that a few requests in a row are shared out, too.
        let lot = (draw.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100;
        lot < u64::from(self.percent) || self.fits_header(fields) || self.fits_cookie(fields)
    }

    fn fits_header(&self, fields: &Fields) -> bool {
        let Some((name, wanted)) = &self.header else { return false };
        fields.get_all(name).any(|value| wanted.as_ref().is_none_or(|wanted| value == wanted.as_bytes()))
    }

    fn fits_cookie(&self, fields: &Fields) -> bool {
        let Some((name, wanted)) = &self.cookie else { return false };
        let pairs = fields.get_all("cookie").flat_map(|value| value.split(|byte| *byte == b';'));
        pairs.map(trim_ows).any(|pair| {
            let (known, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            known == name.as_bytes() && wanted.as_ref().is_none_or(|wanted| value == wanted.as_bytes())
        })
    }
}

/// How the requests of a version go.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    /// A request is over.
    pub(crate) fn count(&self, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests, and how many of them failed.
    pub(crate) fn get(&self) -> (u64, u64) {
        let failures = self.failures.load(Ordering::Relaxed);
        (self.requests.load(Ordering::Relaxed).max(failures), failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(all: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        all.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn the_percentage_is_met_in_any_hundred_requests_or_so() {
        for percent in [0, 1, 5, 50, 99, 100] {
            let chosen = Chosen { percent, ..Chosen::default() };
            for first in [0, 1, 12_345, u64::MAX - 500] {
                let count =
                    (0..1000).filter(|n| chosen.includes(&fields(&[]), first.wrapping_add(*n))).count();
                let wanted = usize::from(percent) * 10;
                assert!(count.abs_diff(wanted) <= 15, "{percent} %: {count} of 1000");
                assert!(percent != 0 && percent != 100 || count == wanted);
            }
        }
    }

    /// A rule, the fields of a request, and whether it is the canary's.
    type Case = (Chosen, &'static [(&'static str, &'static str)], bool);

    #[test]
    fn headers_and_cookies() {
        let chosen = |header, cookie| Chosen::parse(0, header, cookie).unwrap();
        let table: [Case; 12] = [
            (chosen(Some("X-Canary"), None), &[("x-canary", "")], true),
            (chosen(Some("X-Canary: yes"), None), &[("x-canary", "yes")], true),
            (chosen(Some("X-Canary: yes"), None), &[("x-canary", "no"), ("x-canary", "yes")], true),
            (chosen(Some("X-Canary: yes"), None), &[("x-canary", "no")], false),
            (chosen(Some("X-Canary"), None), &[("x-other", "")], false),
            (chosen(None, Some("beta")), &[("cookie", "a=1; beta=2")], true),
            (chosen(None, Some("beta=1")), &[("cookie", "a=1; beta=2")], false),
            (chosen(None, Some("beta=2")), &[("cookie", "a=1; beta=2")], true),
            (chosen(None, Some("beta")), &[("cookie", "abeta=1; Beta=2")], false),
            (chosen(None, Some("beta")), &[("cookie", "beta")], true),
            (chosen(None, Some("beta=")), &[("cookie", ";;=; beta")], true),
            (chosen(Some("x"), Some("beta")), &[("cookie", "beta=1")], true),
        ];
        for (chosen, all, includes) in table {
            assert_eq!(chosen.includes(&fields(all), 7), includes, "{chosen:?} {all:?}");
        }
    }

    #[test]
    fn what_chooses_nothing_or_nonsense_is_refused() {
        for (percent, header, cookie) in [
            (0, None, None),
            (101, None, None),
            (0, Some("a b"), None),
            (0, None, Some("=1")),
            (5, Some(""), None),
        ] {
            assert!(Chosen::parse(percent, header, cookie).is_err(), "{percent} {header:?} {cookie:?}");
        }
    }
}
