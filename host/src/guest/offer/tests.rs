//! The list, the linkers and the page say the same, and what is refused is told why.

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::super::component::ComponentState;
use super::super::engine::{self, Mode};
use super::super::{anatomy, program::Kind};
use super::*;

fn linker() -> (Engine, Linker<ComponentState>) {
    let engine = engine::compiling(Mode::Production).unwrap();
    let mut linker = Linker::new(&engine);
    crate::wasi::add_to_linker(&mut linker).unwrap();
    crate::wasi_http::add_to_linker(&mut linker).unwrap();
    crate::wasi_keyvalue::add_to_linker(&mut linker).unwrap();
    (engine, linker)
}

/// A component that imports one thing. Functions have a type that none has, so that one which is there is told apart
/// from one that is not.
fn importing(interface: &str, kind: ItemKind, name: &str) -> Vec<u8> {
    let resource = name.split(['.', ']']).nth(1).filter(|_| name.starts_with('['));
    let item = match (kind, resource) {
        (ItemKind::Resource, _) => format!(r#"(export "{name}" (type (sub resource)))"#),
        (_, None) => format!(r#"(export "{name}" (func (param "nobody" (tuple s8 s8))))"#),
        (_, Some(resource)) => {
            let ty = if name.starts_with("[method]") {
                r#"(param "self" (borrow $r)) (param "nobody" (tuple s8 s8))"#
            } else if name.starts_with("[constructor]") {
                r#"(param "nobody" (tuple s8 s8)) (result (own $r))"#
            } else {
                r#"(param "nobody" (tuple s8 s8))"#
            };
            format!(r#"(export "{resource}" (type $r (sub resource))) (export "{name}" (func {ty}))"#)
        }
    };
    let wat = format!(r#"(component (import "{interface}" (instance {item})))"#);
    wat::parse_str(&wat).unwrap_or_else(|error| panic!("{wat}: {error}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Linked,
    /// Linked with another type.
    Typed,
    Missing,
}

/// What the linkers say.
fn found(engine: &Engine, linker: &Linker<ComponentState>, wasm: &[u8]) -> Found {
    match linker.instantiate_pre(&Component::new(engine, wasm).unwrap()) {
        Ok(_) => Found::Linked,
        Err(error) if format!("{error:#}").contains("implementation is missing") => Found::Missing,
        Err(_) => Found::Typed,
    }
}

fn said(wasm: &[u8]) -> Vec<String> {
    missing(&anatomy::of(Kind::Component, wasm).unwrap().imports)
}

#[test]
fn what_is_listed_is_linked() {
    let (engine, linker) = linker();
    for interface in INTERFACES {
        // The oldest that was released, and one that is still to come.
        let released = ["0.2.0", "0.2.99"].as_slice();
        for version in interface.draft.as_ref().map_or(released, std::slice::from_ref) {
            let name = format!("{}@{version}", interface.name);
            for function in interface.functions() {
                let wasm = importing(&name, ItemKind::Function, function);
                assert_eq!(found(&engine, &linker, &wasm), Found::Typed, "{name} {function}");
                assert_eq!(said(&wasm), [""; 0]);
            }
            for resource in interface.resources() {
                let wasm = importing(&name, ItemKind::Resource, resource);
                assert_eq!(found(&engine, &linker, &wasm), Found::Linked, "{name} {resource}");
                assert_eq!(said(&wasm), [""; 0]);
            }
        }
    }
}

/// A name that is not in the list is not in the linkers either: looked for is everything in it, in every interface.
#[test]
fn what_is_linked_is_listed() {
    let (engine, linker) = linker();
    let mut interfaces: Vec<_> = INTERFACES.iter().map(|interface| interface.name).collect();
    interfaces.extend([
        "wasi:cli/run",
        "wasi:http/incoming-handler",
        "wasi:clocks/timezone",
        "wasi:http/client",
    ]);
    let mut functions: Vec<_> = INTERFACES.iter().flat_map(Interface::functions).collect();
    functions.retain(|name| !name.starts_with('['));
    // What the standard has and we do not.
    functions.extend(["display", "utc-offset", "run"]);
    for name in interfaces {
        let draft = INTERFACES.iter().find(|known| known.name == name).and_then(|known| known.draft);
        let versioned = format!("{name}@{}", draft.unwrap_or("0.2.12"));
        let offered = interface(&versioned);
        for function in &functions {
            let item = Item { name: function, kind: ItemKind::Function };
            let wasm = importing(&versioned, ItemKind::Function, function);
            let listed = offered.is_some_and(|offered| offered.has(&item));
            let linked = found(&engine, &linker, &wasm) != Found::Missing;
            assert_eq!(listed, linked, "{versioned} {function}");
            assert_eq!(said(&wasm).is_empty(), listed, "{versioned} {function}");
        }
    }
}

/// What is bound from our own copies of the standard's shapes, methods included.
#[test]
fn what_is_bound_is_listed() {
    let http = include_str!("../../../wit/deps/http.wit");
    let sockets = include_str!("../../../wit/deps/sockets.wit");
    let keyvalue = include_str!("../../../wit/deps/keyvalue.wit");
    for (package, shapes) in [("wasi:http", http), ("wasi:sockets", sockets), ("wasi:keyvalue", keyvalue)] {
        for (name, functions) in functions_of(shapes) {
            let name = format!("{package}/{name}");
            let listed = INTERFACES.iter().find(|interface| interface.name == name);
            if name == HANDLER {
                assert!(listed.is_none());
                continue;
            }
            let mut listed: Vec<_> = listed.unwrap().functions().collect();
            let mut bound: Vec<_> = functions.iter().map(String::as_str).collect();
            listed.sort_unstable();
            bound.sort_unstable();
            assert_eq!(listed, bound, "{name}");
        }
    }
}

/// Each interface of a text in WIT that is laid out as ours are, and its functions as components name them.
fn functions_of(shapes: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut resource = None;
    for line in shapes.lines() {
        let line = line.trim().trim_start_matches('%');
        let word = |text: &str| text.split([' ', ';', '{', ':']).next().unwrap_or_default().to_owned();
        if let Some(name) = line.strip_prefix("interface ") {
            found.push((word(name), Vec::new()));
        } else if let Some(name) = line.strip_prefix("resource ") {
            resource = line.ends_with('{').then(|| word(name));
        } else if line == "}" {
            resource = None;
        }
        let function = match (&resource, line.split_once(": ")) {
            (Some(resource), _) if line.starts_with("constructor(") => format!("[constructor]{resource}"),
            (Some(resource), Some((name, ty))) if ty.starts_with("static func(") => {
                format!("[static]{resource}.{name}")
            }
            (Some(resource), Some((name, ty))) if ty.starts_with("func(") => {
                format!("[method]{resource}.{name}")
            }
            (None, Some((name, ty))) if ty.starts_with("func(") => name.to_owned(),
            _ => continue,
        };
        found.last_mut().unwrap().1.push(function);
    }
    found
}

/// `docs/wasi.md` has each interface under a heading of its own, and each function in a row below it.
#[test]
fn the_page_lists_the_same() {
    let page = include_str!("../../../../docs/wasi.md");
    let sections: Vec<_> = page.split("\n### wasi:").skip(1).collect();
    assert_eq!(sections.len(), INTERFACES.len());
    for interface in INTERFACES {
        let heading = interface.name.strip_prefix("wasi:").unwrap();
        let section = sections.iter().find(|section| section.lines().next() == Some(heading));
        let section = section.unwrap_or_else(|| panic!("no heading for {}", interface.name));
        let section = section.split("\n## ").next().unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let mut said: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let mut listed: Vec<_> = interface
            .functions()
            .map(|name| name.replace("[constructor]", "constructor ").replace("[method]", ""))
            .map(|name| name.replace("[static]", ""))
            .collect();
        said.sort_unstable();
        listed.sort_unstable();
        assert_eq!(said, listed, "{}", interface.name);
    }
}

#[test]
fn versions_are_told_apart() {
    for version in ["0.2.0", "0.2.12", "0.2.100", "0.2.1+build"] {
        assert!(is_served(version), "{version}");
    }
    for version in
        ["", "0.2", "0.2.", "0.3.0", "1.0.0", "0.2.0-rc-2023-11-10", "0.2.1-draft", "0.2.x", "0.20.1"]
    {
        assert!(!is_served(version), "{version}");
    }
}

#[test]
fn what_is_missing_is_named_with_a_way_out() {
    let table = [
        (
            "wasi:keyvalue/store@0.2.0-draft",
            "open",
            "wasi:keyvalue/store@0.2.0-draft (the whole interface) - of its drafts 0.2.0-draft2 is served",
        ),
        ("wasi:keyvalue/store@0.2.0", "open", "of its drafts 0.2.0-draft2 is served"),
        (
            "wasi:keyvalue/store@0.2.0-draft2",
            "close",
            "store@0.2.0-draft2: close - this server knows the draft",
        ),
        ("wasi:keyvalue/watcher@0.2.0-draft2", "on-set", "not among the interfaces of it"),
        ("wasi:blobstore/blobstore@0.2.0-draft", "x", "not served yet"),
        (
            "wasi:http/types@0.2.12",
            "frobnicate",
            "wasi:http/types@0.2.12: frobnicate - this server knows WASI 0.2.12",
        ),
        (
            "wasi:http/types@0.3.0",
            "x",
            "wasi:http/types@0.3.0 (the whole interface) - WASI 0.3 is not served yet: build it for wasi:http 0.2",
        ),
        ("wasi:io/poll@0.2.0-rc-2023-11-10", "poll", "a draft of it"),
        ("wasi:io/poll", "poll", "with its version"),
        ("wasi:clocks/timezone@0.2.1", "display", "not among the interfaces"),
        ("my:own/thing@1.0.0", "x", "`wac plug`"),
    ];
    for (interface, function, expected) in table {
        let said = said(&importing(interface, ItemKind::Function, function));
        assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
    }
    let alone = wat::parse_str(r#"(component (import "log" (func)))"#).unwrap();
    assert_eq!(
        said(&alone),
        ["log (a function) - a handler imports interfaces of WASI 0.2 and nothing else"]
    );
    // Types need nothing of a host.
    let types = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (type $e (enum "a")) (export "e" (type (eq $e))))))"#;
    let types = wat::parse_str(types).unwrap();
    assert_eq!(said(&types), [""; 0]);
    let (engine, linker) = linker();
    assert_eq!(found(&engine, &linker, &types), Found::Linked);
}

#[test]
fn exports_that_would_do_are_named() {
    let table = [
        (vec![], "it exports nothing; a handler exports `wasi:http/incoming-handler@0.2.x`"),
        (vec!["wasi:cli/run@0.2.3"], "it is a command (it exports `wasi:cli/run@0.2.3`)"),
        (vec!["wasi:http/handler@0.3.0"], "which is not served yet; build it for 0.2"),
        (vec!["wasi:http/incoming-handler@0.2.0-rc-2023-11-10"], "a draft; a handler exports"),
        (vec!["wasi:http/incoming-handler@1.0.0"], "@1.0.0`; a handler exports"),
        (vec!["a:b/c", "d\n\u{1b}"], "it exports `a:b/c`, `d\\n\\u{1b}`;"),
        (vec!["x"; 12], "and 2 more; a handler exports"),
    ];
    for (names, expected) in table {
        let text = no_handler(names.iter().copied());
        assert!(text.contains(expected), "{names:?}: {text}");
    }
    let instance = |name| Export { name, kind: ComponentExternalKind::Instance };
    assert!(serves(&instance("wasi:http/incoming-handler@0.2.0")));
    assert!(serves(&instance("wasi:http/incoming-handler@0.2.99")));
    assert!(!serves(&instance("wasi:http/incoming-handler@0.3.0")));
    assert!(!serves(&instance("wasi:http/incoming-handler")));
    let function = ComponentExternalKind::Func;
    assert!(!serves(&Export { name: "wasi:http/incoming-handler@0.2.0", kind: function }));
}

#[test]
fn a_long_list_is_cut() {
    let lines: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    let text = listed(&lines);
    assert!(text.ends_with("\n  29\n  and 970 more"), "{text}");
    assert!(shown(&"\u{e4}".repeat(1_000)).len() < 130);
}
