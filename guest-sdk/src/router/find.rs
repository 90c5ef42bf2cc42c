//! A search: one look at every route.

use http::Method;
use std::borrow::Cow;

use super::pattern::{Fit, Rank};
use super::{Route, Table, Target};
use crate::request::{Param, decode};

/// Where a request belongs.
#[derive(Debug)]
pub(super) struct Found {
    /// Whose middleware goes around it.
    pub(super) scope: usize,
    pub(super) target: Target,
    pub(super) params: Vec<Param>,
}

/// How well a route's method suits, the smaller the better; `None` if it does not.
fn suits(route: Option<&Method>, method: &Method) -> Option<u8> {
    match route {
        Some(own) if own == method => Some(0),
        Some(own) if own == Method::GET && method == Method::HEAD => Some(1),
        Some(_) => None,
        None => Some(2),
    }
}

impl Table {
    /// Finds the most specific route, or what stands for none.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found {
        let found = |scope, target| Found { scope, target, params: Vec::new() };
        let Some(start) = Fit::start(path) else { return found(0, Target::NotFound) };
        // The scope's number is behind rank and method: where all else is the same, the outer one wins.
        let mut best: Option<(Rank, u8, usize, usize)> = None;
        let mut other: Option<(Rank, usize)> = None;
        // Routes of one scope mostly stand together.
        let mut at = (0, Some(start));
        for (index, route) in self.routes.iter().enumerate() {
            if at.0 != route.scope {
                at = (route.scope, start.prefix(&self.scopes[route.scope].prefix));
            }
            let Some(rank) = at.1.and_then(|fit| fit.whole(&route.pattern)) else { continue };
            match suits(route.method.as_ref(), method) {
                Some(order) => {
                    let this = (rank, order, route.scope, index);
                    best = Some(best.map_or(this, |best| best.min(this)));
                }
                None => other = Some(other.map_or((rank, route.scope), |best| best.min((rank, route.scope)))),
            }
        }
        if let Some((.., index)) = best {
            return self.matched(index, start);
        }
        match other {
            Some((_, scope)) if method == Method::OPTIONS => {
                found(scope, Target::Options(self.allowed(start)))
            }
            Some((_, scope)) => found(scope, Target::NotAllowed(self.allowed(start))),
            None => found(self.home(start), Target::NotFound),
        }
    }

    /// The route, with its parameters decoded.
    fn matched(&self, index: usize, start: Fit<'_>) -> Found {
        let route = &self.routes[index];
        let mut params = Params::default();
        let fit = params.add(start, &self.scopes[route.scope].prefix);
        if let Some(fit) = fit.and_then(|fit| fit.prefix("")) {
            params.add(fit, &route.pattern);
        }
        let target = match params.bad {
            Some(name) => Target::BadParam(name),
            None => Target::Route(index),
        };
        Found { scope: route.scope, target, params: params.good }
    }

    /// The scope with the most specific prefix: unknown paths are its 404s.
    fn home(&self, start: Fit<'_>) -> usize {
        let fits = self.scopes.iter().enumerate();
        let fits = fits.filter_map(|(index, scope)| Some((start.prefix(&scope.prefix)?.rank(), index)));
        fits.min().map_or(0, |(_, index)| index)
    }

    /// The value of `Allow`: all methods that a path takes, in the order of the routes.
    fn allowed(&self, start: Fit<'_>) -> String {
        let matches = |route: &&Route| {
            let fit = start.prefix(&self.scopes[route.scope].prefix);
            fit.and_then(|fit| fit.whole(&route.pattern)).is_some()
        };
        let mut list = Vec::new();
        let mut add = |method| {
            if !list.contains(&method) {
                list.push(method);
            }
        };
        for method in self.routes.iter().filter(matches).filter_map(|route| route.method.as_ref()) {
            add(method.as_str());
            if method == Method::GET {
                add("HEAD");
            }
        }
        add("OPTIONS");
        list.join(", ")
    }
}

/// Parameters on their way into a request.
#[derive(Default)]
struct Params {
    good: Vec<Param>,
    /// The name of the first that is not UTF-8.
    bad: Option<String>,
}

impl Params {
    /// Takes those of a pattern, or a prefix, that matches.
    #[allow(clippy::ptr_arg, reason = "names that are borrowed for ever are not copied")]
    fn add<'a>(&mut self, fit: Fit<'a>, pattern: &Cow<'static, str>) -> Option<Fit<'a>> {
        match pattern {
            // A name that is part of a static pattern need not be copied.
            Cow::Borrowed(pattern) => fit.along(pattern, |name, raw| self.push(Cow::Borrowed(name), raw)),
            Cow::Owned(pattern) => {
                fit.along(pattern, |name, raw| self.push(Cow::Owned(name.to_owned()), raw))
            }
        }
    }

    fn push(&mut self, name: Cow<'static, str>, raw: &str) {
        match decode(raw) {
            Some(value) => self.good.push((name, value)),
            None => drop(self.bad.get_or_insert(name.into_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
