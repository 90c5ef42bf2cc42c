//! Whose routes may be where. The router finds two patterns that match the same; this finds a tenant that reaches for
//! what is another's.

use tidegate_proto::router::{Claim, RouteError, RouterBuilder};

use super::types::{Refusal, RefusalKind};
use crate::config::TenantSettings;

/// What a tenant has for itself: only its apps have routes there, and they have none elsewhere. No routes: nothing.
#[derive(Clone, Debug)]
pub(super) struct Land<'a> {
    pub(super) tenant: &'a str,
    pub(super) routes: &'a [String],
}

impl<'a> Land<'a> {
    pub(super) fn of(tenant: &'a TenantSettings) -> Self {
        Self { tenant: &tenant.name, routes: &tenant.routes }
    }
}

/// Checks the routes of one app.
///
/// # Errors
/// One of them is outside of its tenant's land, or inside of another's. Whose it is, is not said: it may be a tenant who asks.
pub(super) fn check(
    app: &str,
    tenant: Option<&str>,
    routes: &[String],
    lands: &[Land<'_>],
) -> Result<(), Refusal> {
    let own = lands.iter().find(|land| Some(land.tenant) == tenant).filter(|land| !land.routes.is_empty());
    for route in routes {
        let claim = parse(route)?;
        if let Some(own) = own {
            if !is_in(&claim, own)? {
                let message = format!("the route `{route}` of the app `{app}` is not one of its tenant's");
                let help = format!("its routes are within {}", listed(own.routes));
                return Err(Refusal::new(RefusalKind::Conflict, message).help(help));
            }
            continue;
        }
        for other in lands.iter().filter(|land| Some(land.tenant) != tenant) {
            if is_in(&claim, other)? {
                let message = format!("the route `{route}` of the app `{app}` belongs to a tenant");
                return Err(Refusal::new(RefusalKind::Conflict, message)
                    .help("give the app another route, or make it that tenant's"));
            }
        }
    }
    Ok(())
}

/// Checks that no two tenants claim the same.
///
/// # Errors
/// Two do; the text names both.
pub(super) fn check_lands(lands: &[Land<'_>]) -> Result<(), Refusal> {
    for (number, land) in lands.iter().enumerate() {
        for other in lands.iter().take(number) {
            for (one, two) in
                land.routes.iter().flat_map(|one| other.routes.iter().map(move |two| (one, two)))
            {
                if parse(one)?.meets(&parse(two)?) {
                    let message = format!(
                        "the tenants `{}` and `{}` both claim what `{two}` and `{one}` match",
                        other.tenant, land.tenant
                    );
                    return Err(Refusal::new(RefusalKind::Conflict, message));
                }
            }
        }
    }
    Ok(())
}

/// Routes that somebody has.
#[derive(Debug, Default)]
pub(super) struct Taken(RouterBuilder<()>);

impl Taken {
    /// Adds those of one app.
    ///
    /// # Errors
    /// One of them matches what another one matches. Those before it are added all the same.
    pub(super) fn insert(&mut self, routes: &[String]) -> Result<(), RouteError> {
        routes.iter().try_for_each(|route| self.0.insert(route, ()))
    }
}

fn is_in(route: &Claim, land: &Land<'_>) -> Result<bool, Refusal> {
    for whole in land.routes {
        if route.is_within(&parse(whole)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse(route: &str) -> Result<Claim, Refusal> {
    Claim::parse(route).map_err(|error| Refusal::new(RefusalKind::Invalid, error.to_string()))
}

fn listed(routes: &[String]) -> String {
    routes.iter().map(|route| format!("`{route}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn land<'a>(tenant: &'a str, routes: &'a [String]) -> Land<'a> {
        Land { tenant, routes }
    }

    #[test]
    fn a_tenant_stays_on_its_land_and_others_off_it() {
        let acme = ["acme.example/*".to_owned(), "/acme/*".to_owned()];
        let lands = [land("acme", &acme), land("free", &[])];
        let table = [
            (Some("acme"), "acme.example/shop/*", true),
            (Some("acme"), "/acme", true),
            (Some("acme"), "/acme/{id}", true),
            (Some("acme"), "/*", false),
            (Some("acme"), "other.example/*", false),
            (Some("acme"), "*.acme.example/*", false),
            (Some("free"), "other.example/*", true),
            (Some("free"), "acme.example/x", false),
            (Some("free"), "/acme/x", false),
            (None, "/*", true),
            (None, "/acme/x", false),
            (None, "x.example/acme/*", false),
        ];
        for (tenant, route, fine) in table {
            let checked = check("a", tenant, &[route.to_owned()], &lands);
            assert_eq!(checked.is_ok(), fine, "{tenant:?} {route}: {checked:?}");
            if let Err(refusal) = checked {
                assert!(refusal.message.contains(route) && !refusal.message.contains("acme`"), "{refusal}");
            }
        }
    }

    #[test]
    fn two_tenants_do_not_claim_the_same() {
        let [one, two, three] = ["a.example/*", "*.example/*", "b.test/*"].map(|route| [route.to_owned()]);
        assert!(check_lands(&[land("a", &one), land("b", &three)]).is_ok());
        let refusal = check_lands(&[land("a", &one), land("b", &two)]).unwrap_err();
        assert!(refusal.message.contains("`a` and `b`"), "{refusal}");
    }
}
