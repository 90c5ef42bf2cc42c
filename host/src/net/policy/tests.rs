use super::*;

/// A policy with these rules, of a server that listens nowhere.
fn policy(connect: &[&str]) -> Policy {
    with_own(connect, &[], &[])
}

fn with_own(connect: &[&str], listen: &[&str], addresses: &[&str]) -> Policy {
    let settings = SocketSettings {
        connect: connect.iter().map(|text| Rule::parse(text).unwrap()).collect(),
        listen: listen.iter().map(|text| Rule::parse_listen(text).unwrap()).collect(),
        ca: Vec::new(),
    };
    let own = OwnAddresses {
        // As of a machine that has these and no others.
        is_ours: |ip| ["127.0.0.1", "::1", "10.9.9.9", "203.0.113.9"].contains(&&*ip.to_string()),
        ..OwnAddresses::default()
    };
    let policy = Policy::new(&settings, own.clone());
    // As the server does: it listens when its apps have been loaded.
    own.set(addresses.iter().map(|text| text.parse().unwrap()));
    policy
}

fn connects(policy: &Policy, addr: &str, names: &[&str]) -> bool {
    policy.connect(Protocol::Tcp, addr.parse().unwrap(), names).is_ok()
}

/// Addresses inside of something, in each of the forms that they hide in.
const INSIDE: [&str; 44] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.5",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.251",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:0.0.0.0]",
    "[::ffff:10.0.0.5]",
    "[::ffff:100.64.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:192.168.1.1]",
    "[::10.0.0.5]",
    "[::127.0.0.1]",
    "[::169.254.169.254]",
    "[::ffff:0:10.0.0.5]",
    "[64:ff9b::10.0.0.5]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::10.0.0.5]",
    "[2002:a00:5::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:a00:5::1]",
    "[2001::f5ff:fffa]",
    "[fc00::1]",
    "[fd00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::fb]",
    "[100::1]",
];

const OUTSIDE: [&str; 7] = [
    "8.8.8.8",
    "93.184.216.34",
    "100.128.0.1",
    "[2606:2800:220:1::1]",
    "[64:ff9b::8.8.8.8]",
    "[2002:808:808::1]",
    "[::ffff:8.8.8.8]",
];

#[test]
fn nothing_is_allowed_without_a_rule() {
    let none = policy(&[]);
    assert!(!none.allows_anything());
    assert!(none.lookup("db.example", None).is_err() && none.lookup("8.8.8.8", None).is_err());
    for addr in INSIDE.iter().chain(&OUTSIDE) {
        let addr: SocketAddr = format!("{addr}:443").parse().unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert!(none.connect(protocol, addr, &["db.example"]).is_err(), "{addr}");
            assert!(none.listen(protocol, addr).is_err(), "{addr}");
        }
    }
    assert!(policy(&["a:1"]).allows_anything() && with_own(&[], &["127.0.0.1:1"], &[]).allows_anything());
}

/// Whoever answers for a name answers with what he likes, and with something else the next time.
#[test]
fn rebinding_leads_nowhere_inside() {
    let rules = [
        "*:*",
        "db.example:*",
        "*.example:*",
        "0.0.0.0/0:*",
        "[::]/0:*",
        "0.0.0.0/1:*",
        "[::]/1:*",
        "[fc00::]/6:*",
    ];
    let wide = policy(&rules);
    let names = ["db.example", "x.example", "anything"];
    for addr in INSIDE {
        assert!(!connects(&wide, &format!("{addr}:443"), &names), "{addr}");
    }
    for addr in OUTSIDE {
        assert!(connects(&wide, &format!("{addr}:443"), &names), "{addr}");
        assert!(connects(&policy(&["db.example:443"]), &format!("{addr}:443"), &names), "{addr}");
    }
}

#[test]
fn what_is_inside_is_named() {
    // A rule, what it reaches, what it does not.
    let table: [(&str, &[&str], &[&str]); 15] = [
        (
            "10.0.0.5:1",
            &["10.0.0.5:1", "[::ffff:10.0.0.5]:1"],
            &["10.0.0.6:1", "10.0.0.5:2", "[::10.0.0.5]:1", "[64:ff9b::10.0.0.5]:1"],
        ),
        (
            "10.0.0.0/8:1",
            &["10.0.0.0:1", "10.255.255.255:1", "[::ffff:10.1.2.3]:1"],
            &["11.0.0.1:1", "[2002:a00:1::]:1"],
        ),
        ("10.0.0.0/7:1", &["11.0.0.1:1"], &["10.0.0.1:1"]),
        ("169.254.0.0/16:1", &["169.254.1.1:1"], &["169.254.169.254:1", "169.254.170.2:1"]),
        ("169.254.169.254:1", &["169.254.169.254:1"], &["169.254.169.253:1"]),
        ("0.0.0.0:1", &["0.0.0.0:1"], &["127.0.0.1:1", "[::]:1"]),
        ("[::]:1", &["[::]:1"], &["[::1]:1", "0.0.0.0:1"]),
        ("127.0.0.0/8:1", &["127.0.0.1:1", "127.255.0.1:1"], &["[::1]:1", "[::127.0.0.1]:1"]),
        (
            "localhost:1",
            &["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"],
            &["127.0.0.2:1", "0.0.0.0:1", "8.8.8.8:1"],
        ),
        ("[fd00::]/8:1", &["[fd00::1]:1"], &["[fc00::1]:1", "[fd00:ec2::254]:1"]),
        ("[fe80::]/10:1", &["[fe80::1%7]:1", "[fe80::1]:1"], &["[fec0::1]:1"]),
        (
            "[64:ff9b::]/96:1",
            &["[64:ff9b::8.8.8.8]:1"],
            &["[64:ff9b::10.0.0.5]:1", "[64:ff9b::127.0.0.1]:1", "10.0.0.5:1"],
        ),
        ("[64:ff9b::a00:0]/104:1", &["[64:ff9b::10.0.0.5]:1"], &["[64:ff9b::11.0.0.5]:1", "10.0.0.5:1"]),
        ("[2002::]/16:1", &["[2002:808:808::]:1"], &["[2002:a00:5::]:1", "[2002:a9fe:a9fe::]:1"]),
        ("[::]/96:1", &["[::10.0.0.5]:1"], &["[::1]:1", "[::]:1", "10.0.0.5:1"]),
    ];
    for (rule, reached, refused) in table {
        let policy = policy(&[rule]);
        for addr in reached {
            assert!(connects(&policy, addr, &[]), "{rule} {addr}");
        }
        for addr in refused {
            assert!(!connects(&policy, addr, &["localhost", "db.example"]), "{rule} {addr}");
        }
    }
    for addr in INSIDE {
        let rule = Rule::parse(&Policy::canonical_rule(addr)).unwrap();
        assert!(connects(&policy(&[&rule.to_string()]), &format!("{addr}:443"), &[]), "{addr} by itself");
    }
}

impl Policy {
    /// The rule of one of these addresses alone.
    fn canonical_rule(addr: &str) -> String {
        let addr = canonical(format!("{addr}:443").parse().unwrap());
        addr.to_string()
    }
}

#[test]
fn names_hold_for_what_was_found_under_them() {
    let rules = policy(&["db.example:5432", "*.example.com:443"]);
    let table: [(&str, &[&str], bool); 11] = [
        ("8.8.8.8:5432", &["db.example"], true),
        ("8.8.8.8:5432", &["DB.EXAMPLE."], true),
        ("8.8.8.8:5432", &["other.example", "db.example"], true),
        ("8.8.8.8:5432", &[], false),
        ("8.8.8.8:5432", &["other.example"], false),
        ("8.8.8.8:5433", &["db.example"], false),
        ("8.8.8.8:443", &["a.example.com"], true),
        ("8.8.8.8:443", &["a.b.example.com"], true),
        ("8.8.8.8:443", &["example.com"], false),
        ("8.8.8.8:443", &["a.b.evilexample.com"], false),
        ("8.8.8.8:443", &["db.example"], false),
    ];
    for (addr, names, expected) in table {
        assert_eq!(connects(&rules, addr, names), expected, "{addr} {names:?}");
    }
}

#[test]
fn names_are_looked_up_where_a_rule_has_them() {
    let rules = policy(&["db.example:5432", "udp:*.example.com:53", "10.0.0.5:1"]);
    for good in ["db.example", "DB.Example.", "a.example.com", "10.0.0.5", "8.8.8.8", "::1"] {
        assert_eq!(rules.lookup(good, None), Ok(()), "{good}");
    }
    for bad in ["example.com", "a.db.example", "localhost", "evilexample.com", "db.example.evil"] {
        assert_eq!(rules.lookup(bad, None).unwrap_err().reason, Reason::NoRule, "{bad}");
    }
    // Whatever the rules are.
    for rules in [policy(&["*:*"]), rules] {
        for bad in [
            "",
            ".",
            "0177.0.0.1",
            "2130706433",
            "127.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "127.0.0.1.",
            "[::1]",
            "::1%lo",
            "10.0.0.5:5432",
            "a b",
            "a\nb.example",
            "*.example.com",
            "b\u{fc}cher.example",
        ] {
            let denied = rules.lookup(bad, None).unwrap_err();
            assert_eq!((denied.reason, denied.allow().as_str()), (Reason::NotAName, ""), "{bad}");
        }
    }
    assert_eq!(policy(&["localhost:1"]).lookup("LocalHost", None), Ok(()));
}

#[test]
fn ports_and_protocols() {
    let rules = policy(&["8.8.8.8:1", "8.8.8.8:100-200", "8.8.8.8:65535", "udp:8.8.8.8:53", "9.9.9.9:*"]);
    for port in [1, 100, 150, 200, 65535] {
        assert!(connects(&rules, &format!("8.8.8.8:{port}"), &[]), "{port}");
    }
    for port in [0, 2, 53, 99, 201, 65534] {
        assert!(!connects(&rules, &format!("8.8.8.8:{port}"), &[]), "{port}");
    }
    let udp = |addr: &str| rules.connect(Protocol::Udp, addr.parse().unwrap(), &[]).is_ok();
    assert!(udp("8.8.8.8:53") && !udp("8.8.8.8:1") && !udp("9.9.9.9:1"));
    assert!(connects(&rules, "9.9.9.9:1", &[]) && connects(&rules, "9.9.9.9:65535", &[]));
    let denied = rules.connect(Protocol::Tcp, "9.9.9.9:0".parse().unwrap(), &[]).unwrap_err();
    assert_eq!((denied.reason, denied.allow().as_str()), (Reason::NoPort, ""));
}

#[test]
fn the_server_itself_is_reached_by_its_very_address_alone() {
    let own = ["127.0.0.1:8080", "0.0.0.0:9000", "[::]:9001", "203.0.113.9:80"];
    // Rules, an address, whether it is reached.
    let table: [(&[&str], &str, bool); 32] = [
        (&["127.0.0.1:8080"], "127.0.0.1:8080", true),
        (&["127.0.0.1:8080"], "[::ffff:127.0.0.1]:8080", true),
        (&["127.0.0.1:*"], "127.0.0.1:8080", false),
        (&["127.0.0.1:*"], "127.0.0.1:8081", true),
        (&["127.0.0.1:8080-8081"], "127.0.0.1:8080", false),
        (&["127.0.0.0/8:8080"], "127.0.0.1:8080", false),
        (&["127.0.0.0/8:8080"], "127.0.0.2:8080", true),
        (&["localhost:8080"], "127.0.0.1:8080", false),
        (&["localhost:8080"], "[::1]:8080", true),
        (&["0.0.0.0/32:*"], "0.0.0.0:8080", false),
        (&["0.0.0.0:8080"], "0.0.0.0:8080", true),
        (&["[::]/128:*"], "[::]:8080", false),
        // Everywhere on this machine, in IPv4.
        (&["127.0.0.0/8:9000"], "127.0.0.1:9000", false),
        (&["127.0.0.1:9000"], "127.0.0.1:9000", true),
        (&["10.0.0.0/8:9000"], "10.9.9.9:9000", false),
        (&["10.0.0.0/8:9000"], "10.0.0.5:9000", true),
        (&["10.9.9.9:9000"], "10.9.9.9:9000", true),
        (&["localhost:9000"], "127.0.0.1:9000", false),
        (&["localhost:9000"], "[::1]:9000", true),
        (&["*:9000"], "203.0.113.9:9000", false),
        (&["*:9000"], "203.0.113.8:9000", true),
        // In both.
        (&["localhost:9001"], "[::1]:9001", false),
        (&["localhost:9001"], "127.0.0.1:9001", false),
        (&["[::1]:9001"], "[::1]:9001", true),
        (&["*:9001"], "203.0.113.9:9001", false),
        // A public address of its own.
        (&["*:80"], "203.0.113.9:80", false),
        (&["shop.example:80"], "203.0.113.9:80", false),
        (&["203.0.113.0/24:80"], "203.0.113.9:80", false),
        (&["203.0.113.9:80"], "203.0.113.9:80", true),
        (&["*:80"], "203.0.113.10:80", true),
        (&["shop.example:80"], "203.0.113.10:80", true),
        (&["udp:127.0.0.1:*", "*:*"], "127.0.0.1:8080", false),
    ];
    for (rules, addr, expected) in table {
        let policy = with_own(rules, &[], &own);
        let found = policy.connect(Protocol::Tcp, addr.parse().unwrap(), &["shop.example"]);
        assert_eq!(found.is_ok(), expected, "{rules:?} {addr}: {found:?}");
        if let Err(denied) = found
            && rules.len() == 1
        {
            assert_eq!(denied.reason, Reason::Own, "{rules:?} {addr}");
        }
    }
    // It hears no datagrams.
    let udp = with_own(&["udp:127.0.0.1:*"], &[], &own);
    assert!(udp.connect(Protocol::Udp, "127.0.0.1:8080".parse().unwrap(), &[]).is_ok());
}

#[test]
fn where_to_listen() {
    let own = ["127.0.0.1:8080", "[::]:9000"];
    let table: [(&str, &str, bool); 22] = [
        ("127.0.0.1:7000", "127.0.0.1:7000", true),
        ("127.0.0.1:7000", "[::ffff:127.0.0.1]:7000", true),
        ("127.0.0.1:7000", "127.0.0.1:7001", false),
        ("127.0.0.1:7000", "127.0.0.1:0", false),
        ("127.0.0.1:7000", "127.0.0.2:7000", false),
        ("127.0.0.1:7000", "0.0.0.0:7000", false),
        ("127.0.0.1:1-65535", "127.0.0.1:0", false),
        ("127.0.0.1:*", "127.0.0.1:0", true),
        ("127.0.0.1:*", "127.0.0.1:50000", true),
        ("127.0.0.1:*", "127.0.0.1:8080", false),
        ("127.0.0.1:8080", "127.0.0.1:8080", true),
        ("127.0.0.1:*", "127.0.0.1:9000", false),
        ("localhost:7000", "127.0.0.1:7000", true),
        ("localhost:7000", "[::1]:7000", true),
        ("localhost:8080", "127.0.0.1:8080", false),
        ("localhost:8080", "[::1]:8080", true),
        ("0.0.0.0:7000", "0.0.0.0:7000", true),
        ("0.0.0.0:*", "0.0.0.0:8080", false),
        ("0.0.0.0/0:7000", "0.0.0.0:7000", false),
        ("0.0.0.0/0:7000", "127.0.0.1:7000", false),
        ("0.0.0.0/0:7000", "203.0.113.9:7000", true),
        ("10.0.0.0/8:7000", "10.1.2.3:7000", true),
    ];
    for (rule, addr, expected) in table {
        let policy = with_own(&[], &[rule], &own);
        let found = policy.listen(Protocol::Tcp, addr.parse().unwrap());
        assert_eq!(found.is_ok(), expected, "{rule} {addr}: {found:?}");
        assert!(policy.listen(Protocol::Udp, addr.parse().unwrap()).is_err());
        assert!(!connects(&policy, addr, &[]), "to listen is not to connect");
    }
    let udp = with_own(&["*:*"], &["udp:127.0.0.1:8080"], &own);
    assert!(udp.listen(Protocol::Udp, "127.0.0.1:8080".parse().unwrap()).is_ok());
    assert!(
        udp.listen(Protocol::Tcp, "127.0.0.1:7000".parse().unwrap()).is_err(),
        "to connect is not to listen"
    );
}

/// What a denial says would allow it does, and nothing beside it.
#[test]
fn what_is_told_to_allow_it_does() {
    let own = ["127.0.0.1:443", "[::]:9000"];
    let none = with_own(&[], &[], &own);
    let rule_of = |told: &str, key: &str| {
        let rest = told.strip_prefix(&format!("sockets.{key} = ['")).unwrap_or_else(|| panic!("{told}"));
        rest.strip_suffix("']").unwrap().to_owned()
    };
    for addr in INSIDE.iter().chain(&OUTSIDE) {
        for (protocol, port) in [(Protocol::Tcp, 443), (Protocol::Tcp, 9000), (Protocol::Udp, 53)] {
            let addr: SocketAddr = format!("{addr}:{port}").parse().unwrap();
            let other = SocketAddr::new(addr.ip(), port + 1);
            for names in [&[][..], &["DB.example."], &["2606::1", "8.8.8.8"]] {
                let told = none.connect(protocol, addr, names).unwrap_err().allow();
                let rules = with_own(&[&rule_of(&told, "connect")], &[], &own);
                assert_eq!(rules.connect(protocol, addr, names), Ok(()), "{told}");
                assert!(rules.connect(protocol, other, names).is_err(), "{told}");
                // Of a rule that is there and too wide, the reason is another, and the way out the same.
                let wide = with_own(&["*:*", "udp:*:*", "0.0.0.0/0:*", "[::]/0:*"], &[], &own);
                if let Err(denied) = wide.connect(protocol, addr, names) {
                    assert!(denied.reason != Reason::NoRule, "{denied:?}");
                    let rules = with_own(&["*:*", &rule_of(&denied.allow(), "connect")], &[], &own);
                    assert_eq!(rules.connect(protocol, addr, names), Ok(()), "{denied:?}");
                }
            }
            let told = none.listen(protocol, addr).unwrap_err().allow();
            let rules = with_own(&[], &[&rule_of(&told, "listen")], &own);
            assert_eq!(rules.listen(protocol, addr), Ok(()), "{told}");
            assert!(rules.listen(protocol, other).is_err(), "{told}");
        }
    }
    let told = none.listen(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap_err().allow();
    assert_eq!(told, "sockets.listen = ['127.0.0.1:*']");
    let told = policy(&[]).lookup("DB.Example.", None).unwrap_err().allow();
    assert_eq!(told, "sockets.connect = ['db.example:*']");
    let rule = rule_of(&told, "connect").replace(SOME_PORT, "1");
    assert_eq!(policy(&[&rule]).lookup("DB.Example.", None), Ok(()));
}

#[test]
fn denials_read_well() {
    let own = with_own(&["*:*"], &[], &["127.0.0.1:8080"]);
    let told = |policy: &Policy, addr: &str, names: &[&str]| {
        let denied = policy.connect(Protocol::Tcp, addr.parse().unwrap(), names).unwrap_err();
        format!("{}; {}", denied.reason(), denied.allow())
    };
    let table = [
        (
            told(&own, "10.0.0.5:5432", &["db.example"]),
            "to connect to 10.0.0.5:5432: it is a private address, and no rule names it; sockets.connect = ['10.0.0.5:5432']",
        ),
        (
            told(&own, "127.0.0.1:8080", &[]),
            "to connect to 127.0.0.1:8080: the server itself is there, and no rule names just that; sockets.connect = ['127.0.0.1:8080']",
        ),
        (
            told(&policy(&[]), "8.8.8.8:53", &["dns.example"]),
            "to connect to 8.8.8.8:53 (dns.example): no rule allows it; sockets.connect = ['dns.example:53']",
        ),
        (told(&own, "8.8.8.8:0", &[]), "to connect to 8.8.8.8:0: nobody can be at port 0; "),
    ];
    for (told, expected) in table {
        assert_eq!(told, expected);
    }
    let listen = own.listen(Protocol::Udp, "[::1]:53".parse().unwrap()).unwrap_err();
    assert_eq!(
        listen.reason().to_string(),
        "to listen at udp:[::1]:53: it is a loopback address, and no rule names it"
    );
    let lookup = own.lookup("a\nb", None).unwrap_err();
    assert_eq!(lookup.reason().to_string(), "to look up `a\\nb`: it is neither a name nor an address");
    let long = own.lookup(&"\u{e4}".repeat(1000), None).unwrap_err();
    assert!(long.reason().to_string().len() < 600, "{}", long.reason());
}

/// Random rules and addresses: nothing inside is reached but by a rule that lies inside the same range.
#[test]
fn no_rule_reaches_further_than_it_says() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut reached, mut kept_out) = (0, 0);
    for _ in 0..200_000 {
        let inside = INSIDE[(random() % INSIDE.len() as u64) as usize];
        let near: SocketAddr = format!("{inside}:1").parse().unwrap();
        // Some bits at the end are others, in the address and in the rule.
        let turned = |ip: IpAddr, bits: u64| match ip {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ (bits as u32 >> (bits % 32)))),
            IpAddr::V6(ip) => {
                let bits = u128::from(bits) << 64 | u128::from(bits.rotate_left(17));
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ (bits >> (bits % 128))))
            }
        };
        let ip = turned(near.ip(), random()).to_canonical();
        let block = Cidr::around(turned(ip, random()), (random() % 129) as u8);
        let rule = Rule { protocol: Protocol::Tcp, host: Host::Block(block), ports: Ports::ALL };
        let settings = SocketSettings { connect: vec![rule], ..SocketSettings::default() };
        let policy = Policy::new(&settings, OwnAddresses::default());
        let allowed = policy.connect(Protocol::Tcp, SocketAddr::new(ip, 1), &["a.example"]).is_ok();
        let expected = block.contains(ip)
            && ranges::of(ip).is_none_or(|range| {
                // Both ends of the rule are in the range that the address is in.
                let last = match block.addr() {
                    IpAddr::V4(first) => {
                        let host = u32::MAX.checked_shr(block.prefix().into()).unwrap_or(0);
                        IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | host))
                    }
                    IpAddr::V6(first) => {
                        let host = u128::MAX.checked_shr(block.prefix().into()).unwrap_or(0);
                        IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | host))
                    }
                };
                range.block.contains(block.addr()) && range.block.contains(last)
            });
        assert_eq!(allowed, expected, "{block} {ip}");
        reached += u32::from(allowed);
        kept_out += u32::from(!allowed && block.contains(ip));
    }
    assert!(reached > 1000 && kept_out > 1000, "{reached} {kept_out}");
}

/// The real question to the system: loopback is ours, an address of documentation is not.
#[test]
fn the_system_knows_its_addresses() {
    assert!(is_ours("127.0.0.1".parse().unwrap()) && is_ours("127.9.9.9".parse().unwrap()));
    assert!(!is_ours("203.0.113.77".parse().unwrap()));
}
