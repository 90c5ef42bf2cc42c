//! Redirects, as the Fetch standard follows them (section 4.4, HTTP-redirect fetch), but for what only browsers have.

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, header};

use super::body::Inner;
use super::request::origin;
use super::response::Head;
use super::{Body, Error, ErrorKind, Request};

/// Where the response leads, if it does.
pub(super) fn target(head: &Head, from: &Uri) -> Option<Result<Uri, Error>> {
    if !matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = head.headers.get(header::LOCATION)?;
    let location = location.to_str().ok().and_then(|location| resolve(from, location));
    Some(location.ok_or_else(|| Error::new(ErrorKind::Redirect, "the redirect's location is no URL")))
}

/// Makes `request` the next one.
pub(super) fn follow(request: &mut Request, status: StatusCode, to: Uri) -> Result<(), Error> {
    let is_same_origin = {
        let (from, to) = (origin(&request.url)?, origin(&to).map_err(|error| leads_nowhere(&error))?);
        from.0 == to.0 && port(from) == port(to) && from.1.host().eq_ignore_ascii_case(to.1.host())
    };
    let becomes_get = match status.as_u16() {
        303 => request.method != Method::GET && request.method != Method::HEAD,
        301 | 302 => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = Body::default();
        for name in [
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::CONTENT_LOCATION,
            header::CONTENT_TYPE,
        ] {
            request.headers.remove(name);
        }
    } else if matches!(request.body.0, Inner::Source(..)) {
        return Err(Error::new(
            ErrorKind::Redirect,
            "the body that came from elsewhere cannot be sent again",
        ));
    }
    if !is_same_origin {
        for name in [header::AUTHORIZATION, header::COOKIE] {
            request.headers.remove(name);
        }
    }
    request.url = to;
    Ok(())
}

fn leads_nowhere(error: &Error) -> Error {
    Error::new(ErrorKind::Redirect, format!("the redirect leads elsewhere: {}", error.reason()))
}

fn port((https, authority): (bool, &http::uri::Authority)) -> u16 {
    authority.port_u16().unwrap_or(if https { 443 } else { 80 })
}

/// The reference `to` as seen from `base` (RFC 3986 section 5.2), without its fragment.
fn resolve(base: &Uri, to: &str) -> Option<Uri> {
    let to = to.split('#').next()?;
    let scheme = base.scheme_str()?;
    if let Some(rest) = to.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    // A scheme ends before any slash, and a reference with one is no path.
    if to.split(['/', '?']).next()?.contains(':') {
        return to.parse().ok();
    }
    let path = match to {
        "" => base.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
        _ if to.starts_with('?') => format!("{}{to}", base.path()),
        _ => {
            let (path, query) = to.find('?').map_or((to, ""), |at| to.split_at(at));
            let folder = &base.path()[..base.path().rfind('/').map_or(0, |at| at + 1)];
            let path = if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") };
            without_dots(&path) + query
        }
    };
    format!("{scheme}://{}{path}", base.authority()?).parse().ok()
}

/// RFC 3986 section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 3986 section 5.4, as far as they are http.
    #[test]
    fn references_are_resolved_as_the_rfc_has_it() {
        let base: Uri = "http://a/b/c/d;p?q".parse().unwrap();
        let cases = [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://other/x?y=a:b", "https://other/x?y=a:b"),
            ("/x?to=http://c/", "http://a/x?to=http://c/"),
        ];
        for (reference, wanted) in cases {
            let resolved = resolve(&base, reference).unwrap_or_else(|| panic!("{reference}"));
            assert_eq!(resolved, wanted, "{reference}");
        }
        assert!(resolve(&base, "http://").is_none());
    }
}
