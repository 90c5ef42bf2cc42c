//! The guest `cookies` over the real server: what it sets comes back and is understood.

use std::collections::BTreeMap;

use tidegate_tests::{App, Client, Response, Server};

/// A client that keeps cookies, as far as this app needs it.
struct Browser {
    client: Client,
    host: &'static str,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new(server: &Server, host: &'static str) -> Self {
        Self { client: server.client(), host, jar: BTreeMap::new() }
    }

    fn send(&mut self, method: &str, path: &str, form: &str) -> Response {
        let cookies: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (host, length, cookies) = (self.host, form.len(), cookies.join("; "));
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n");
        let body = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        );
        self.client.send([head, body].concat()).unwrap();
        let response = self.client.response().unwrap();
        for line in response.head.all("set-cookie") {
            let (pair, attributes) = line.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    fn home(&mut self) -> String {
        self.send("GET", "/", "").text()
    }
}

fn app(name: &str, secret: &str) -> App {
    App::guest("cookies").named(name).line(&format!("env = {{ SESSION_SECRET = {secret:?} }}"))
}

#[test]
fn visits_are_counted_and_a_login_lasts_until_the_logout() {
    let server = Server::builder().app(app("a", "one")).start();
    let mut browser = Browser::new(&server, "a.test");
    assert_eq!(browser.home(), "Hello, stranger! Visit 1.\n");
    assert_eq!(browser.home(), "Hello, stranger! Visit 2.\n");

    let login = browser.send("POST", "/login", "name=Ann+%3B+%C3%85");
    assert_eq!((login.status(), login.header("location")), (303, Some("/")));
    let line = login.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=28800"] {
        assert!(line.split("; ").any(|part| part == attribute), "{attribute}: {line}");
    }
    assert_eq!(browser.home(), "Hello, Ann ; \u{c5}! Visit 3.\n");

    let logout = browser.send("POST", "/logout", "");
    assert_eq!(logout.status(), 303);
    assert!(logout.header("set-cookie").unwrap().contains("Expires="), "{logout:?}");
    assert_eq!(browser.home(), "Hello, stranger! Visit 4.\n");
}

#[test]
fn a_login_is_worth_nothing_under_another_secret() {
    let server = Server::builder().app(app("a", "one")).app(app("b", "two")).start();
    let mut at_a = Browser::new(&server, "a.test");
    at_a.send("POST", "/login", "name=Ann");
    assert!(at_a.home().starts_with("Hello, Ann!"));
    let mut at_b = Browser::new(&server, "b.test");
    at_b.jar.clone_from(&at_a.jar);
    assert_eq!(at_b.home(), "Hello, stranger! Visit 2.\n");
}

#[test]
fn what_is_wrong_is_said_to_whom_it_concerns() {
    let server = Server::builder().app(App::guest("cookies")).start();
    let mut browser = Browser::new(&server, "cookies.test");
    let nameless = browser.send("POST", "/login", "nam=Ann");
    assert_eq!(nameless.status(), 400);
    assert!(nameless.text().contains("missing field `name`"), "{}", nameless.text());
    assert_eq!(browser.send("GET", "/login", "").header("allow"), Some("POST, OPTIONS"));

    // No secret is configured: the client learns nothing, the log says what to do.
    let login = browser.send("POST", "/login", "name=Ann");
    assert_eq!(login.status(), 500);
    assert!(!login.text().contains("SECRET"), "{}", login.text());
    assert!(server.wait_for_log(|line| line.contains("SESSION_SECRET is not set")).is_some());
}
