//! Whole manifests: what they become, and what is said about those that are wrong.

use std::path::PathBuf;
use std::time::Duration;

use super::super::settings::Instances;
use super::super::sockets::{PEM, Rule};
use super::super::tenants::TenantLimits;
use super::*;

/// A folder with two modules in it. What is inside does not matter here.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop.wasm", "blog.wasm"] {
        std::fs::write(folder.path().join(name), b"\0asm").unwrap();
    }
    std::fs::write(folder.path().join("ca.pem"), PEM).unwrap();
    for name in ["crate", "public"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

fn problems(text: &str) -> Vec<String> {
    let folder = folder();
    let error = parse(text, "t.toml", folder.path()).unwrap_err();
    error.problems.iter().map(ToString::to_string).collect()
}

const APP: &str = "[[app]]\nname = \"shop\"\nsource = \"shop.wasm\"\nroutes = [\"/*\"]\n";

#[test]
fn everything_that_can_be_set() {
    let folder = folder();
    let text = r#"
        [server]
        listen = ["127.0.0.1:8080", "[::1]:8080", "unix:web.sock", ":0", ":0"]
        workers = 2
        access_log = "-"
        log_format = "json"
        drain = "5s"
        trust_request_id = true
        backlog = 511
        connections = 100
        memory_budget = "2GiB"
        state = "kept"
        cache = "1GiB"
        dns = ["127.0.0.1:5353", "[::1]:53"]
        limits = { head_timeout = "2s", headers = 50, min_rate = "1KiB/s" }

        [[app]]
        name = "shop"
        source = "shop.wasm"
        routes = ["shop.example/*", "/shop/*"]
        instances = { reuse = 1000 }
        weight = 2
        env = { GREETING = "hello", A = "" }
        mounts = [{ host = "./public", guest = "/public/" }, { host = "crate", guest = "/", write = true }]
        limits = { memory = "1MiB", cpu = "1s", wall = "3s", concurrency = 4, queue = 5, body = "1GiB" }
        watermarks = { high = "8KiB", low = "1KiB" }

        [[app]]
        name = "blog"
        source = "blog.wasm"
        routes = ["/{post}"]
        instances = "fresh"

        [[app]]
        name = "lines"
        source = "shop.wasm"
        sockets = { connect = ["db.example:5432", "udp:[fd00::]/8:*"], listen = ["localhost:7000-7001"], ca = ["./ca.pem"] }
        limits = { sockets = 5, socket_bytes = "1GiB", connects = "100/s" }

        [[listen]]
        tcp = "127.0.0.1:7000"
        app = "lines"

        [[listen]]
        tcp = ":0"
        app = "shop"
        proxy_protocol = false
    "#;
    let settings = parse(text, "t.toml", folder.path()).unwrap();
    let server = &settings.server;
    let listen: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    let socket = format!("unix:{}", folder.path().join("web.sock").display());
    assert_eq!(listen, ["127.0.0.1:8080", "[::1]:8080", &socket, "[::]:0", "[::]:0"]);
    assert_eq!((server.workers, server.connections_max, server.trust_request_id), (2, 100, true));
    assert_eq!((server.access_log.as_ref(), server.log_format), (Some(&LogTarget::Stdout), LogFormat::Json));
    assert_eq!((server.drain, server.memory_budget_bytes), (Duration::from_secs(5), Some(2 << 30)));
    assert_eq!(
        (server.http.head_ms_max, server.http.headers_max, server.http.rate_bytes_per_s_min),
        (2000, 50, 1024)
    );
    assert_eq!(server.state, StateFolder::At(folder.path().join("kept")));
    assert_eq!(server.cache_bytes_max, 1 << 30);
    assert_eq!(server.backlog, 511);
    assert!(!server.dev);

    let dns: Vec<String> = server.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["127.0.0.1:5353", "[::1]:53"]);
    let preambles: Vec<_> = settings.tcp.iter().map(|tcp| tcp.proxy_protocol).collect();
    assert_eq!(preambles, [None, Some(false)]);
    let tcp: Vec<String> = settings.tcp.iter().map(|tcp| format!("{} {}", tcp.addr, tcp.app)).collect();
    assert_eq!(tcp, ["127.0.0.1:7000 lines", "[::]:0 shop"]);

    let [shop, blog, lines] = settings.apps.as_slice() else { panic!("three apps") };
    assert_eq!((shop.name.as_str(), shop.weight, shop.instances), ("shop", 2, Instances::Reuse(1000)));
    assert_eq!(shop.source, folder.path().join("shop.wasm"));
    assert_eq!(shop.routes, ["shop.example/*", "/shop/*"]);
    assert!(shop.env.contains(&("GREETING".into(), "hello".into())) && shop.env.len() == 2);
    let [public, all] = shop.mounts.as_slice() else { panic!("{:?}", shop.mounts) };
    assert_eq!(
        (&public.host, public.guest.as_str(), public.write),
        (&folder.path().join("public"), "/public", false)
    );
    assert_eq!((&all.host, all.guest.as_str(), all.write), (&folder.path().join("crate"), "/", true));
    let limits = &shop.limits;
    assert_eq!(
        (limits.memory_bytes, limits.cpu, limits.wall),
        (1 << 20, Duration::from_secs(1), Duration::from_secs(3))
    );
    assert_eq!((limits.concurrency, limits.queue, limits.body_bytes), (4, 5, Some(1 << 30)));
    assert_eq!((limits.high_watermark, limits.low_watermark), (8192, 1024));
    let expected = AppSettings {
        routes: vec!["/{post}".into()],
        routes_by_default: false,
        ..AppSettings::new("blog".into(), folder.path().join("blog.wasm"))
    };
    assert_eq!(*blog, expected);
    let shown = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&lines.sockets.connect), ["db.example:5432", "udp:[fd00::]/8:*"]);
    assert_eq!(shown(&lines.sockets.listen), ["localhost:7000-7001"]);
    assert_eq!(lines.sockets.ca, [folder.path().join("ca.pem")]);
    let limits = &lines.limits;
    assert_eq!((limits.sockets_max, limits.socket_bytes_max, limits.connects_per_s), (5, 1 << 30, 100));
    assert!(lines.routes.is_empty(), "raw connections lead to it");
}

#[test]
fn what_is_left_out_has_its_default() {
    let folder = folder();
    let settings = parse(APP, "t.toml", folder.path()).unwrap();
    assert_eq!(settings.server, ServerSettings::default());
    let mut expected = AppSettings::new("shop".into(), folder.path().join("shop.wasm"));
    expected.routes_by_default = false;
    assert_eq!(settings.apps, [expected]);
}

/// One problem each: the text beside a valid app, the place, the message, the help.
#[test]
fn wrong_settings_of_the_server() {
    let table = [
        ("[sever]", "1:2", "unknown key `sever`", "did you mean `server`?"),
        ("server = 1", "1:10", "a table is expected here, not integer", ""),
        ("[server]\nlistn = []", "2:1", "unknown key `listn`", "did you mean `listen`?"),
        (
            "[server]\nadmin = \"a.sock\"",
            "2:9",
            "admin: `a.sock` is not an address to listen on",
            "unix:web.sock",
        ),
        ("[server]\nadmin = \"127.0.0.1:1\"", "2:9", "listens on TCP only with tokens", "`unix:admin.sock`"),
        ("[server]\nkeep = 1", "2:8", "keep: it must be between 2 and 1000", ""),
        ("[server]\nmodule_bytes = 7", "2:16", "module_bytes: a plain number is ambiguous", "`64MiB`"),
        ("[server]\ntokens = [{ name = \"a\" }]", "2:11", "the token has no `secret`", "file:ci.token"),
        (
            "[server]\ntokens = [{ name = \"a\", secret = \"hunter2\" }]",
            "2:34",
            "secret: this is no source of a secret",
            "`env:DB_PASSWORD`",
        ),
        (
            "[server]\ntokens = [{ name = \"a\", secret = \"env:A\", tenant = \"b\" }]",
            "2:11",
            "the token `a` is for a tenant `b`, and there is none",
            "[[tenant]]",
        ),
        (
            "[server]\ntokens = [{ name = \"a\", secret = \"env:A\", tenant = \"b\" }]\n[[tenant]]\nname = \"b\"",
            "2:11",
            "the tenant `b` has a token, and no `routes` of its own",
            "whoever has the token could take any route",
        ),
        ("[server]\nlisten = \":80\"", "2:10", "a list is expected here, not string", "`[\":80\"]`"),
        ("[server]\nlisten = []", "2:10", "the list is empty", ""),
        ("[server]\nlisten = [\":1\", \"8080\"]", "2:17", "`8080` is not an address", "`:8080`"),
        ("[server]\nlisten = [\":1\", 2]", "2:17", "a string is expected here, not integer", ""),
        ("[server]\nlisten = [\":1\", \":1\"]", "2:17", "`[::]:1` is there twice", ""),
        ("[server]\nworkers = 0", "2:11", "workers: it must be between 1 and 1024", ""),
        ("[server]\nworkers = \"2\"", "2:11", "workers: a number is expected", "write `2` without quotes"),
        ("[server]\nlog_format = \"xml\"", "2:14", "`xml` is not a format", "`text` or `json`"),
        ("[server]\naccess_log = true", "2:14", "access_log: a string is expected here, not boolean", ""),
        ("[server]\ndrain = 30", "2:9", "drain: a plain number is ambiguous", "`10s`"),
        ("[server]\nstate = \"\"", "2:9", "state: the path of the state folder is missing", ""),
        ("[server]\ncache = 1", "2:9", "cache: a plain number is ambiguous", "`64MiB`"),
        ("[server]\ndns = \"127.0.0.1:53\"", "2:7", "a list is expected here", "`[\"127.0.0.1:53\"]`"),
        ("[server]\ndns = [\"1.1.1.1\"]", "2:8", "`1.1.1.1` names no port", "write `1.1.1.1:53`"),
        ("[server]\ndns = [\"[::1]:53\", \"[::1]:53\"]", "2:20", "`[::1]:53` is there twice", ""),
        ("[server]\ntrust_request_id = 1", "2:20", "`true` or `false` is expected", ""),
        ("[server.limits]\nhead_byte = 1", "2:1", "unknown key `head_byte`", "did you mean `head_bytes`?"),
        (
            "[server.limits]\nhead_bytes = \"1MB\"",
            "2:14",
            "`MB` is not a unit of size",
            "did you mean `1MiB`?",
        ),
        ("[server.limits]\nheaders = 100000", "2:11", "headers: it must be between 1 and", ""),
    ];
    for (text, place, message, help) in table {
        let found = problems(&format!("{text}\n{APP}"));
        let [problem] = found.as_slice() else { panic!("{text}: {found:#?}") };
        assert!(problem.starts_with(&format!("error: t.toml:{place}: ")), "{text}: {problem}");
        assert!(problem.contains(message), "{text}: {problem}");
        assert_eq!(problem.contains("\nhelp: "), !help.is_empty(), "{text}: {problem}");
        assert!(problem.contains(help), "{text}: {problem}");
    }
}

#[test]
fn wrong_settings_of_an_app() {
    let table = [
        ("wieght = 2", "5:1", "unknown key `wieght`", "did you mean `weight`?"),
        ("mounts = {}", "5:10", "a list is expected here, not table", "{ host = "),
        ("mounts = [\"a\"]", "5:11", "a table is expected here, not string", ""),
        ("mounts = [{ guest = \"/a\" }]", "5:11", "the mount has no `host`", "as in"),
        ("mounts = [{ host = \"public\" }]", "5:11", "the mount has no `guest`", "as in"),
        (
            "mounts = [{ hots = 1, host = \"public\", guest = \"/a\" }]",
            "5:13",
            "unknown key `hots`",
            "`host`",
        ),
        ("mounts = [{ host = \"none\", guest = \"/a\" }]", "5:20", "none`: ", "has to be there"),
        (
            "mounts = [{ host = \"shop.wasm\", guest = \"/a\" }]",
            "5:20",
            "shop.wasm` is not a folder",
            "a folder",
        ),
        ("mounts = [{ host = \"\", guest = \"/a\" }]", "5:20", "host: the path of the folder is missing", ""),
        ("mounts = [{ host = \"public\", guest = \"a\" }]", "5:38", "`a` does not begin with `/`", "as in"),
        ("mounts = [{ host = \"public\", guest = \"/../a\" }]", "5:38", "holds `.` or `..`", "as in"),
        ("mounts = [{ host = \"public\", guest = \"/a\", write = 1 }]", "5:52", "`true` or `false`", ""),
        (
            "mounts = [{ host = \"public\", guest = \"/a\" }, { host = \"crate\", guest = \"/a/\" }]",
            "5:46",
            "`/a` is the guest's path of `",
            "",
        ),
        ("weight = 0", "5:10", "weight: it must be between 1 and 1000", ""),
        ("weight = 1.5", "5:10", "weight: a number is expected here, not float", ""),
        ("instances = \"reuse\"", "5:13", "how many requests", "{ reuse = 1000 }"),
        ("instances = \"frsh\"", "5:13", "`frsh` is no kind of instances", "{ reuse = 1000 }"),
        ("instances = 5", "5:13", "it cannot be integer", "{ reuse = 1000 }"),
        ("instances = {}", "5:13", "it says nothing", "{ reuse = 1000 }"),
        ("instances = { reuse = 0 }", "5:23", "reuse: it must be between 1", ""),
        ("instances = { resue = 1 }", "5:15", "unknown key `resue`", "did you mean `reuse`?"),
        ("env = { A = 1 }", "5:13", "A: a variable is a string, not integer", "quotes"),
        ("env = { \"A=B\" = \"1\" }", "5:9", "`A=B` cannot be the name of a variable", ""),
        ("limits = { memroy = \"1MiB\" }", "5:12", "unknown key `memroy`", "did you mean `memory`?"),
        ("limits = { memory = 64 }", "5:21", "memory: a plain number is ambiguous", "`64MiB`"),
        ("limits = { memory = \"8GiB\" }", "5:21", "memory: it must be between 64KiB and 4GiB", ""),
        ("limits = { concurrency = \"10s\" }", "5:26", "concurrency: a number is expected", ""),
        ("limits = []", "5:10", "a table is expected here, not array", ""),
        ("watermarks = { high = \"4KiB\" }", "5:14", "the low watermark must be below the high one", "as in"),
        ("watermarks = { hi = \"4KiB\" }", "5:16", "unknown key `hi`", "did you mean"),
    ];
    for (line, place, message, help) in table {
        let found = problems(&format!("{APP}{line}\n"));
        let [problem] = found.as_slice() else { panic!("{line}: {found:#?}") };
        assert!(problem.starts_with(&format!("error: t.toml:{place}: ")), "{line}: {problem}");
        assert!(problem.contains(message), "{line}: {problem}");
        assert_eq!(problem.contains("\nhelp: "), !help.is_empty(), "{line}: {problem}");
        assert!(problem.contains(help), "{line}: {problem}");
    }
}

/// One problem each, as above: what stands behind a valid app.
#[test]
fn wrong_sockets() {
    let table = [
        ("sockets = []", "5:11", "a table is expected here, not array", ""),
        ("sockets = { conect = [] }", "5:13", "unknown key `conect`", "did you mean `connect`?"),
        ("sockets = { connect = \"a:1\" }", "5:23", "a list is expected here", "`[\"a:1\"]`"),
        ("sockets = { connect = [1] }", "5:24", "a string is expected here, not integer", ""),
        (
            "sockets = { connect = [\"a:1\", \"db.example\"] }",
            "5:31",
            "connect: `db.example` names no port",
            "say which port: `db.example:5432`, or `db.example:*` for all",
        ),
        ("sockets = { connect = [\"a:1\", \"a:1\"] }", "5:31", "connect: `a:1` is there twice", ""),
        ("sockets = { connect = [\"10.0.0.1/8:1\"] }", "5:24", "has bits beyond its prefix", "`10.0.0.0/8`"),
        ("sockets = { listen = [\"*:1\"] }", "5:23", "listen: `*:1` names no address", "`0.0.0.0:1`"),
        (
            "sockets = { listen = [\"a.example:1\"] }",
            "5:23",
            "listen: `a.example:1` names a host",
            "`[::]:1`",
        ),
        ("sockets = { ca = [\"nope.pem\"] }", "5:19", "nope.pem` cannot be read", ""),
        ("sockets = { ca = [\"shop.wasm\"] }", "5:19", "shop.wasm` has no PEM certificate", "-----BEGIN"),
        ("sockets = { ca = [\"ca.pem\", \"./ca.pem\"] }", "5:29", "`./ca.pem` is there twice", ""),
        ("limits = { sockets = 0 }", "5:22", "sockets: it must be between 1 and", ""),
        ("limits = { connects = 100 }", "5:23", "connects: a plain number is ambiguous", "write `\"100/s\"`"),
        ("limits = { connects = \"5/min\" }", "5:23", "connects: `/min` is not a unit", "`100/s`"),
        ("limits = { socket_bytes = 5 }", "5:27", "socket_bytes: a plain number is ambiguous", "`64MiB`"),
        ("limits = { socket_byte = 5 }", "5:12", "unknown key `socket_byte`", "did you mean `socket_bytes`?"),
        ("[[listen]]\ntcp = \":1\"", "5:1", "the listener has no `app`", "`app = \"lines\"`"),
        (
            "[[listen]]\ntcp = \":1\"\napp = \"shop\"\nproxy_protocol = 1",
            "8:18",
            "proxy_protocol: `true` or `false`",
            "",
        ),
        (
            "[[listen]]\ntcp = \":1\"\napp = \"shop\"\nproxy_protocol = true",
            "8:18",
            "proxy_protocol: the PROXY protocol is taken from proxies alone",
            "name them in `proxies`",
        ),
        ("[[listen]]\napp = \"shop\"", "5:1", "the listener has no `tcp`", "`tcp = \"127.0.0.1:7000\"`"),
        (
            "[[listen]]\ntpc = 1\ntcp = \":1\"\napp = \"shop\"",
            "6:1",
            "unknown key `tpc`",
            "did you mean `tcp`?",
        ),
        ("[[listen]]\ntcp = 1\napp = \"shop\"", "6:7", "tcp: a string is expected here, not an integer", ""),
        ("[[listen]]\ntcp = \"7000\"\napp = \"shop\"", "6:7", "tcp: `7000` is not an address", "`:7000`"),
        (
            "[[listen]]\ntcp = \"unix:a\"\napp = \"shop\"",
            "6:7",
            "tcp: `unix:a` is not an address of TCP",
            "as in",
        ),
        (
            "[[listen]]\ntcp = \":1\"\napp = \"shpo\"",
            "7:7",
            "app: there is no app `shpo`",
            "did you mean `shop`?",
        ),
        (
            "[[listen]]\ntcp = \":1\"\napp = \"shop\"\n[[listen]]\ntcp = \"[::]:1\"\napp = \"shop\"",
            "9:7",
            "tcp: `[::]:1` is there already, for the app `shop`",
            "one app",
        ),
        (
            "[[listen]]\ntcp = \"127.0.0.1:8080\"\napp = \"shop\"",
            "6:7",
            "tcp: `127.0.0.1:8080` is where the server listens for HTTP",
            "another port",
        ),
        (
            "[listen]\ntcp = \":1\"\napp = \"shop\"",
            "5:1",
            "`listen` is not a list of addresses",
            "write `[[listen]]`",
        ),
    ];
    for (lines, place, message, help) in table {
        let found = problems(&format!("{APP}{lines}\n"));
        let [problem] = found.as_slice() else { panic!("{lines}: {found:#?}") };
        assert!(problem.starts_with(&format!("error: t.toml:{place}: ")), "{lines}: {problem}");
        assert!(problem.contains(message) && problem.contains(help), "{lines}: {problem}");
        assert_eq!(problem.contains("\nhelp: "), !help.is_empty(), "{lines}: {problem}");
    }
    let found = problems(&format!("listen = [\":1\"]\n{APP}"));
    assert!(found[0].contains("a table is expected here, not string"), "{found:#?}");
    let found = problems(&format!("listen = \":1\"\n{APP}"));
    assert!(found[0].contains("is not a list") && found[0].contains("`listen` in `[server]`"), "{found:#?}");
}

/// An app is reached by routes, unless it has something to do without requests.
#[test]
fn what_needs_no_routes() {
    let app = "[[app]]\nname = \"lines\"\nsource = \"shop.wasm\"\n";
    let listen = |app: &str| format!("[[listen]]\ntcp = \"127.0.0.1:7000\"\napp = \"{app}\"\n");
    let folder = folder();
    for rest in [listen("lines"), "sockets = { listen = [\"localhost:1\"] }\n".to_owned()] {
        let settings = parse(&format!("{app}{rest}"), "t.toml", folder.path()).unwrap();
        assert!(settings.apps[0].routes.is_empty());
    }
    let told = problems(&format!("{app}sockets = {{ connect = [], listen = [] }}"));
    assert!(told[0].contains("no `routes`") && told[0].contains("needs a `[[listen]]`"), "{told:#?}");
    // Of another app, and of one whose name is wrong, which is told alone.
    let found = problems(&format!("{APP}{app}{}", listen("shop")));
    assert!(
        found.len() == 1 && found[0].starts_with("error: t.toml:5:1: the app has no `routes`"),
        "{found:#?}"
    );
    let found = problems(&format!("{}{}", APP.replace("shop\"\nsou", "s hop\"\nsou"), listen("shop")));
    assert!(found.len() == 1 && found[0].contains("cannot be the name"), "{found:#?}");
}

#[test]
fn a_project_may_have_listeners() {
    let folder = folder();
    let app = "[[app]]\nname = \"lines\"\nsockets = { ca = [\"later.pem\"] }\n";
    let listen = "[[listen]]\ntcp = \"127.0.0.1:7000\"\napp = \"lines\"\n";
    let read = |text: &str| parse_for(Purpose::Build, text, "t.toml", folder.path());
    let settings = read(&format!("{app}{listen}")).unwrap().settings;
    assert_eq!(settings.tcp[0].app, "lines");
    assert_eq!(settings.apps[0].sockets.ca, [folder.path().join("later.pem")], "it need not be there yet");
    let told = read(listen).unwrap_err().to_string();
    assert!(told.contains("there is no app `lines`") && told.contains("`[[app]]` with a `name`"), "{told}");
}

#[test]
fn what_an_app_must_have() {
    let table = [
        ("", &["t.toml:1:1: there is no app"][..]),
        ("app = []", &["t.toml:1:7: there is no app"]),
        ("[app]\nname = \"x\"", &["t.toml:1:1: `app` is not a list"]),
        ("# one\n[[app]]\n", &["t.toml:2:1: the app has no `name`", "no `source`", "no `routes`"]),
        (
            "[[app]]\nname = \"a b\"\nsource = \"nope.wasm\"\nroutes = []",
            &["2:8: name: `a b` cannot be the name", "3:10: source: `", "4:10: the list is empty"],
        ),
        ("[[app]]\nname = \"a\"\nsource = \"crate\"\nroutes = [\"/\"]", &["crate` is not a file"]),
        (
            "[[app]]\nname = 1\nsource = 2\nroutes = 3",
            &["2:8: name: a string", "3:10: source: a string", "4:10: a list"],
        ),
    ];
    for (text, expected) in table {
        let found = problems(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (problem, expected) in found.iter().zip(expected) {
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}

#[test]
fn apps_must_not_collide() {
    let text = format!(
        "{APP}[[app]]\nname = \"shop\"\nsource = \"blog.wasm\"\nroutes = [\"/a/{{x}}\", \"/*\", \"nonsense\", \"/a/{{y}}\"]\n"
    );
    let found = problems(&text);
    let expected = [
        "error: t.toml:6:8: the app `shop` is there already, in line 2",
        "error: t.toml:8:21: the route `/*` matches the same requests as the route `/*` in line 4",
        "error: t.toml:8:27: the route `nonsense` is not valid: a path is missing",
        "error: t.toml:8:39: the route `/a/{y}` matches the same requests as the route `/a/{x}` in line 8",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (problem, expected) in found.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place() {
    let found = problems("[server]\nworkers = \n[[app]\n");
    assert!(found[0].starts_with("error: t.toml:2:"), "{found:#?}");
    assert!(found.iter().any(|problem| problem.contains("t.toml:3:")), "{found:#?}");
    let found = problems("[server]\nworkers = 1\nworkers = 2\n");
    assert!(found[0].starts_with("error: t.toml:3:1: not valid TOML: duplicate key"), "{found:#?}");
}

#[test]
fn columns_count_characters() {
    let found = problems(&format!("{APP}env = {{ A = \"\u{e4}\u{e4}\", B = 1 }}\n"));
    assert!(found[0].starts_with("error: t.toml:5:23: B:"), "{found:#?}");
}

#[test]
fn a_file_is_read_with_its_folder() {
    let folder = folder();
    let path = folder.path().join("tidegate.toml");
    std::fs::write(&path, APP).unwrap();
    assert_eq!(load(&path).unwrap().apps[0].source, folder.path().join("shop.wasm"));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
    let missing: PathBuf = folder.path().join("nope.toml");
    let error = load(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("error: {}: the manifest cannot be read", missing.display())),
        "{error}"
    );
}

#[test]
fn a_build_section_is_read() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let read = |text: &str| parse_for(Purpose::Build, text, "t.toml", folder.path()).unwrap();
    let section = "[build]\ncommand = \"make -s\"\noutput = \"./out.wasm\"\n";
    let project = read(section);
    let build = project.build.unwrap();
    assert_eq!(build.command, BuildCommand::Shell("make -s".into()));
    assert_eq!((build.output, build.watch, build.test), (at("out.wasm"), vec![at("")], None));
    assert!(project.settings.apps.is_empty());

    let more = "watch = [\"src\", \"Makefile\"]\ntest = [\"sh\", \"test.sh\"]\n";
    let app = "[[app]]\nname = \"a\"\nroutes = [\"/*\"]\n";
    let project = read(&format!("{section}{more}{app}"));
    let build = project.build.unwrap();
    assert_eq!(build.watch, [at("src"), at("Makefile")]);
    assert_eq!(build.test.unwrap().to_string(), "sh test.sh");
    assert_eq!(project.settings.apps[0].source, at("out.wasm"), "what is built, and need not be there yet");

    // What cargo is to make of a crate.
    for (name, target) in [("module", BuildTarget::Module), ("component", BuildTarget::Component)] {
        let project = read(&format!("[build]\ntarget = \"{name}\"\n"));
        assert_eq!((project.build, project.target), (None, Some(target)));
    }
    assert_eq!(read(section).target, None);

    // A crate's own source need be neither there nor named.
    assert_eq!(read(app).settings.apps[0].source, PathBuf::new());
    let named = read(&format!("{app}source = \"later.wasm\"\n"));
    assert_eq!(named.settings.apps[0].source, at("later.wasm"));
}

#[test]
fn a_server_that_hosts_needs_no_apps() {
    let folder = folder();
    let path = folder.path().join("t.toml");
    std::fs::write(&path, "[server]\nkeep = 3\n").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("there is no app"));
    for settings in [load_hosted(&path).unwrap(), load_to_host(&path).unwrap()] {
        assert_eq!((settings.server.versions_kept, settings.apps.len()), (3, 0));
    }
    // A file that is just being written is no manifest without apps.
    for text in ["", "# later\n"] {
        std::fs::write(&path, text).unwrap();
        for refused in [load_hosted(&path).unwrap_err(), load_to_host(&path).unwrap_err()] {
            assert!(refused.to_string().contains("says nothing"), "{refused}");
        }
    }
    // What is there is checked all the same.
    std::fs::write(&path, "[[app]]\nname = \"a\"\nsource = \"gone.wasm\"\nroutes = [\"/*\"]\n").unwrap();
    assert!(load_hosted(&path).unwrap_err().to_string().contains("gone.wasm"));
}

#[test]
fn what_is_served_must_have_been_built() {
    let section = "[build]\ncommand = \"make\"\noutput = \"out.wasm\"\n";
    let app = "[[app]]\nname = \"a\"\nroutes = [\"/*\"]\n";
    let found = problems(&format!("{section}{app}"));
    assert!(found.len() == 1 && found[0].starts_with("error: t.toml:4:1: `"), "{found:#?}");
    assert!(found[0].contains("makes it"), "{found:#?}");
    assert!(problems(section)[0].contains("there is no app"));
    let folder = folder();
    std::fs::write(folder.path().join("out.wasm"), b"\0asm").unwrap();
    let settings = parse(&format!("{section}{app}"), "t.toml", folder.path()).unwrap();
    assert_eq!(settings.apps[0].source, folder.path().join("out.wasm"));
}

#[test]
fn wrong_build_sections() {
    let good = "command = \"make\"\noutput = \"out.wasm\"\n";
    let table = [
        ("command = \"make\"", "1:1", "there is no `output` in `[build]`", "as in"),
        ("output = \"o.wasm\"", "1:1", "there is no `command` in `[build]`", "as in"),
        ("command = \" \"\noutput = \"o.wasm\"", "2:11", "command: the command is empty", ""),
        ("command = []\noutput = \"o.wasm\"", "2:11", "the list is empty", ""),
        ("command = 1\noutput = \"o.wasm\"", "2:11", "command: a string is expected", ""),
        ("command = \"make\"\noutput = \"\"", "3:10", "output: the path is empty", ""),
        (&format!("{good}watch = \"src\""), "4:9", "a list is expected here", "`[\"src\"]`"),
        (&format!("{good}tets = \"x\""), "4:1", "unknown key `tets`", "did you mean `test`?"),
        (
            &format!("{good}target = \"module\""),
            "4:10",
            "its `command` says",
            "take out `target`, or `command`",
        ),
        ("target = \"modul\"", "2:10", "target: `modul` is no target", "`module` or `component`"),
        ("target = \"module\"\noutput = \"o.wasm\"", "3:10", "`output` goes with a `command`", "take out"),
    ];
    for (lines, place, message, help) in table {
        let found = problems(&format!("[build]\n{lines}\n{APP}"));
        let [problem] = found.as_slice() else { panic!("{lines}: {found:#?}") };
        assert!(problem.starts_with(&format!("error: t.toml:{place}: ")), "{lines}: {problem}");
        assert!(problem.contains(message) && problem.contains(help), "{lines}: {problem}");
        assert_eq!(problem.contains("\nhelp: "), !help.is_empty(), "{lines}: {problem}");
    }
}

#[test]
fn tenants_and_their_limits() {
    let folder = folder();
    let text = r#"
        [[tenant]]
        name = "acme"
        routes = ["acme.example/*", "*.acme.example/*"]
        limits = { concurrency = 10, requests = "100/s", cpu_share = "150%", memory = "1GiB", queue = "unlimited" }

        [[tenant]]
        name = "other"

        [[app]]
        name = "shop"
        source = "shop.wasm"
        routes = ["acme.example/*"]
        tenant = "acme"
        limits = { requests = "5/s", connections = 6, response = "7KiB", log_lines = "8/s", cpu_share = "50%" }
    "#;
    let settings = parse(text, "t.toml", folder.path()).unwrap();
    let [acme, other] = settings.tenants.as_slice() else { panic!("{:?}", settings.tenants) };
    assert_eq!((acme.name.as_str(), acme.routes.len()), ("acme", 2));
    let (some, limits) = (&acme.limits, TenantLimits::default());
    assert_eq!((some.concurrency, some.requests_per_s, some.queue), (Some(10), Some(100), None));
    assert_eq!((some.cpu_percent, some.memory_bytes), (Some(150), Some(1 << 30)));
    assert_eq!((other.name.as_str(), other.routes.len(), other.limits), ("other", 0, limits));
    let [shop] = settings.apps.as_slice() else { panic!("one app") };
    assert_eq!(shop.tenant.as_deref(), Some("acme"));
    let limits = &shop.limits;
    assert_eq!((limits.requests_per_s, limits.connections_max), (Some(5), Some(6)));
    assert_eq!(
        (limits.response_bytes, limits.log_lines_per_s, limits.cpu_percent),
        (Some(7 << 10), Some(8), Some(50))
    );
}

#[test]
fn wrong_tenants() {
    let tenant = |rest: &str| format!("[[tenant]]\nname = \"acme\"\n{rest}\n{APP}");
    let table = [
        (
            tenant("limits = { apps = 1 }")
                + "tenant = \"acme\"\n[[app]]\nname = \"b\"\nsource = \"shop.wasm\"\nroutes = [\"/b\"]\ntenant = \"acme\"\n",
            "tenant: `acme` may have 1 apps, and there are 2",
            "`limits = { apps = 2 }`",
        ),
        (tenant("limits = { concurency = 1 }"), "t.toml:3:12: unknown key `concurency`", "`concurrency`"),
        (tenant("limits = { cpu_share = 50 }"), "t.toml:3:24: cpu_share: a plain number", "`\"50%\"`"),
        (tenant("route = []"), "t.toml:3:1: unknown key `route`", "`routes`"),
        (tenant("routes = [\"x\"]"), "t.toml:3:11: ", ""),
        (
            tenant("[[tenant]]\nname = \"acme\""),
            "t.toml:4:8: the tenant `acme` is there already, in line 2",
            "",
        ),
        (tenant("routes = [\"/a\"]\n[[tenant]]\nname = \"other\"\nroutes = [\"/a\"]"), "t.toml:6:11: ", ""),
        (format!("[[tenant]]\n{APP}"), "t.toml:1:1: the tenant has no `name`", "acme.example"),
        (format!("[tenant]\nname = \"a\"\n{APP}"), "t.toml:1:1: `tenant` is not a list", "[[tenant]]"),
        (
            format!("[[tenant]]\nname = \"a b\"\n{APP}"),
            "t.toml:2:8: name: `a b` cannot be the name of a tenant",
            "",
        ),
        (format!("{APP}tenant = \"acme\"\n"), "t.toml:5:10: tenant: there is no tenant `acme`", "[[tenant]]"),
        (tenant("") + "tenant = \"acne\"\n", "tenant: there is no tenant `acne`", "did you mean `acme`?"),
    ];
    for (text, message, help) in table {
        let told = problems(&text);
        let [told] = told.as_slice() else { panic!("{text}: {told:#?}") };
        assert!(told.contains(message) && told.contains(help), "{text}: {told}");
    }
}

/// To find the place of each goes through all of the text.
#[test]
fn problems_are_bounded_in_number() {
    let keys: String = (0..5000).map(|n| format!("key{n} = 1\n")).collect();
    let told = problems(&format!("{APP}{keys}"));
    assert_eq!(told.len(), 100);
    assert!(told[0].contains("t.toml:5:1: unknown key `key0`"), "{}", told[0]);
}
