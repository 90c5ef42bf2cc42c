//! What the author of a guest sees in dev of a request that failed: the panic, where it was, and a backtrace.
//!
//! Never for a server in production, whose clients are told a name and a request id.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::page::{HTML, PROBLEM, TEXT, prefers_html, prefers_text};
use crate::exchange::Inner;
use crate::guest::crash::{Crash, Frame};
use crate::guest::outcome::Failure;

/// A request that failed.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) failure: Failure,
    pub(super) detail: &'a str,
    pub(super) crash: Option<&'a Crash>,
    /// The request.
    pub(super) inner: &'a Inner,
}

impl Report<'_> {
    /// In the form that the client prefers, with its media type: HTML for browsers, else a problem document (RFC 9457).
    pub(super) fn for_client(&self) -> (&'static str, String) {
        let fields = self.inner.head.fields();
        if prefers_html(fields) {
            (HTML, self.html())
        } else if prefers_text(fields) {
            (TEXT, self.text())
        } else {
            (PROBLEM, self.json())
        }
    }

    /// What went wrong, in its author's words if there are any.
    fn said(&self) -> &str {
        self.crash.and_then(|crash| crash.panic.as_deref()).unwrap_or(self.detail)
    }

    fn frames(&self) -> &[Frame] {
        self.crash.map_or(&[], |crash| &crash.frames)
    }

    fn json(&self) -> String {
        let Failure { code, status, title } = self.failure;
        let mut document = json!({
            "type": format!("urn:tidegate:error:{code}"),
            "title": title,
            "status": status,
            "detail": self.detail,
            "instance": format!("urn:tidegate:request:{}", self.inner.facts.id),
        });
        if let Some(crash) = self.crash {
            let line = |frame: &Frame| match &frame.place {
                Some(place) => Value::from(format!("{} ({place})", frame.function)),
                None => Value::from(frame.function.as_str()),
            };
            document["panic"] = crash.panic.as_deref().map_or(Value::Null, Value::from);
            document["backtrace"] = crash.frames.iter().map(line).collect();
        }
        format!("{document:#}\n")
    }

    fn text(&self) -> String {
        let all = self.crash.map_or_else(|| self.detail.to_owned(), Crash::text);
        format!("{}\n\n{all}\n\nrequest {}\n", self.failure.title, self.inner.facts.id)
    }

    fn html(&self) -> String {
        let mut page = String::from(PAGE_BEGIN);
        let (head, id) = (&self.inner.head, &self.inner.facts.id);
        let title = Escaped(self.failure.title);
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "<title>{title}</title><h1>{title}</h1><pre class=said>{}</pre>",
            Escaped(self.said())
        );
        if self.said() != self.detail {
            let _ = write!(page, "<p>{}</p>", Escaped(self.detail));
        }
        if !self.frames().is_empty() {
            page.push_str("<ol>");
            for Frame { function, place } in self.frames() {
                let place = place.as_deref().unwrap_or_default();
                let _ =
                    write!(page, "<li><code>{}</code> <span>{}</span>", Escaped(function), Escaped(place));
            }
            page.push_str("</ol>");
        }
        let (method, target) = (Escaped(head.method()), Escaped(head.target()));
        let _ = write!(page, "<footer><p><code>{method} {target}</code><p>{}, request ", self.failure.code);
        let id = id.to_string();
        let told = "In production a client is told that, and nothing else.";
        let _ = writeln!(page, "{}. {told}</footer>", Escaped(&id));
        page
    }
}

const PAGE_BEGIN: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width\"><style>\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem}\
pre,code{font-family:ui-monospace,monospace;font-size:.9rem}\
.said{border-left:4px solid #d33;padding:.7rem 1rem;background:#d331;white-space:pre-wrap;overflow-wrap:anywhere}\
li{margin:.3rem 0;overflow-wrap:anywhere}\
span,footer{color:GrayText;font-size:.85rem}\
</style>";

/// A text inside of an element.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}
