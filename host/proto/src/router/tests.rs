//! Tables of patterns and paths, and a comparison with a matcher that tries every pattern.

use proptest::prelude::*;

use super::pattern::{HostPattern, Pattern, Segment};
use super::*;

fn router(patterns: &[&str]) -> Router<usize> {
    let mut builder = RouterBuilder::new();
    for (number, pattern) in patterns.iter().enumerate() {
        builder.insert(pattern, number).unwrap();
    }
    builder.build()
}

/// The pattern found, the mount's length and the parameters as `name=value`.
fn ask<'r>(router: &'r Router<usize>, host: &str, path: &str) -> Option<(&'r str, usize, Vec<String>)> {
    let mut params = Params::default();
    let found = router.find(host, path, &mut params)?;
    let values = params.iter().map(|(name, range)| format!("{name}={}", &path[range])).collect();
    Some((found.pattern, found.mount_len, values))
}

#[test]
fn the_most_specific_route_wins() {
    let router = router(&[
        "/*",
        "/shop/*",
        "/shop",
        "/shop/{id}",
        "/shop/new",
        "/shop/{id}/parts/{part}",
        "/shop/new/parts/*",
        "/exact",
        "/",
        "/slash/",
    ]);
    let table: &[(&str, &str, usize, &[&str])] = &[
        ("/", "/", 0, &[]),
        ("/other", "/*", 0, &[]),
        ("/shop", "/shop", 0, &[]),
        ("/shop/", "/shop/*", 5, &[]),
        ("/shopping", "/*", 0, &[]),
        ("/shop/7", "/shop/{id}", 0, &["id=7"]),
        ("/shop/new", "/shop/new", 0, &[]),
        ("/shop/new/", "/shop/*", 5, &[]),
        ("/shop/7/x", "/shop/*", 5, &[]),
        ("/shop/7/parts/8", "/shop/{id}/parts/{part}", 0, &["id=7", "part=8"]),
        ("/shop/new/parts/8", "/shop/new/parts/*", 15, &[]),
        ("/shop/new/parts", "/shop/new/parts/*", 15, &[]),
        ("/exact", "/exact", 0, &[]),
        ("/exact/", "/*", 0, &[]),
        ("/Exact", "/*", 0, &[]),
        ("/slash/", "/slash/", 0, &[]),
        ("/slash", "/*", 0, &[]),
        ("//shop", "/*", 0, &[]),
        ("/shop//parts/8", "/shop/*", 5, &[]),
    ];
    for (path, pattern, mount_len, params) in table {
        let expected = (*pattern, *mount_len, params.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(ask(&router, "any.example", path), Some(expected), "{path}");
    }
}

#[test]
fn a_dead_end_is_left_again() {
    let router = router(&["/a/b/c", "/a/{x}/d", "/{x}/b/e", "/{y}/*"]);
    assert_eq!(ask(&router, "", "/a/b/c").unwrap().0, "/a/b/c");
    assert_eq!(ask(&router, "", "/a/b/d"), Some(("/a/{x}/d", 0, vec!["x=b".to_owned()])));
    assert_eq!(ask(&router, "", "/a/b/e"), Some(("/{x}/b/e", 0, vec!["x=a".to_owned()])));
    assert_eq!(ask(&router, "", "/a/b/f"), Some(("/{y}/*", 2, vec!["y=a".to_owned()])));
    assert_eq!(ask(&router, "", "/"), None);
}

#[test]
fn hosts_come_before_paths() {
    let router = router(&["a.example.com/x", "*.example.com/*", "*.b.example.com/*", "/x/y", "/*"]);
    let table = [
        ("a.example.com", "/x", "a.example.com/x"),
        ("A.Example.COM", "/x", "a.example.com/x"),
        ("a.example.com", "/y", "*.example.com/*"),
        ("c.b.example.com", "/x/y", "*.b.example.com/*"),
        ("b.example.com", "/x/y", "*.example.com/*"),
        ("d.c.b.example.com", "/", "*.b.example.com/*"),
        ("example.com", "/x/y", "/x/y"),
        (".example.com", "/q", "/*"),
        ("xexample.com", "/q", "/*"),
        ("", "/q", "/*"),
    ];
    for (host, path, pattern) in table {
        assert_eq!(ask(&router, host, path).map(|found| found.0), Some(pattern), "{host}{path}");
    }
}

#[test]
fn nothing_matches_what_is_no_path() {
    let router = router(&["/*"]);
    for path in ["", "*", "example.com:443"] {
        assert_eq!(ask(&router, "", path), None, "{path}");
    }
    assert_eq!(ask(&RouterBuilder::new().build(), "", "/"), None);
}

#[test]
fn params_are_those_of_the_last_match() {
    let router = router(&["a.test/{one}/{two}", "/{three}/*", "/plain"]);
    let mut params = Params::default();
    assert!(router.find("a.test", "/1/2", &mut params).is_some());
    assert_eq!((params.len(), params.get("two", "/1/2")), (2, Some("2")));
    assert!(router.find("a.test", "/1/2/3", &mut params).is_some());
    assert_eq!(
        (params.len(), params.get("three", "/1/2/3"), params.get("two", "/1/2/3")),
        (1, Some("1"), None)
    );
    assert!(router.find("", "/plain", &mut params).is_some());
    assert!(params.is_empty() && params.iter().next().is_none());
    assert!(router.find("", "/", &mut params).is_none());
    assert!(params.is_empty());
}

#[test]
fn patterns_are_checked() {
    for bad in [
        "",
        "example.com",
        "*",
        "*/x",
        "a.*.com/x",
        "*.*.com/x",
        "example.com:80/x",
        "https://example.com/x",
        "a..b/x",
        ".a/x",
        "*./x",
        "a b/x",
        "[::1/x",
        "[zz]/x",
        "/a/*/b",
        "/a*",
        "/*a",
        "/{",
        "/{}",
        "/{1a}",
        "/{a-b}",
        "/{a}b",
        "/x{a}",
        "/a?b",
        "/a#b",
        "/a b",
        "/\u{e4}",
        "/\n",
        "/%",
        "/%4",
        "/%zz",
        "/./a",
        "/a/..",
        "/%2e%2E",
        "/.%2e/x",
    ] {
        let error = RouterBuilder::new().insert(bad, ()).unwrap_err();
        assert!(matches!(&error, RouteError::Syntax { pattern, .. } if pattern == bad), "{bad}: {error:?}");
        assert!(error.to_string().contains(bad), "{error}");
    }
    for (bad, why) in [("a:80/x", "without a port"), ("http://a/x", "without a scheme")] {
        let error = RouterBuilder::new().insert(bad, ()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let deep = "/a".repeat(65);
    assert!(matches!(RouterBuilder::new().insert(&deep, ()), Err(RouteError::Syntax { .. })));
    assert!(RouterBuilder::new().insert(&deep[..128], ()).is_ok());
    for good in
        ["/", "//", "/a//b", "/%41", "/a:b@c;d=e", "localhost/", "127.0.0.1/*", "[::1]/*", "a_b.c./x", "/..."]
    {
        assert!(RouterBuilder::new().insert(good, ()).is_ok(), "{good}");
    }
}

#[test]
fn a_parameter_has_its_name_once() {
    let error = RouterBuilder::new().insert("/{a}/{b}/{a}", ()).unwrap_err();
    assert_eq!(error, RouteError::DuplicateParameter { pattern: "/{a}/{b}/{a}".into(), name: "a".into() });
}

#[test]
fn two_patterns_of_one_shape_conflict() {
    let table = [
        ("/a/{x}", "/a/{y}"),
        ("/shop/*", "/shop/*"),
        ("Example.com/", "example.COM./"),
        ("*.a.test/{x}/*", "*.A.test/{y}/*"),
    ];
    for (first, second) in table {
        let mut builder = RouterBuilder::new();
        builder.insert(first, 1).unwrap();
        let error = builder.insert(second, 2).unwrap_err();
        assert_eq!(error, RouteError::Conflict { pattern: second.into(), other: first.into() });
        assert_eq!(builder.build().len(), 1);
    }
    assert_eq!(
        router(&["/shop", "/shop/", "/shop/*", "/{x}", "/{x}/", "/{x}/*", "a.b/shop", "*.b/shop"]).len(),
        8
    );
}

/// How specific a pattern is, the smaller the more; None when it does not match.
fn naive_rank(pattern: &Pattern, host: &str, path: &str) -> Option<(u8, usize, Vec<u8>)> {
    let (class, length) = match &pattern.host {
        HostPattern::Exact(name) => (name == host).then_some((0, 0))?,
        HostPattern::Below(name) => {
            let label = host.strip_suffix(name.as_str())?.strip_suffix('.')?;
            (!label.is_empty()).then_some((1, usize::MAX - name.len()))?
        }
        HostPattern::Any => (2, 0),
    };
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let mut kinds = Vec::new();
    for (number, segment) in pattern.segments.iter().enumerate() {
        match (segment, parts.get(number)) {
            (Segment::Rest, _) => {
                kinds.push(2);
                return Some((class, length, kinds));
            }
            (Segment::Literal(text), Some(part)) if text == part => kinds.push(0),
            (Segment::Param, Some(part)) if !part.is_empty() => kinds.push(1),
            _ => return None,
        }
    }
    // The end of an exact route is more specific than a `*` that stands for nothing.
    (parts.len() == pattern.segments.len()).then_some((class, length, kinds))
}

fn a_host() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..4).prop_map(|labels| labels.join("."))
}

fn a_pattern() -> impl Strategy<Value = String> {
    let host = (a_host(), any::<bool>())
        .prop_map(|(host, below)| if below && !host.is_empty() { format!("*.{host}") } else { host });
    let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "", "{}", "a"]), 0..4);
    (host, segments, any::<bool>()).prop_map(|(host, segments, rest)| {
        let mut pattern = host;
        for (number, segment) in segments.iter().enumerate() {
            pattern.push('/');
            if *segment == "{}" {
                pattern.push_str(&format!("{{p{number}}}"));
            } else {
                pattern.push_str(segment);
            }
        }
        pattern.push_str(if rest {
            "/*"
        } else if segments.is_empty() {
            "/"
        } else {
            ""
        });
        pattern
    })
}

fn a_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "c"]), 1..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn it_agrees_with_trying_every_pattern(
        patterns in prop::collection::vec(a_pattern(), 1..14),
        requests in prop::collection::vec((a_host(), a_path()), 1..12),
    ) {
        let mut builder = RouterBuilder::new();
        let mut accepted = Vec::new();
        for pattern in &patterns {
            match builder.insert(pattern, accepted.len()) {
                Ok(()) => accepted.push((pattern.clone(), Pattern::parse(pattern).unwrap())),
                Err(RouteError::Conflict { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        let router = builder.build();
        let mut params = Params::default();
        for (host, path) in &requests {
            let best = accepted
                .iter()
                .filter_map(|(text, pattern)| Some((naive_rank(pattern, host, path)?, text, pattern)))
                .min_by(|one, other| one.0.cmp(&other.0));
            let found = router.find(host, path, &mut params);
            prop_assert_eq!(found.as_ref().map(|found| found.pattern), best.as_ref().map(|best| best.1.as_str()));
            let (Some(found), Some((_, _, pattern))) = (found, best) else { continue };
            let parts: Vec<&str> = path[1..].split('/').collect();
            let values: Vec<&str> = params.iter().map(|(_, range)| &path[range]).collect();
            let expected: Vec<&str> = pattern
                .segments
                .iter()
                .zip(&parts)
                .filter(|(segment, _)| **segment == Segment::Param)
                .map(|(_, part)| *part)
                .collect();
            prop_assert_eq!(values, expected);
            let mount = match pattern.segments.last() {
                Some(Segment::Rest) => parts[..pattern.segments.len() - 1].iter().map(|part| part.len() + 1).sum(),
                _ => 0,
            };
            prop_assert_eq!(found.mount_len, mount);
        }
    }
}
