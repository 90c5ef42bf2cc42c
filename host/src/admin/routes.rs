//! What can be asked for, as a table: method, path, who may, and what is done. And how an answer is sent.
//!
//! It must never know how anything is done. Invariant: whoever asks is known before anything of the table is told, but for
//! what [`Who::Anyone`] may have.

use std::fmt::Write as _;
use std::time::Instant;

use super::auth::{HELD, Peer, TOO_MANY_ATTEMPTS, check_site};
use super::call::{Call, Desk, Reply, response_head};
use super::guests::Guest;
use super::handlers as h;
use super::problem::Problem;
use super::wire::{Gone, Wire};
use crate::hosting::types::{Actor, Refusal};

/// Who may ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Whoever reaches the address.
    Anyone,
    /// A tenant too; the server behind it sees to whose apps it is about.
    Tenant,
    /// The operator: no token of a tenant's.
    Operator,
}

type Handler = fn(&mut Call<'_>) -> Result<Reply, Refusal>;

/// A row of the table.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// With at most one name in braces, which stands for one part of the path.
    pub(super) pattern: &'static str,
    pub(super) who: Who,
    handler: Handler,
}

const fn route(method: &'static str, pattern: &'static str, who: Who, handler: Handler) -> Route {
    Route { method, pattern, who, handler }
}

/// All that there is.
pub(super) const ROUTES: [Route; 25] = [
    route("PUT", "/v1/modules", Who::Tenant, h::put_module),
    route("HEAD", "/v1/modules/{hash}", Who::Tenant, h::head_module),
    route("GET", "/v1/apps", Who::Tenant, h::get_apps),
    route("GET", "/v1/apps/{app}", Who::Tenant, h::get_app),
    route("DELETE", "/v1/apps/{app}", Who::Tenant, h::delete_app),
    route("GET", "/v1/apps/{app}/versions", Who::Tenant, h::get_versions),
    route("POST", "/v1/apps/{app}/versions", Who::Tenant, h::post_version),
    route("POST", "/v1/apps/{app}/rollback", Who::Tenant, h::post_rollback),
    route("PUT", "/v1/apps/{app}/canary", Who::Tenant, h::put_canary),
    route("DELETE", "/v1/apps/{app}/canary", Who::Tenant, h::delete_canary),
    route("POST", "/v1/apps/{app}/canary/promote", Who::Tenant, h::promote_canary),
    route("GET", "/v1/apps/{app}/limits", Who::Tenant, h::get_limits),
    route("PATCH", "/v1/apps/{app}/limits", Who::Tenant, h::patch_limits),
    route("GET", "/v1/apps/{app}/logs", Who::Tenant, h::get_logs),
    route("GET", "/v1/requests", Who::Tenant, h::get_requests),
    route("DELETE", "/v1/requests/{id}", Who::Tenant, h::delete_request),
    route("POST", "/v1/reload", Who::Operator, h::post_reload),
    route("GET", "/v1/export", Who::Operator, h::get_export),
    route("GET", "/v1/audit", Who::Operator, h::get_audit),
    route("GET", "/v1/server", Who::Operator, h::get_server),
    route("GET", "/metrics", Who::Operator, h::get_metrics),
    route("GET", "/health/live", Who::Anyone, h::get_live),
    route("GET", "/health/ready", Who::Anyone, h::get_ready),
    route("GET", "/openapi.json", Who::Tenant, h::get_openapi),
    route("GET", "/", Who::Tenant, get_index),
];

/// For whoever looks with a browser or curl: where to go on.
fn get_index(_: &mut Call<'_>) -> Result<Reply, Refusal> {
    let mut text = "The admin side of a tidegate server; /openapi.json describes it.\n\n".to_owned();
    for route in &ROUTES {
        let _ = writeln!(text, "{:6} {}", route.method, route.pattern);
    }
    Ok(Reply::Whole { status: 200, media_type: "text/plain; charset=utf-8", body: text.into_bytes() })
}

/// What of a path stands for the name in braces; empty where the pattern has none. None: it does not fit.
fn fit<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (mut parts, mut found) = (path.split('/'), "");
    for expected in pattern.split('/') {
        let part = parts.next()?;
        if expected.starts_with('{') {
            if part.is_empty() {
                return None;
            }
            found = part;
        } else if expected != part {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

/// The row for a request, and its parameter.
fn find<'p>(method: &str, path: &'p str) -> Result<(&'static Route, &'p str), Problem> {
    static TABLE: [Route; ROUTES.len()] = ROUTES;
    let mut methods: Vec<&str> = Vec::new();
    for route in &TABLE {
        let Some(parameter) = fit(route.pattern, path) else { continue };
        if route.method == method {
            return Ok((route, parameter));
        }
        methods.push(route.method);
    }
    if methods.is_empty() {
        let problem = Problem::new(404, "not-found", "there is nothing at this path");
        return Err(problem.help("what there is, is in /openapi.json"));
    }
    let allowed = methods.join(", ");
    let problem = Problem::new(405, "method-not-allowed", format!("this path takes {allowed}"));
    Err(problem.field("allow", allowed))
}

/// Answers the request whose head has come.
pub(super) fn answer(wire: &mut Wire, desk: &Desk, guest: &Guest) {
    let done = if guest.busy {
        Err(busy("as many connections as there may be are being served"))
    } else {
        serve(wire, desk, guest)
    };
    let sent = match (done, wire.broken()) {
        (Ok(Reply::Sent), _) => Ok(()),
        // The rule that the client broke says more than what came of it.
        (_, Some(error)) => {
            wire.refuse(error);
            Ok(())
        }
        (Ok(reply), None) => send(wire, &reply, None),
        (Err(problem), None) => {
            if problem.kind == TOO_MANY_ATTEMPTS {
                // It is at nothing meanwhile, and so the first to go when somebody else comes.
                wire.hold(HELD);
            }
            send_problem(wire, &problem)
        }
    };
    if sent.is_err() || wire.is_unanswered() {
        wire.cut();
    }
}

fn busy(detail: &str) -> Problem {
    Problem::new(503, "busy", detail).field("retry-after", "1")
}

fn serve(wire: &mut Wire, desk: &Desk, guest: &Guest) -> Result<Reply, Problem> {
    let peer = guest.peer;
    check_site(peer, wire.head()).inspect_err(|problem| turned_away(desk, peer, problem))?;
    let (method, path) = (wire.head().method().to_owned(), wire.head().path().to_owned());
    let found = find(&method, &path);
    let open = matches!(&found, Ok((route, _)) if route.who == Who::Anyone);
    let actor = match desk.keys.actor(peer, desk.own, wire.head()) {
        Ok(actor) => actor,
        Err(_) if open => Actor { name: "anyone".to_owned(), tenant: None },
        Err(problem) => {
            turned_away(desk, peer, &problem);
            return Err(problem);
        }
    };
    let (route, parameter) = found?;
    if route.who == Who::Operator && actor.tenant.is_some() {
        let problem =
            Problem::new(403, "forbidden", "this is about the whole server, and the token is a tenant's");
        return Err(problem.help("use a token without a tenant"));
    }
    let begun = if route.who == Who::Anyone { Ok(None) } else { guest.begin(&actor).map(Some).ok_or(()) };
    let _at_work =
        begun.map_err(|()| busy("as many requests of tenants as there may be are being served"))?;
    let query = wire.head().query().unwrap_or_default().to_owned();
    let mut call = Call { wire, desk, actor, parameter: parameter.to_owned(), query };
    (route.handler)(&mut call).map_err(Problem::from)
}

/// Somebody was turned away at the door: that is kept, at a bounded rate.
fn turned_away(desk: &Desk, peer: Peer, problem: &Problem) {
    if let Some(times) = desk.keys.note_refused(Instant::now()) {
        tracing::warn!(target: "tidegate", %peer, times, "the admin side turned somebody away: {}", problem.detail);
        desk.control.note_refused(&peer.to_string(), &problem.detail, times);
    }
}

fn send_problem(wire: &mut Wire, problem: &Problem) -> Result<(), Gone> {
    let Problem { status, .. } = *problem;
    let reply = Reply::Whole { status, media_type: "application/problem+json", body: problem.json() };
    send(wire, &reply, problem.field.as_ref())
}

fn send(wire: &mut Wire, reply: &Reply, field: Option<&(&'static str, String)>) -> Result<(), Gone> {
    let (status, media_type, body): (_, _, &[u8]) = match reply {
        Reply::Whole { status, media_type, body } => (*status, *media_type, body),
        Reply::Empty(status) => (*status, "", b""),
        Reply::Sent => return Ok(()),
    };
    let mut head = response_head(status, media_type)?;
    if let Some((name, value)) = field {
        // It is ours, and fits a head.
        let _ = head.push(name.as_bytes(), value.as_bytes());
    }
    wire.begin(&head, Some(body.len() as u64))?;
    wire.write(body)?;
    wire.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_patterns_part_by_part() {
        for (pattern, path, parameter) in [
            ("/v1/apps", "/v1/apps", Some("")),
            ("/v1/apps", "/v1/apps/", None),
            ("/v1/apps", "/v1", None),
            ("/v1/apps/{app}", "/v1/apps/shop", Some("shop")),
            ("/v1/apps/{app}", "/v1/apps/", None),
            ("/v1/apps/{app}", "/v1/apps/a/b", None),
            ("/v1/apps/{app}/logs", "/v1/apps/a/logs", Some("a")),
            ("/v1/apps/{app}/logs", "/v1/apps//logs", None),
            ("/", "/", Some("")),
        ] {
            assert_eq!(fit(pattern, path), parameter, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_is_done_otherwise() {
        assert_eq!(find("GET", "/nowhere").err().unwrap().status, 404);
        let problem = find("POST", "/v1/apps/a").err().unwrap();
        assert_eq!(problem.status, 405);
        assert_eq!(problem.field, Some(("allow", "GET, DELETE".to_owned())));
        assert_eq!(find("DELETE", "/v1/apps/a").unwrap().1, "a");
    }

    #[test]
    fn every_row_can_be_reached() {
        for (number, route) in ROUTES.iter().enumerate() {
            let path = route.pattern.replace("{app}", "x").replace("{hash}", "x").replace("{id}", "x");
            let (found, _) = find(route.method, &path).unwrap();
            assert_eq!((found.method, found.pattern), (route.method, route.pattern), "row {number}");
        }
    }
}
