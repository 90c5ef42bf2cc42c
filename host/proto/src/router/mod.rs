//! Which route a request belongs to: host first, then the path, the most specific first.
//!
//! A pattern is `[host]/path`. The host is a name, or `*.` and a name for everything below it, or nothing for any
//! host. The path's segments are literal, or `{name}` for one segment that is not empty, and the last may be `*`:
//! `/shop/*` is `/shop`, `/shop/` and everything below. A pattern without it is exact. Paths are compared raw, byte for
//! byte: nothing is decoded and `/a` and `/a/` are two paths.
//!
//! Of all patterns that match, an exact host beats a wildcard, a longer wildcard a shorter one, and any wildcard no
//! host at all; then, from the first segment on, a literal beats a parameter and a parameter beats `*`. So the result
//! depends on the set of patterns and never on the order they came in. Two patterns that match the same are an error.
//!
//! The router knows no request: the caller brings a host without port or trailing dot, and a path without query.

mod claim;
mod pattern;
mod tree;

use core::ops::Range;
use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

pub use claim::Claim;
use pattern::{HostPattern, Pattern};
use tree::{Slot, Tree};

/// Why a pattern cannot be a route.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// It is not written as a pattern is.
    #[error("the route `{pattern}` is not valid: {reason}")]
    Syntax {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it, as a clause.
        reason: &'static str,
    },
    /// It names two of its segments the same.
    #[error("the route `{pattern}` has the parameter `{name}` twice")]
    DuplicateParameter {
        /// The pattern as it was given.
        pattern: String,
        /// The name that stands there twice.
        name: String,
    },
    /// It matches exactly what another one matches.
    #[error("the route `{pattern}` matches the same requests as the route `{other}`")]
    Conflict {
        /// The pattern as it was given.
        pattern: String,
        /// The one that was there before.
        other: String,
    },
}

/// The route of a request.
#[derive(Debug)]
pub struct Match<'r, T> {
    /// What the route was inserted with.
    pub value: &'r T,
    /// Bytes of the path before the part that `*` stands for, without the slash between: 5 for `/shop/x` on `/shop/*`.
    /// Zero for an exact route and for `/*`.
    pub mount_len: usize,
    /// The pattern as it was inserted.
    pub pattern: &'r str,
}

/// The parameters of the last match: names, and where in the path each value stands. Made to be used again.
#[derive(Clone, Debug, Default)]
pub struct Params {
    names: Option<Arc<[Box<str>]>>,
    values: Vec<Range<u32>>,
    /// A host in lower case, where it did not come so.
    host: String,
}

impl Params {
    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// No parameters.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Forgets all parameters, keeping the space for the next ones.
    pub fn clear(&mut self) {
        self.names = None;
        self.values.clear();
    }

    /// Names and byte ranges of the path that was matched, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> + Clone {
        let names = self.names.as_deref().unwrap_or_default();
        names
            .iter()
            .zip(&self.values)
            .map(|(name, range)| (&**name, range.start as usize..range.end as usize))
    }

    /// The value of a parameter in the path that was matched, raw.
    pub fn get<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        self.iter().find(|(known, _)| *known == name).and_then(|(_, range)| path.get(range))
    }
}

#[derive(Debug)]
struct Route<T> {
    pattern: Box<str>,
    names: Arc<[Box<str>]>,
    value: T,
}

/// The routes of one snapshot, ready to be asked.
#[derive(Debug)]
pub struct Router<T> {
    routes: Vec<Route<T>>,
    /// By the whole host.
    exact: HashMap<Box<str>, Tree>,
    /// By what follows `*.`.
    below: HashMap<Box<str>, Tree>,
    any: Tree,
}

/// Collects routes.
#[derive(Debug)]
pub struct RouterBuilder<T> {
    router: Router<T>,
}

impl<T> Default for RouterBuilder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RouterBuilder<T> {
    /// No routes.
    pub fn new() -> Self {
        let router =
            Router { routes: Vec::new(), exact: HashMap::new(), below: HashMap::new(), any: Tree::default() };
        Self { router }
    }

    /// Adds a route. After an error the routes are what they were.
    pub fn insert(&mut self, pattern: &str, value: T) -> Result<(), RouteError> {
        let parsed = Pattern::parse(pattern)?;
        let router = &mut self.router;
        let tree = match &parsed.host {
            HostPattern::Any => &mut router.any,
            HostPattern::Exact(host) => router.exact.entry(host.as_str().into()).or_default(),
            HostPattern::Below(host) => router.below.entry(host.as_str().into()).or_default(),
        };
        tree.insert(&parsed.segments, router.routes.len()).map_err(|taken| RouteError::Conflict {
            pattern: pattern.to_owned(),
            other: router.routes.get(taken).map(|route| route.pattern.to_string()).unwrap_or_default(),
        })?;
        router.routes.push(Route { pattern: pattern.into(), names: parsed.names.into(), value });
        Ok(())
    }

    /// The finished router.
    pub fn build(self) -> Router<T> {
        self.router
    }
}

impl<T> Router<T> {
    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// No routes: nothing is ever found.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The most specific route for a host and a path. `host` is without port and trailing dot, "" when there is none;
    /// `path` is without query and begins with a slash, or nothing matches. Allocates nothing once `params` was used.
    pub fn find<'r>(&'r self, host: &str, path: &str, params: &mut Params) -> Option<Match<'r, T>> {
        params.clear();
        // Lower case is what a parsed head gives; anything else costs a copy and nothing more.
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let mut lower = core::mem::take(&mut params.host);
            lower.clear();
            lower.push_str(host);
            lower.make_ascii_lowercase();
            let found = self.find_lower(&lower, path, params);
            params.host = lower;
            return found;
        }
        self.find_lower(host, path, params)
    }

    fn find_lower<'r>(&'r self, host: &str, path: &str, params: &mut Params) -> Option<Match<'r, T>> {
        if let Some(tree) = self.exact.get(host)
            && let Some(found) = self.find_in(tree, path, params)
        {
            return Some(found);
        }
        if !self.below.is_empty() {
            // From the left, so that the longest wildcard comes first.
            for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
                let rest = host.get(dot.saturating_add(1)..).unwrap_or_default();
                if let Some(tree) = self.below.get(rest)
                    && let Some(found) = self.find_in(tree, path, params)
                {
                    return Some(found);
                }
            }
        }
        self.find_in(&self.any, path, params)
    }

    fn find_in<'r>(&'r self, tree: &Tree, path: &str, params: &mut Params) -> Option<Match<'r, T>> {
        let Slot { route, mount_len } = tree.find(path, &mut params.values)?;
        let Route { pattern, names, value } = self.routes.get(route)?;
        if !names.is_empty() {
            params.names = Some(Arc::clone(names));
        }
        Some(Match { value, mount_len, pattern })
    }
}

#[cfg(test)]
mod tests;
