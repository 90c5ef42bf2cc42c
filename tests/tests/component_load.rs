//! Components that can not be served are refused when they are loaded, with all that stands against them, and before
//! anything is compiled.

use std::path::{Path, PathBuf};

use tidegate_tests::artifacts::wat_text;
use tidegate_tests::{Project, Server};

/// What the server says as it refuses; `check` says no, too.
#[track_caller]
fn refused(path: &Path) -> String {
    let (status, said) = Server::builder().module(path).start_refused();
    assert_eq!(status.code(), Some(1), "{said}");
    let project = Project::empty("refused");
    let checked = project.run(&["check", path.to_str().unwrap()]).ends_with(1);
    assert!(checked.out.contains("would be served: no"), "{}", checked.out);
    said
}

#[track_caller]
fn refused_wat(name: &str, wat: &str, parts: &[&str]) {
    let said = refused(&wat_text(&format!("load-{name}"), wat));
    for part in parts {
        assert!(said.contains(part), "{name}: {part:?} is not in\n{said}");
    }
}

#[test]
fn everything_that_is_missing_is_named() {
    let wat = r#"(component
        (import "wasi:io/poll@0.2.3" (instance (export "pollable" (type (sub resource))) (export "pool" (func))))
        (import "wasi:keyvalue/store@0.2.0-draft" (instance (export "open" (func)) (export "close" (func))))
        (import "wasi:http/types@0.3.0" (instance (export "x" (func))))
        (import "wasi:clocks/wall-clock@0.2.0-rc-2023-11-10" (instance (export "now" (func))))
        (import "my:own/thing" (instance (export "x" (func))))
        (import "log" (func)))"#;
    refused_wat(
        "missing",
        wat,
        &[
            "this component imports what this server does not have:\n",
            "wasi:io/poll@0.2.3: pool - this server knows WASI 0.2.12",
            "wasi:keyvalue/store@0.2.0-draft (the whole interface) - of its drafts 0.2.0-draft2 is served",
            "wasi:http/types@0.3.0 (the whole interface) - WASI 0.3 is not served yet: build it for wasi:http 0.2",
            "wasi:clocks/wall-clock@0.2.0-rc-2023-11-10 (the whole interface) - a draft",
            "my:own/thing (the whole interface) - of WASI alone",
            "log (a function) - a handler imports interfaces",
        ],
    );
}

#[test]
fn a_function_of_another_type_is_named() {
    let instance = r#"(export "now" (func (result string)))"#;
    let wat = format!(
        r#"(component
            (import "wasi:clocks/wall-clock@0.2.0" (instance {instance}))
            (instance $empty)
            (export "wasi:http/incoming-handler@0.2.0" (instance $empty)))"#
    );
    // No handle is in it.
    refused_wat(
        "empty-handler",
        &wat,
        &["does not export a function `handle` of `wasi:http/incoming-handler@0.2.x`"],
    );
    let handle = r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f"))) (instance $h (export "handle" (func $f)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $h))"#;
    let wat =
        format!(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance {instance})) {handle})"#);
    refused_wat(
        "type",
        &wat,
        &["can not be linked", "wasi:clocks/wall-clock@0.2.0", "`now` has the wrong type"],
    );
    refused_wat("handle-type", &format!("(component {handle})"), &["its `handle`", "has another type"]);
}

#[test]
fn exports_that_would_do_are_named() {
    let exporting = |name: &str| format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#);
    let handler = "a handler exports `wasi:http/incoming-handler@0.2.x`";
    refused_wat("nothing", "(component)", &["it exports nothing", handler]);
    refused_wat("other", &exporting("a:b/c@1.0.0"), &["it exports `a:b/c@1.0.0`", handler]);
    refused_wat("command", &exporting("wasi:cli/run@0.2.0"), &["it is a command", handler]);
    refused_wat("newer", &exporting("wasi:http/handler@0.3.0"), &["WASI 0.3, which is not served yet"]);
    refused_wat("older", &exporting("wasi:http/incoming-handler@0.2.0-rc-2023-11-10"), &["a draft", handler]);
    // Core modules with neither ABI.
    let command = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let both = &["tidegate_handle", "wasi:http/incoming-handler@0.2.x"];
    refused_wat("core-command", command, both);
    refused_wat("core-empty", "(module)", both);
}

#[test]
fn what_could_never_be_instantiated_is_refused() {
    let with = |inside: &str| {
        format!(
            r#"(component {inside}
                (import "wasi:http/types@0.2.0" (instance $types
                    (export "incoming-request" (type (sub resource)))
                    (export "response-outparam" (type (sub resource)))))
                (alias export $types "incoming-request" (type $request))
                (alias export $types "response-outparam" (type $outparam))
                (core module $main (func (export "handle") (param i32 i32)))
                (core instance $main (instantiate $main))
                (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
                    (canon lift (core func $main "handle")))
                (instance $handler (export "handle" (func $handle)))
                (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
        )
    };
    let many = |module: &str, n: usize| {
        with(&format!("(core module $x {module}) {}", "(core instance (instantiate $x))".repeat(n)))
    };
    refused_wat("instances", &many("", 64), &["65 core instances, and 64 are the most"]);
    refused_wat("memories", &many("(memory 0)", 9), &["9 linear memories, and 8 are the most"]);
    refused_wat("tables", &many("(table 0 funcref)", 17), &["17 tables, and 16 are the most"]);
    refused_wat(
        "memory",
        &many("(memory 600)", 2),
        &["needs 75 MiB of memory", "its limit is 64 MiB: raise `memory`"],
    );
    refused_wat(
        "elements",
        &many("(table 15000 funcref)", 2),
        &["tables of 30000 elements", "`table_elements`"],
    );
    // All that is allowed is served: 64 instances with 8 memories and 16 tables.
    let most = format!(
        "(core module $a (memory 1) (table 1 funcref) (table 1 funcref)) (core module $b) {}{}",
        "(core instance (instantiate $a))".repeat(8),
        "(core instance (instantiate $b))".repeat(55)
    );
    let path = wat_text("load-most", &with(&most));
    let server = Server::builder().module(path).option("--workers", "1").start();
    let mut client = server.client();
    for _ in 0..200 {
        let response = client.get("a", "/").unwrap();
        assert_eq!((response.status(), response.header("tidegate-error")), (502, Some("no-response")));
    }
}

/// wasmparser would follow these types down the stack; nothing is compiled, and nothing crashes.
#[test]
fn files_that_are_made_to_hurt_are_refused() {
    let section = |id: u8, inside: &[u8]| {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.push(id);
        let mut len = inside.len();
        while len >= 0x80 {
            bytes.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        [bytes, inside.to_vec()].concat()
    };
    let mut deep = vec![1];
    deep.extend([0x42, 1, 1].repeat(1_000_000));
    deep.extend([0x42, 0]);
    // Each component instantiates the one before it ten times.
    let mut bomb = "(component (component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for n in 1..13 {
        let before = n - 1;
        let ten = format!("(instance (instantiate $c{before}))").repeat(10);
        bomb += &format!("(component $c{n} (alias outer 1 $c{before} (component $c{before})) {ten})");
    }
    bomb += "(instance (instantiate $c12)))";
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name).with_extension("wasm");
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let said = refused(&put("deep", &section(7, &deep)));
    assert!(said.contains("100 deep in each other"), "{said}");
    let said = refused(&wat_text("load-bomb", &bomb));
    assert!(said.contains("can not be counted"), "{said}");
    let said = refused(&put("cut", &section(7, &deep)[..1_000]));
    assert!(said.contains("this guest can not be compiled: "), "{said}");
}
