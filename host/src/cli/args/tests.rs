//! What flags make of settings, and how wrong ones are told.

use std::time::Duration;

use clap::CommandFactory;

use super::*;

fn flags(line: &str) -> Flags {
    let words =
        ["tidegate", "serve", "x.wasm"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
    match Cli::try_parse_from(words).unwrap().verb {
        Verb::Serve(args) => args.flags,
        other => panic!("{other:?}"),
    }
}

fn one_app() -> Settings {
    let app = AppSettings::new("x".into(), "x.wasm".into());
    Settings { server: ServerSettings::default(), apps: vec![app], tcp: Vec::new(), tenants: Vec::new() }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn no_flag_changes_nothing() {
    let mut settings = one_app();
    flags("").apply(&mut settings).unwrap();
    assert_eq!(settings, one_app());
}

#[test]
fn every_setting_has_a_flag() {
    let mut settings = one_app();
    let line = "--listen 127.0.0.1:0 --listen 127.0.0.1:0 --listen unix:a.sock --workers 3 --access-log - --log-format json \
                --drain 5s --http head_timeout=200ms --http headers=9 --http min_rate=0 --trust-request-id --backlog 64 --connections 10 \
                --memory-budget 1GiB --state kept --cache 1MiB --name shop --route a.test/* --route /b --reuse 7 --weight 2 \
                --env A=1 --env B= --env A=2=3 --mount /:/all --mount .:/here:rw --limit cpu=1s --limit high-watermark=8KiB --limit low-watermark=1KiB";
    flags(line).apply(&mut settings).unwrap();
    let server = &settings.server;
    let listen: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "127.0.0.1:0", "unix:a.sock"]);
    assert_eq!((server.workers, server.log_format), (3, LogFormat::Json));
    assert_eq!(server.access_log, Some(LogTarget::Stdout));
    assert_eq!((server.drain, server.http.head_ms_max), (Duration::from_secs(5), 200));
    assert_eq!(server.backlog, 64);
    assert_eq!((server.http.headers_max, server.trust_request_id, server.connections_max), (9, true, 10));
    assert_eq!((server.memory_budget_bytes, server.http.rate_bytes_per_s_min), (Some(1 << 30), 0));
    assert_eq!((&server.state, server.cache_bytes_max), (&StateFolder::At("kept".into()), 1 << 20));
    let app = &settings.apps[0];
    assert_eq!((app.name.as_str(), app.instances, app.weight), ("shop", Instances::Reuse(7), 2));
    assert_eq!(app.routes, ["a.test/*", "/b"]);
    assert_eq!(app.env, [("B".into(), String::new()), ("A".into(), "2=3".into())]);
    let mounts: Vec<_> = app.mounts.iter().map(|mount| (mount.guest.as_str(), mount.write)).collect();
    assert_eq!(mounts, [("/all", false), ("/here", true)]);
    assert_eq!(app.limits.cpu, Duration::from_secs(1));
    assert_eq!((app.limits.high_watermark, app.limits.low_watermark), (8192, 1024));
}

#[test]
fn proxies_have_flags() {
    use tidegate_proto::edge::forwarded::Family;

    let mut settings = one_app();
    settings.server.edge.proxies.add("192.0.2.1").unwrap();
    flags("--trust-request-id").apply(&mut settings).unwrap();
    assert_eq!(settings.server.edge.proxies.to_string(), "192.0.2.1");
    let line = "--proxy 10.0.0.0/8 --proxy unix --forwarded Forwarded --proxy-protocol";
    flags(line).apply(&mut settings).unwrap();
    let edge = &settings.server.edge;
    assert_eq!(edge.proxies.to_string(), "10.0.0.0/8, unix", "instead of the manifest's");
    assert_eq!((edge.forwarded, edge.proxy_protocol), (Family::Forwarded, true));
    for (line, expected) in [
        ("--proxy ::1 --proxy ::1", "error: --proxy: `::1` is there twice"),
        ("--forwarded via", "error: --forwarded: `via` is not a field that is read"),
        ("--proxy-protocol", "error: --proxy-protocol: the PROXY protocol is taken from proxies alone"),
    ] {
        let told = flags(line).apply(&mut one_app()).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn sockets_have_flags() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, sockets::PEM).unwrap();
    let of_manifest = || {
        let mut settings = one_app();
        settings.apps[0].sockets.connect = vec![Rule::parse("a.example:1").unwrap()];
        settings.tcp =
            vec![TcpListen { addr: "127.0.0.1:6".parse().unwrap(), app: "x".into(), proxy_protocol: None }];
        settings
    };
    let mut settings = of_manifest();
    let line = format!(
        "--name lines --allow-connect a.example:1 --allow-connect udp:10.0.0.0/8:53 --allow-listen localhost:7000-7999 \
         --listen-tcp 127.0.0.1:7 --listen-tcp :0 --listen-tcp :0 --dns 127.0.0.1:5353 --dns [::1]:53 --ca {0} --ca {0} \
         --limit sockets=5 --limit socket-bytes=1GiB --limit connects=100/s",
        ca.display()
    );
    flags(&line).apply(&mut settings).unwrap();
    let app = &settings.apps[0];
    let shown = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&app.sockets.connect), ["a.example:1", "udp:10.0.0.0/8:53"], "each once");
    assert_eq!(shown(&app.sockets.listen), ["localhost:7000-7999"]);
    assert_eq!(app.sockets.ca, [ca]);
    assert_eq!((app.limits.sockets_max, app.limits.connects_per_s), (5, 100));
    assert_eq!(app.limits.socket_bytes_max, 1 << 30);
    let tcp: Vec<_> = settings.tcp.iter().map(|tcp| format!("{} {}", tcp.addr, tcp.app)).collect();
    assert_eq!(tcp, ["127.0.0.1:7 lines", "[::]:0 lines", "[::]:0 lines"], "instead of the manifest's");
    let dns: Vec<_> = settings.server.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["127.0.0.1:5353", "[::1]:53"]);

    let mut renamed = of_manifest();
    flags("--name other").apply(&mut renamed).unwrap();
    assert_eq!(renamed.tcp[0].app, "other");
    let told = flags("--listen 127.0.0.1:6").apply(&mut renamed).unwrap_err().to_string();
    assert!(told.starts_with("error: --listen: `127.0.0.1:6` is where the server listens"), "{told}");
}

#[test]
fn wrong_values_name_the_flag_and_the_way_out() {
    let table = [
        ("--listen 8080", "error: --listen: `8080` is not an address", "`:8080`"),
        ("--listen :80 --listen [::]:80", "error: --listen: `[::]:80` is there twice", ""),
        ("--listen unix:a --listen unix:a", "error: --listen: `unix:a` is there twice", ""),
        ("--workers 0", "error: --workers: it must be between 1 and 1024", ""),
        ("--workers two", "error: --workers: `two` is not a number", "whole number"),
        ("--drain 30", "error: --drain: `30` is ambiguous", "`10s`"),
        ("--http head_timeuot=1s", "error: --http: unknown key `head_timeuot`", "`head_timeout`"),
        ("--http linger", "error: --http: `linger` is not `key=value`", "head_bytes"),
        ("--backlog 0", "error: --backlog: it must be between 1 and 65535", ""),
        ("--connections 0", "error: --connections: it must be", ""),
        ("--memory-budget 1GB", "error: --memory-budget: `GB` is not a unit", "`1GiB`"),
        ("--cache 2GB", "error: --cache: `GB` is not a unit", "`2GiB`"),
        ("--name a/b", "error: --name: `a/b` cannot be the name", "letters"),
        ("--route shop", "error: --route: the route `shop` is not valid", ""),
        ("--route /a --route /a", "error: --route: the route `/a` matches the same requests", ""),
        ("--reuse 0", "error: --reuse: it must be between 1", ""),
        ("--weight 9999", "error: --weight: it must be between 1 and 1000", ""),
        ("--env A", "error: --env: `A` is not `NAME=VALUE`", "`--env A=`"),
        ("--env =1", "error: --env: `` cannot be the name of a variable", ""),
        ("--mount public", "error: --mount: `public` is not `HOST:GUEST`", "./public:/public"),
        ("--mount .:here", "error: --mount: the guest's path `here` does not begin with `/`", "as in"),
        ("--mount /no/such:/x", "error: --mount: `/no/such`: ", "has to be there"),
        ("--mount .:/x --mount /:/x", "error: --mount: `/x` is the guest's path of `.` already", ""),
        (
            "--allow-connect a.example",
            "error: --allow-connect: `a.example` names no port",
            "`a.example:*` for all",
        ),
        ("--allow-connect a:1 --allow-connect a:1", "error: --allow-connect: `a:1` is there twice", ""),
        ("--allow-listen a.example:1", "error: --allow-listen: `a.example:1` names a host", "`0.0.0.0:1`"),
        ("--listen-tcp 7000", "error: --listen-tcp: `7000` is not an address", "`:7000`"),
        ("--listen-tcp unix:a", "error: --listen-tcp: `unix:a` is not an address of TCP", "as in"),
        ("--listen-tcp :1 --listen-tcp :1", "error: --listen-tcp: `[::]:1` is there already", "one app"),
        ("--listen :1 --listen-tcp :1", "error: --listen-tcp: `[::]:1` is where the server", "another port"),
        ("--dns 1.1.1.1", "error: --dns: `1.1.1.1` names no port", "`1.1.1.1:53`"),
        ("--dns 1.1.1.1:53 --dns 1.1.1.1:53", "error: --dns: `1.1.1.1:53` is there twice", ""),
        ("--ca /no/such", "error: --ca: `/no/such` cannot be read", ""),
        ("--ca /", "error: --ca: `/` is not a file", "PEM"),
        ("--limit connects=5", "error: --limit: connects: `5` is ambiguous", "`5/s`"),
        ("--limit cpuu=1s", "error: --limit: unknown key `cpuu`", "did you mean `cpu`?"),
        ("--limit memory=64", "error: --limit: memory: `64` is ambiguous", "64MiB"),
        ("--limit high-watermark=4KiB", "error: --limit: the low watermark must be below", ""),
    ];
    for (line, message, help) in table {
        let flags = flags(line);
        let failure = flags.apply(&mut one_app()).unwrap_err();
        let shown = failure.to_string();
        assert!(shown.starts_with(message), "{line}: {shown}");
        assert_eq!(shown.contains("\nhelp: "), !help.is_empty(), "{line}: {shown}");
        assert!(shown.contains(help), "{line}: {shown}");
        assert_eq!(failure.status(), 2);
        assert!(flags.check().is_err());
    }
}

#[test]
fn flags_of_an_app_need_a_single_app() {
    let mut settings = one_app();
    settings.apps.push(AppSettings::new("y".into(), "y.wasm".into()));
    flags("--workers 2").apply(&mut settings).unwrap();
    for line in [
        "--name z",
        "--route /z",
        "--reuse 2",
        "--weight 2",
        "--env A=1",
        "--mount .:/a",
        "--allow-connect a:1",
        "--allow-listen localhost:1",
        "--ca x",
        "--listen-tcp :1",
        "--limit cpu=1s",
    ] {
        let shown = flags(line).apply(&mut settings).unwrap_err().to_string();
        let flag = line.split(' ').next().unwrap();
        assert!(shown.starts_with(&format!("error: `{flag}` could mean any of the 2 apps")), "{shown}");
        assert!(shown.contains("help: set it in the manifest"), "{shown}");
    }
}
