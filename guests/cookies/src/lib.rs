//! Cookies: a visit counter that anybody may change, and a login that nobody can forge.
//!
//! A handler keeps nothing between requests, so what there is to know about a visitor travels in cookies. The counter is
//! plain. The login is sealed: name and a keyed hash of it, under a secret that the app's configuration holds.

use serde::Deserialize;
use tidegate_sdk::cookies::{Cookie, SameSite, time::Duration};
use tidegate_sdk::{Error, Request, Response, Result, Router, config, handler};

const VISITS: &str = "visits";
const SESSION: &str = "session";

#[handler]
fn cookies() -> Router {
    Router::new().get("/", home).post("/login", log_in).post("/logout", log_out)
}

fn home(request: Request) -> Result<Response> {
    let cookies = request.cookies();
    let before: u32 = cookies.get(VISITS).and_then(|count| count.parse().ok()).unwrap_or(0);
    let visits = before.saturating_add(1);
    let name = match cookies.get(SESSION) {
        Some(sealed) => unsealed(sealed)?,
        None => None,
    };
    let text = format!("Hello, {}! Visit {visits}.\n", name.unwrap_or("stranger"));
    let cookie = cookie(&request, VISITS, visits.to_string(), Duration::days(365));
    Ok(Response::text(text).with_header("cache-control", "no-store").with_cookie(cookie))
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

fn log_in(mut request: Request) -> Result<Response> {
    let Login { name } = request.form()?;
    if name.is_empty() || name.len() > 100 {
        return Err(Error::bad_request("a name has 1 to 100 bytes"));
    }
    // A real login would ask for a password here, and seal when the session ends as well.
    let cookie = cookie(&request, SESSION, sealed(&name)?, Duration::hours(8));
    Ok(to_home(&request).with_cookie(cookie))
}

fn log_out(request: Request) -> Response {
    // Forgotten only if the path is the one it was set with.
    to_home(&request).with_removed_cookie(cookie(&request, SESSION, String::new(), Duration::ZERO))
}

/// 303: the browser goes there with a GET (RFC 9110 section 15.4.4).
fn to_home(request: &Request) -> Response {
    Response::redirect(home_path(request))
}

/// Where this app begins: its routes may be below a prefix.
fn home_path(request: &Request) -> String {
    match request.mount() {
        "" => "/".to_owned(),
        mount => mount.to_owned(),
    }
}

/// Out of reach of scripts, and not sent along by forms on other sites.
fn cookie(request: &Request, name: &'static str, value: String, max_age: Duration) -> Cookie<'static> {
    Cookie::build((name, value))
        .path(home_path(request))
        .max_age(max_age)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(request.is_secure())
        .build()
}

fn sealed(name: &str) -> Result<String> {
    Ok(format!("{}.{name}", seal_of(name)?))
}

/// The name, if the seal is ours.
fn unsealed(sealed: &str) -> Result<Option<&str>> {
    let Some((seal, name)) = sealed.split_once('.') else { return Ok(None) };
    let Ok(seal) = blake3::Hash::from_hex(seal) else { return Ok(None) };
    // `Hash` compares in constant time: how long it takes tells nobody how much of a guess was right.
    Ok((seal == seal_of(name)?).then_some(name))
}

fn seal_of(name: &str) -> Result<blake3::Hash> {
    let secret = config::var("SESSION_SECRET")?;
    let key = blake3::derive_key("tidegate guests/cookies 2026-11-20 session", secret.as_bytes());
    Ok(blake3::keyed_hash(&key, name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::StatusCode;
    use tidegate_sdk::test::{Answer, Exchange, app};

    /// The cookies that an answer sets, as a browser would send them back.
    fn kept(answer: &Answer) -> String {
        let lines = answer.headers.get_all("set-cookie").iter();
        lines.map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
    }

    fn send(exchange: Exchange) -> Answer {
        let _set = config::for_test("SESSION_SECRET", "open sesame");
        app(cookies()).send(exchange)
    }

    fn home_with(cookies: &str) -> Answer {
        send(Exchange::get("/").header("cookie", cookies))
    }

    fn log_in_as(name: &str) -> Answer {
        let form = "application/x-www-form-urlencoded";
        send(Exchange::post("/login").header("content-type", form).body(format!("name={name}")))
    }

    #[test]
    fn visits_are_counted() {
        let first = home_with("");
        assert_eq!(first.text(), "Hello, stranger! Visit 1.\n");
        assert_eq!(home_with(&kept(&first)).text(), "Hello, stranger! Visit 2.\n");
        assert_eq!(home_with("visits=lots").text(), "Hello, stranger! Visit 1.\n");
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites() {
        for answer in [home_with(""), log_in_as("Ann")] {
            let line = answer.headers["set-cookie"].to_str().unwrap();
            for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
                assert!(line.split("; ").any(|part| part == attribute), "{attribute}: {line}");
            }
        }
    }

    #[test]
    fn a_login_is_remembered_until_the_logout() {
        let login = log_in_as("Ann+%C3%85%3B");
        assert_eq!(
            (login.status, &login.headers["location"]),
            (Some(StatusCode::SEE_OTHER), &"/".parse().unwrap())
        );
        assert_eq!(home_with(&kept(&login)).text(), "Hello, Ann \u{c5};! Visit 1.\n");

        let logout = send(Exchange::post("/logout"));
        let line = logout.headers["set-cookie"].to_str().unwrap();
        assert!(line.starts_with("session=; ") && line.contains("Max-Age=0"), "{line}");
        assert_eq!(home_with(&kept(&logout)).text(), "Hello, stranger! Visit 1.\n");
    }

    #[test]
    fn a_forged_login_is_nobodys() {
        let seal = "0".repeat(64);
        let real = kept(&log_in_as("Ann"));
        for session in [format!("session={seal}.Ann"), "session=Ann".into(), real.replace("Ann", "Bob")] {
            assert_eq!(home_with(&session).text(), "Hello, stranger! Visit 1.\n", "{session}");
        }
    }

    #[test]
    fn below_a_prefix_the_cookies_are_too() {
        let answer = Exchange::get("/shop/").mount("/shop").run(cookies());
        assert!(answer.headers["set-cookie"].to_str().unwrap().contains("Path=/shop;"));
    }

    #[test]
    fn a_name_is_asked_for() {
        assert_eq!(log_in_as("").status, Some(StatusCode::BAD_REQUEST));
    }
}
