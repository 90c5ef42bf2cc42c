//! The query as pairs: what every handler has, whether or not it reads queries as types of its own.
//!
//! Invariant: the same text gives the same pairs here as a browser's `URLSearchParams` (WHATWG URL section 5.1).

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

use crate::request::Request;

/// Decodes one name or value: `+` is a space, escapes are bytes, and bytes that are not UTF-8 are shown as U+FFFD.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// The pairs of `text` in their order. `&&` separates nothing; `a` is a name with an empty value.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The query, decoded.
impl Request {
    /// The pairs of the query in their order, decoded: `+` is a space, `%41` is `A`, and what is not UTF-8 comes as
    /// U+FFFD. Empty without a query.
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// fn show(request: Request) -> String {
    ///     request.query_pairs().map(|(name, value)| format!("{name} is {value}\n")).collect()
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::get("/?size=1&colour=dark+red").run(show).text(), "size is 1\ncolour is dark red\n");
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        pairs(self.query().unwrap_or_default())
    }

    /// The first value of that name in the query, decoded. A name without a value has the value `""`.
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// fn page(request: &Request) -> u32 {
    ///     request.query_param("page").and_then(|page| page.parse().ok()).unwrap_or(1)
    /// }
    /// # let answer = |request: Request| page(&request).to_string();
    /// # assert_eq!(tidegate_sdk::test::Exchange::get("/?page=3").run(answer).text(), "3");
    /// ```
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}
