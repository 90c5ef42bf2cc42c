//! Cookies (RFC 6265), read and written, with the feature `cookies`.
//!
//! Values are percent-encoded on the way out and decoded on the way in, so that any text survives. Names are not:
//! decoding them would let a client's `%5F_Host-id` pass for the protected `__Host-id`.

use http::HeaderValue;
use http::header::SET_COOKIE;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

pub use cookie::{Cookie, SameSite, time};

use crate::request::Request;
use crate::response::Response;

/// The cookies of a request: see [`Request::cookies`].
///
/// ```
/// use tidegate_sdk::{Request, test::Exchange};
///
/// fn show(request: Request) -> String {
///     let cookies = request.cookies();
///     if cookies.is_empty() {
///         return "no cookies".to_owned();
///     }
///     let names: Vec<&str> = cookies.iter().map(|(name, _)| name).collect();
///     format!("{}; the theme is {}", names.join(", "), cookies.get("theme").unwrap_or("light"))
/// }
/// let exchange = Exchange::get("/").header("cookie", "a=1; theme=dark");
/// assert_eq!(exchange.run(show).text(), "a, theme; the theme is dark");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cookies<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Cookies<'a> {
    /// The value of the first cookie of that name. Of several, browsers send the one with the longest path
    /// first. See [`Request::cookies`].
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Names and values in the order the client sent them. See [`Cookies`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// True if the client sent none. See [`Cookies`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one `Cookie` line (RFC 6265 section 4.2.1). One pair that cannot be read spoils none of the others: another
    /// app on the same site may have set it.
    fn read(&mut self, line: &'a [u8]) {
        for pair in line.split(|byte| *byte == b';') {
            let Ok(pair) = std::str::from_utf8(pair) else { continue };
            let Some((name, value)) = pair.split_once('=') else { continue };
            let name = name.trim();
            if !name.is_empty() {
                self.0.push((name, decode(unquote(value.trim()))));
            }
        }
    }
}

/// A value may stand in quotes (RFC 6265 section 4.1.1).
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// Escapes that do not give UTF-8 were none of ours: such a value stays as it is.
fn decode(value: &str) -> Cow<'_, str> {
    percent_decode_str(value).decode_utf8().unwrap_or(Cow::Borrowed(value))
}

/// Cookies read, with the feature `cookies`.
impl Request {
    /// The cookies that the client sent. Values are percent-decoded.
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// fn theme(request: Request) -> String {
    ///     request.cookies().get("theme").unwrap_or("light").to_owned()
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::get("/").header("cookie", "a=1; theme=dark").run(theme).text(), "dark");
    /// ```
    #[must_use]
    pub fn cookies(&self) -> Cookies<'_> {
        let mut cookies = Cookies::default();
        for line in self.values("cookie") {
            cookies.read(line);
        }
        cookies
    }
}

/// The `Set-Cookie` line of `cookie` (RFC 6265 section 4.1), or what is wrong with it.
fn set_cookie(cookie: &Cookie<'_>) -> Result<HeaderValue, String> {
    let name = cookie.name();
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!$&'*+-._~".contains(&byte);
    if name.is_empty() || !name.bytes().all(fine) {
        return Err(format!("a cookie cannot be named {name:?}: take letters, digits and any of !$&'*+-._~"));
    }
    for (attribute, value) in [("Path", cookie.path()), ("Domain", cookie.domain())] {
        // What follows would be taken for further attributes.
        if value.is_some_and(|value| value.bytes().any(|byte| byte == b';' || byte.is_ascii_control())) {
            return Err(format!(
                "the {attribute} of the cookie {name:?} has a semicolon or a control character"
            ));
        }
    }
    HeaderValue::try_from(cookie.encoded().to_string()).map_err(|e| format!("the cookie {name:?}: {e}"))
}

/// Cookies written, with the feature `cookies`.
impl Response {
    /// The same with this cookie, beside those that are there. Its value may be any text; it is percent-encoded.
    /// Attributes are sent as given: think of `Path`, `HttpOnly`, `Secure` and `SameSite`. If its name, path or domain
    /// cannot be sent, the response is a 500 instead, and the log says why.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    /// use tidegate_sdk::cookies::{Cookie, SameSite, time::Duration};
    ///
    /// let session = Cookie::build(("session", "a1b2"))
    ///     .path("/")
    ///     .http_only(true)
    ///     .same_site(SameSite::Lax)
    ///     .max_age(Duration::hours(1));
    /// let response = Response::text("Hello\n").with_cookie(session);
    /// let line = response.header("set-cookie").unwrap();
    /// assert_eq!(line, "session=a1b2; HttpOnly; SameSite=Lax; Path=/; Max-Age=3600");
    /// ```
    #[must_use]
    pub fn with_cookie<'c>(mut self, cookie: impl Into<Cookie<'c>>) -> Self {
        match set_cookie(&cookie.into()) {
            Ok(line) => {
                self.headers_mut().append(SET_COOKIE, line);
            }
            Err(why) => {
                crate::error!("{why}");
                self.set_invalid("a cookie cannot be sent");
            }
        }
        self
    }

    /// The same with the client told to forget this cookie. A browser does so only if `Path` and `Domain` are those that
    /// the cookie was set with.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    /// use tidegate_sdk::cookies::Cookie;
    ///
    /// let response = Response::text("Bye\n").with_removed_cookie(Cookie::build("session").path("/"));
    /// let line = response.header("set-cookie").unwrap().to_str().unwrap();
    /// assert!(line.starts_with("session=; Path=/; Max-Age=0; Expires="));
    /// ```
    #[must_use]
    pub fn with_removed_cookie<'c>(self, cookie: impl Into<Cookie<'c>>) -> Self {
        let mut cookie = cookie.into();
        cookie.make_removal();
        self.with_cookie(cookie)
    }
}
