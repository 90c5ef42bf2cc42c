//! Answers of ours that are pages for people: notices, and in dev what a guest died of.
//!
//! Whoever makes a page says what stands in it; here it gets a head. None of this is sent by a server in production,
//! where the server's own answers are problem documents with fixed sentences.

use tidegate_proto::http1::encode::{ResponseContext, ResponseHead, encode_head, response_framing};
use tidegate_proto::http1::fields::Fields;

use crate::exchange::RequestId;

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const PROBLEM: &str = "application/problem+json";

/// A whole answer, but for its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// 200 to 599.
    pub(super) status: u16,
    /// What programs know it by.
    pub(super) code: &'static str,
    pub(super) media_type: &'static str,
    pub(super) body: &'a str,
}

impl Page<'_> {
    /// Appends the whole response to `out`, on HEAD without its body. A page is never to be kept by anybody, and HTML
    /// may do nothing but show itself, and look whether it is still up to date.
    pub(super) fn encode(
        self,
        id: &RequestId,
        cx: &ResponseContext,
        close: bool,
        date: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut head = ResponseHead::default();
        let mut push = |name: &str, value: &str| {
            // All of these are ours, and valid; a request's id is at least visible ASCII.
            let _ = head.push(name.as_bytes(), value.as_bytes());
        };
        push("content-type", self.media_type);
        push("cache-control", "no-store");
        if self.media_type == HTML {
            push(
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
            );
        }
        push("vary", "accept");
        push("tidegate-error", self.code);
        push("x-request-id", &id.to_string());
        if head.set_status(self.status).is_err() {
            let _ = head.set_status(503);
        }
        let len = Some(self.body.len() as u64);
        let framing = response_framing(cx, &head, len);
        encode_head(&head, cx, framing, len, close, date, None, out);
        if !cx.head_request {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// What is asked for of one media type, in thousandths (RFC 9110 sections 12.4.2 and 12.5.1). None: it is not named.
fn quality(fields: &Fields, wanted: &[&str]) -> Option<u16> {
    let lists = fields.get_all("accept").filter_map(|value| std::str::from_utf8(value).ok());
    let ranges = lists.flat_map(|list| list.split(','));
    let named = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?;
        wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)).then(|| {
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            weight.map_or(1000, thousandths)
        })
    });
    named.max()
}

/// `0.75` is 750. What is no weight at all counts as none.
fn thousandths(weight: &str) -> u16 {
    let weight = weight.trim().parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    // It lies between 0 and 1000.
    (weight * 1000.0) as u16
}

/// True if the client names HTML, and nothing else that it could be given before it: what browsers do, and programs
/// do not.
pub(super) fn prefers_html(fields: &Fields) -> bool {
    let others = quality(fields, &["application/json", "application/problem+json", "text/plain"]);
    quality(fields, &["text/html", "application/xhtml+xml"])
        .is_some_and(|html| html > 0 && html >= others.unwrap_or(0))
}

/// True if the client names plain text and prefers it to JSON.
pub(super) fn prefers_text(fields: &Fields) -> bool {
    let json = quality(fields, &["application/json", "application/problem+json"]);
    quality(fields, &["text/plain"]).is_some_and(|text| text > 0 && text > json.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use tidegate_proto::http1::head::Version;

    use super::*;

    #[test]
    fn browsers_get_html_and_programs_do_not() {
        let table = [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true, false),
            ("*/*", false, false),
            ("", false, false),
            ("application/json", false, false),
            ("application/json, text/html;q=0.9", false, false),
            ("text/html;q=0.5, application/json;q=0.4", true, false),
            ("TEXT/HTML ; Q=1", true, false),
            ("text/html;q=0", false, false),
            ("text/html;q=x", false, false),
            ("text/plain", false, true),
            ("text/plain;q=0.5, application/json", false, false),
            ("text/*", false, false),
            (",;,q=1", false, false),
        ];
        for (accept, html, text) in table {
            let mut fields = Fields::default();
            fields.push(b"accept", accept.as_bytes());
            assert_eq!((prefers_html(&fields), prefers_text(&fields)), (html, text), "{accept}");
        }
        assert!(!prefers_html(&Fields::default()));
        let mut fields = Fields::default();
        fields.push(b"accept", b"text/html");
        fields.push(b"accept", b"\xff");
        assert!(prefers_html(&fields));
    }

    #[test]
    fn a_page_is_a_whole_response() {
        let page = Page { status: 500, code: "guest-trap", media_type: HTML, body: "<p>\u{e4}</p>" };
        let encoded = |head_request| {
            let cx = ResponseContext { head_request, version: Version::Http11, keep_alive: true };
            let mut out = Vec::new();
            let id = RequestId::Given("r-1".into());
            page.encode(&id, &cx, false, &[b'x'; 29], &mut out);
            String::from_utf8(out).unwrap()
        };
        let whole = encoded(false);
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, page.body);
        for line in [
            "HTTP/1.1 500 Internal Server Error",
            "content-type: text/html; charset=utf-8",
            "cache-control: no-store",
            "tidegate-error: guest-trap",
            "x-request-id: r-1",
            "content-length: 9",
        ] {
            assert!(head.lines().any(|there| there == line), "{line} is not in {head}");
        }
        let bodiless = encoded(true);
        assert_eq!(bodiless, format!("{head}\r\n\r\n"));
    }
}
