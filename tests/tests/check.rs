//! `tidegate check`: what it says about modules of all kinds, and that its status agrees with the server.

use tidegate_tests::artifacts::{component_guest, guest, wat_guest, wat_text};
use tidegate_tests::project::answering;
use tidegate_tests::{Project, Server};

const HANDLER: &str =
    r#"(memory (export "memory") 1) (func (export "tidegate_handle") (result i32) (i32.const 0))"#;

#[test]
fn files_of_all_kinds() {
    let project = Project::empty("kinds");
    let module = |name: &str, inside: &str| {
        let path = wat_text(&format!("check-{name}"), &format!("(module {inside})"));
        project.put(&format!("{name}.wasm"), &path);
    };
    module("fine", HANDLER);
    module(
        "files",
        &format!(r#"(import "wasi_snapshot_preview1" "fd_sync" (func (param i32) (result i32))) {HANDLER}"#),
    );
    module("command", r#"(memory (export "memory") 1) (func (export "_start"))"#);
    module("browser", &format!(r#"(import "wbg" "__wbindgen_throw" (func (param i32 i32))) {HANDLER}"#));
    module(
        "threads",
        r#"(memory (export "memory") 1 2 shared) (func (export "tidegate_handle") (result i32) (i32.const 0))"#,
    );
    module("hungry", &HANDLER.replacen(" 1)", " 4000)", 1));
    module("newer", &format!(r#"(import "tidegate_v1" "teleport" (func)) {HANDLER}"#));
    std::fs::write(project.path("component.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
    project.write("text.wasm", "(module)");
    project.write("notes.wasm", "hello");
    std::fs::write(project.path("cut.wasm"), b"\0asm\x01\0\0\0\x01\x7f").unwrap();

    let table: [(&str, i32, &[&str]); 11] = [
        (
            "fine",
            0,
            &["fine.wasm: a module", "would be served: yes", "memory 64 MiB, cpu 10s, wall 30s, 256 at once"],
        ),
        ("files", 0, &["would be served: yes", "fd_sync", "denied: handlers have no files"]),
        (
            "command",
            1,
            &["would be served: no", "it is a command: it exports `_start`", "crate-type = [\"cdylib\"]"],
        ),
        (
            "browser",
            1,
            &[
                "it imports `__wbindgen_throw` of `wbg`",
                "wasm-bindgen, for browsers: build for wasm32-wasip1",
            ],
        ),
        ("threads", 1, &["its memory is shared", "uses       threads"]),
        ("hungry", 1, &["its limit is 64 MiB", "raise `memory`"]),
        ("newer", 1, &["ABI 1", "`teleport` of `tidegate_v1`", "use a newer tidegate"]),
        (
            "component",
            1,
            &["a component", "it exports nothing; a handler exports `wasi:http/incoming-handler@0.2.x`"],
        ),
        ("text", 1, &["WebAssembly as text", "wat2wasm"]),
        ("notes", 1, &["it is no WebAssembly"]),
        ("cut", 1, &["it is not valid: ", "(at byte "]),
    ];
    // What may never end, or is larger than any module: refused before it is read.
    project.run(&["check", "/dev/zero"]).ends_with(2).complains("is not a regular file");
    std::fs::File::create(project.path("huge.wasm")).unwrap().set_len(2 << 30).unwrap();
    project.run(&["check", "huge.wasm"]).ends_with(2).complains("larger than a module may be");
    for (name, status, says) in table {
        let said = project.run(&["check", &format!("{name}.wasm")]).ends_with(status);
        for part in says {
            assert!(said.out.contains(part), "{name}: {part:?} is not in\n{}{}", said.out, said.err);
        }
        let json = project.run(&["check", &format!("{name}.wasm"), "--json"]).ends_with(status);
        let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["servable"].as_bool(), Some(status == 0), "{name}");
        assert_eq!(json["objections"].as_array().unwrap().is_empty(), status == 0, "{name}");
    }
}

#[test]
fn a_handler_in_rust() {
    let project = Project::empty("rust");
    let hello = guest("hello");
    let said = project.run(&["check", hello.to_str().unwrap()]).ends_with(0);
    for part in ["ABI 1", "its stack 256 KiB", "tidegate_handle", "() -> i32", "respond", "granted"] {
        assert!(said.out.contains(part), "{part:?} is not in\n{}", said.out);
    }
    assert!(!said.out.contains("unknown"), "{}", said.out);
    let json = project.run(&["check", hello.to_str().unwrap(), "--json"]).ends_with(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["abi"].as_u64(), json["stack_bytes"].as_u64()), (Some(1), Some(256 << 10)));
    let imports = json["imports"].as_array().unwrap();
    assert!(imports.len() > 3 && imports.iter().all(|import| import["grant"] == "granted"), "{imports:?}");
}

#[test]
fn a_component_in_rust() {
    let project = Project::empty("component");
    project.put("hello.wasm", &component_guest("hello"));
    std::fs::create_dir(project.path("public")).unwrap();
    let said = project.run(&["check", "hello.wasm"]).ends_with(0);
    for part in ["hello.wasm: a component", "would be served: yes", "core instances: 1 place in the pools"] {
        assert!(said.out.contains(part), "{part:?} is not in\n{}", said.out);
    }
    let line = |start: &str| {
        let found = said.out.lines().find(|line| line.trim_start().starts_with(start));
        found.unwrap_or_else(|| panic!("no line {start:?} in\n{}", said.out))
    };
    assert!(line("wasi:http/incoming-handler@0.2.").ends_with("interface, serves"));
    let types = line("wasi:http/types@0.2.");
    assert!(types.contains("granted (") && types.ends_with(" functions)"), "{types}");
    assert!(!said.out.contains("unknown"), "{}", said.out);

    let json = project.run(&["check", "hello.wasm", "--json"]).ends_with(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["kind"].as_str(), json["servable"].as_bool()), (Some("component"), Some(true)));
    assert!(json["needs"]["core_instances"].as_u64().is_some_and(|n| n > 1), "{json}");
    let imports = json["imports"].as_array().unwrap();
    assert!(imports.len() > 20 && imports.iter().all(|import| import["grant"] == "granted"), "{imports:?}");
    let set = imports.iter().find(|import| import["name"] == "[static]response-outparam.set").unwrap();
    assert_eq!(set["shape"], "function");

    // What it is given besides, without the values.
    let app = "[[app]]\nname = \"hello\"\nsource = \"hello.wasm\"\nroutes = [\"/*\"]\n\
               env = { SECRET = \"hunter2\" }\nmounts = [{ host = \"public\", guest = \"/public\" }]\n";
    project.write("tidegate.toml", app);
    let said = project.run(&["check", "tidegate.toml"]).ends_with(0);
    assert!(said.out.contains("env        SECRET\n") && !said.out.contains("hunter2"), "{}", said.out);
    assert!(said.out.contains("public:/public:ro\n"), "{}", said.out);
}

/// What a component lacks stands below what it has, with the way out.
#[test]
fn a_component_that_lacks_something() {
    let project = Project::empty("lacking");
    let wat = r#"(component
        (import "wasi:io/poll@0.2.0" (instance (export "poll" (func)) (export "pool" (func))))
        (import "wasi:sockets/instance-network@0.2.0" (instance (export "instance-network" (func))))
        (import "wasi:keyvalue/store@0.2.0-draft" (instance (export "a" (func)) (export "b" (func))))
        (instance $i)
        (export "wasi:cli/run@0.2.0" (instance $i)))"#;
    project.put("lacking.wasm", &wat_text("check-lacking", wat));
    let said = project.run(&["check", "lacking.wasm"]).ends_with(1);
    for part in [
        "would be served: no",
        "  it is a command (it exports `wasi:cli/run@0.2.0`)",
        "  it imports `pool` of `wasi:io/poll@0.2.0`, which is not there\n    help: this server knows WASI 0.2.12",
        "  it imports `wasi:keyvalue/store@0.2.0-draft`, which is not there\n    help: of its drafts 0.2.0-draft2 is served: build it for that one",
        "  wasi:io/poll@0.2.0\n    poll  ",
        "denied (1 function): no rule lets it connect or listen: `sockets`",
        "wasi:keyvalue/store@0.2.0-draft              unknown (2 functions): of its drafts 0.2.0-draft2 is served: build it for that one",
    ] {
        assert!(said.out.contains(part), "{part:?} is not in\n{}", said.out);
    }
}

#[test]
fn a_projects_own_limits_count() {
    let project = Project::copied("limited", &answering("limited"), "");
    let said = project.run(&["check"]).ends_with(0);
    assert!(said.out.contains("out.wasm: a module"), "{}", said.out);
    project.write(
        "tidegate.toml",
        &(project.read("tidegate.toml")
            + "limits = { memory = \"64KiB\", cpu = \"50ms\", body = \"1MiB\" }\n"),
    );
    let said = project.run(&["check", "."]).ends_with(0);
    assert!(said.out.contains("memory 64 KiB, cpu 50ms, wall 30s"), "{}", said.out);
    assert!(said.out.contains("request bodies 1 MiB"), "{}", said.out);
}

#[test]
fn every_app_of_a_manifest_is_checked() {
    let project = Project::empty("several");
    project.put("good.wasm", &answering("good"));
    project.put("bad.wasm", &wat_text("check-empty", "(module)"));
    let app = |name: &str| {
        format!("[[app]]\nname = \"{name}\"\nsource = \"{name}.wasm\"\nroutes = [\"/{name}\"]\n")
    };
    project.write("tidegate.toml", &(app("good") + &app("bad")));
    let said = project.run(&["check"]).ends_with(1);
    assert!(
        said.out.contains("good.wasm: a module") && said.out.contains("bad.wasm: a module"),
        "{}",
        said.out
    );
    // By its own name, and a manifest of another name.
    project.write("other.toml", &app("good"));
    assert_eq!(project.run(&["check", "tidegate.toml"]).ends_with(1).out, said.out);
    let other = project.run(&["check", "other.toml"]).ends_with(0);
    assert!(other.out.contains("good.wasm: a module"), "{}", other.out);
    let json = project.run(&["check", "--json"]).ends_with(1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json[0]["servable"].as_bool(), json[1]["servable"].as_bool()), (Some(true), Some(false)));
}

/// What it may reach and offer, and what it is called for, shows.
#[test]
fn sockets_are_shown() {
    let project = Project::empty("sockets");
    let connection = r#"(func (export "tidegate_connection") (param i32) (result i32) (i32.const 0))"#;
    let memory = r#"(memory (export "memory") 1)"#;
    project.put("lines.wasm", &wat_text("check-lines", &format!("(module {memory} {connection})")));
    project.put("both.wasm", &wat_text("check-both", &format!("(module {HANDLER} {connection})")));
    project.put("fine.wasm", &wat_text("check-fine", &format!("(module {HANDLER})")));

    // By itself nothing leads to it; a handler needs nothing else.
    let said = project.run(&["check", "lines.wasm"]).ends_with(1);
    for part in [
        "it serves raw connections alone",
        "`--listen-tcp 127.0.0.1:7000`",
        "(i32) -> i32, serves raw connections",
    ] {
        assert!(said.out.contains(part), "{part:?} is not in\n{}", said.out);
    }
    project.run(&["check", "both.wasm"]).ends_with(0);
    let said = project.run(&["check", "fine.wasm"]).ends_with(0);
    assert!(!said.out.contains("\nsockets "), "{}", said.out);

    let app =
        |name: &str, rest: &str| format!("[[app]]\nname = \"{name}\"\nsource = \"{name}.wasm\"\n{rest}\n");
    let listen = |app: &str| format!("[[listen]]\ntcp = \"127.0.0.1:7000\"\napp = \"{app}\"\n");
    let rules = "sockets = { connect = [\"db.example:5432\", \"udp:10.0.0.0/8:53\"], listen = [\"localhost:7001\"] }\n\
                 limits = { sockets = 9, connects = \"5/s\", socket_bytes = \"1MiB\" }";
    project.write("tidegate.toml", &(app("lines", rules) + &listen("lines")));
    let said = project.run(&["check", "tidegate.toml"]).ends_with(0);
    for line in [
        "connect    db.example:5432, udp:10.0.0.0/8:53\n",
        "listen     localhost:7001\n",
        "raw TCP    127.0.0.1:7000\n",
        "sockets    9 at once, 5 connects a second, bytes of a call 1 MiB\n",
    ] {
        assert!(said.out.contains(line), "{line:?} is not in\n{}", said.out);
    }
    let json = project.run(&["check", "tidegate.toml", "--json"]).ends_with(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (json["connect"][1].as_str(), json["tcp"][0].as_str()),
        (Some("udp:10.0.0.0/8:53"), Some("127.0.0.1:7000"))
    );
    assert_eq!(
        (json["limits"]["sockets"].as_u64(), json["limits"]["connects_per_s"].as_u64()),
        (Some(9), Some(5))
    );
    let role = |name: &str| {
        let exports = json["exports"].as_array().unwrap();
        exports.iter().find(|export| export["name"] == name).unwrap()["role"].clone()
    };
    assert_eq!(
        (role("tidegate_connection"), role("memory")),
        ("connections".into(), serde_json::Value::Null)
    );

    // Connections lead to what serves none.
    project.write("tidegate.toml", &(app("fine", "routes = [\"/*\"]") + &listen("fine")));
    let said = project.run(&["check", "tidegate.toml"]).ends_with(1);
    assert!(said.out.contains("raw connections lead to it"), "{}", said.out);
}

/// What is refused by one is refused by the other.
#[test]
fn it_agrees_with_the_server() {
    let project = Project::empty("agrees");
    for (name, inside) in [("no-handler", ""), ("import", "(import \"a\" \"b\" (func))")] {
        let path = wat_text(&format!("agrees-{name}"), &format!("(module {inside})"));
        project.run(&["check", path.to_str().unwrap()]).ends_with(1);
        let (status, _) = Server::builder().module(path).start_refused();
        assert_eq!(status.code(), Some(1), "{name}");
    }
    let path = wat_guest("environment");
    project.run(&["check", path.to_str().unwrap()]).ends_with(0);
    drop(Server::builder().module(path).start());
}
