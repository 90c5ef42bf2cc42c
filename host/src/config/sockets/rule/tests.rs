use super::*;

#[test]
fn rules_are_shown_as_they_are_read() {
    let table = [
        ("db.example:5432", "db.example:5432"),
        ("*.example.com:443", "*.example.com:443"),
        ("*.com:1-65535", "*.com:1-65535"),
        ("*:443", "*:443"),
        ("*:*", "*:*"),
        ("localhost:80", "localhost:80"),
        ("udp:localhost:80", "udp:localhost:80"),
        ("10.0.0.5:5432", "10.0.0.5:5432"),
        ("10.0.0.5/32:5432", "10.0.0.5:5432"),
        ("10.0.0.0/8:8000-8999", "10.0.0.0/8:8000-8999"),
        ("0.0.0.0/0:7-7", "0.0.0.0/0:7"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::]:80", "[::]:80"),
        ("[2001:DB8:0::1]:80", "[2001:db8::1]:80"),
        ("[fd00::]/8:*", "[fd00::]/8:*"),
        ("[fd00::1]/128:1", "[fd00::1]:1"),
        ("udp:[::1]:53", "udp:[::1]:53"),
        ("udp:*:53", "udp:*:53"),
        // Names that look like something else.
        ("udp:80", "the host is missing"),
        ("tcp:80", "tcp:80"),
        ("unix:80", "unix:80"),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example:1"),
        ("my_db:65535", "my_db:65535"),
    ];
    for (text, shown) in table {
        match Rule::parse(text) {
            Ok(rule) => {
                assert_eq!(rule.to_string(), shown, "{text}");
                assert_eq!(Rule::parse(shown).unwrap(), rule, "{text}");
            }
            Err(error) => {
                assert!(text == "udp:80" && error.message.contains("names no host"), "{text}: {error:?}")
            }
        }
    }
}

#[test]
fn wrong_rules_say_what_is_wrong_and_what_to_write() {
    let table = [
        ("", "the rule is empty", "as in `db.example:5432`"),
        ("udp:", "the rule is empty", "`udp:` before it"),
        (
            "db.example",
            "`db.example` names no port",
            "say which port: `db.example:5432`, or `db.example:*` for all",
        ),
        ("udp:db.example", "`db.example` names no port", "`udp:` before it"),
        ("*", "`*` names no port", "`*:5432`, or `*:*` for all"),
        ("10.0.0.0/8", "names no port", "`10.0.0.0/8:*` for all"),
        ("[::1]", "`[::1]` names no port", "`[::1]:5432`"),
        ("[fd00::]/8", "names no port", "`[fd00::]/8:*`"),
        ("443", "`443` names no host", "`*:443` for all hosts"),
        (":443", "the host is missing", "`*:443` for all hosts"),
        ("db.example:", "`` is not a port", "`*` is all"),
        ("db.example:http", "`http` is not a port", "`443`"),
        ("db.example:+1", "`+1` is not a port", "`443`"),
        ("db.example: 1", "` 1` is not a port", "`443`"),
        ("db.example:0", "ports begin at 1", "`*` is all"),
        ("db.example:0-9", "ports begin at 1", ""),
        ("db.example:65536", "`65536` is beyond the last port", ""),
        ("db.example:99999999999", "is beyond the last port", ""),
        ("db.example:90-80", "the range `90-80` ends before it begins", "write `80-90`"),
        ("db.example:80-", "`` is not a port", ""),
        ("db.example:-80", "`` is not a port", ""),
        ("db.example:80,443", "`80,443` is not a port", "a rule for each"),
        ("DB.example:1", "`DB.example` has capital letters", "write `db.example`"),
        ("db.example.:1", "`db.example.` ends in a dot", "write `db.example`"),
        (".example.com:1", "`.example.com` begins with a dot", "`*.example.com`"),
        ("a.*.com:1", "has a `*` in the middle", "`*.example.com`"),
        ("*x.com:1", "has a `*` in the middle", "`*.example.com`"),
        ("*.:1", "the host is missing", ""),
        ("*.*:1", "has a `*` in the middle", ""),
        ("b\u{fc}cher.example:1", "is not ASCII", "`xn--`"),
        ("a b:1", "`a b` is not the name of a host", "letters, digits"),
        ("-a:1", "is not the name of a host", ""),
        ("a..b:1", "is not the name of a host", ""),
        ("127.1:1", "`127.1` is not an IPv4 address", "four decimal numbers"),
        ("0177.0.0.1:1", "`0177.0.0.1` is not an IPv4 address", "without leading zeros"),
        ("2130706433:1", "`2130706433` is not an IPv4 address", ""),
        ("0x7f000001:1", "is not an IPv4 address", ""),
        ("256.0.0.1:1", "is not an IPv4 address", ""),
        ("*.0.0.1:1", "is not an IPv4 address", ""),
        (
            "10.0.0.1/8:1",
            "`10.0.0.1/8` has bits beyond its prefix",
            "the block is `10.0.0.0/8`, the one address `10.0.0.1`",
        ),
        ("[fd00::1]/8:1", "has bits beyond its prefix", "`[fd00::]/8`"),
        ("10.0.0.0/33:1", "`/33` is not a prefix", "0 to 32"),
        ("10.0.0.0/:1", "`/` is not a prefix", "0 to 32"),
        ("10.0.0.0/+8:1", "`/+8` is not a prefix", ""),
        ("[::]/129:1", "`/129` is not a prefix", "0 to 128"),
        ("db.example/8:1", "`db.example` is not an IPv4 address", "`10.0.0.0/8`"),
        ("[fd00::/8]:1", "prefix inside the brackets", "write `[fd00::]/8`"),
        ("[::1", "has no `]`", "as in `[2001:db8::1]:443`"),
        ("[::x]:1", "`::x` is not an IPv6 address", "as in"),
        ("[1.2.3.4]:1", "`1.2.3.4` is not an IPv6 address", "as in"),
        ("[::1]x:1", "`x` cannot follow the address", "as in"),
        ("[fe80::1%eth0]:1", "names a zone", "`[fe80::1]`"),
        ("::1", "an IPv6 address stands in brackets", "`[::1]:443`"),
        ("::1:80", "an IPv6 address stands in brackets", "write `[::1]:80`; or"),
        (
            "2001:db8::7:ab",
            "an IPv6 address stands in brackets",
            "say which port, too: `[2001:db8::7:ab]:443`",
        ),
        ("2001:db8::1:80:x", "an IPv6 address stands in brackets", "write `[2001:db8::1:80]:x`"),
        ("fd00::/8:443", "an IPv6 address stands in brackets", "write `[fd00::]/8:443`"),
        ("fd00::/8", "an IPv6 address stands in brackets", "`[fd00::]/8:443`"),
        ("db.example:80:90", "an IPv6 address stands in brackets", "as in"),
        ("[::ffff:10.0.0.5]:1", "mapped into IPv6", "write `10.0.0.5`"),
        ("[::ffff:10.0.0.0]/104:1", "mapped into IPv6", "write `10.0.0.0/8`"),
        ("https://a.example/x", "is a URL", "write `a.example:443`"),
        ("http://a.example:8080", "is a URL", "write `a.example:8080`"),
        ("redis://a", "is a URL", "write `a:PORT`"),
        ("unix:/x.sock", "`unix:/x.sock`: Unix sockets are not reached", "TCP or UDP"),
        ("unix:x.sock", "Unix sockets are not reached", ""),
        ("tcp:db.example:1", "`tcp:` goes without saying", "write `db.example:1`"),
        ("UDP:db.example:1", "`UDP:` is written in lower case", "write `udp:db.example:1`"),
    ];
    for (text, message, help) in table {
        let error = Rule::parse(text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error:?}");
        assert!(error.help.clone().unwrap_or_default().contains(help), "{text}: {error:?}");
    }
}

#[test]
fn where_to_listen_is_an_address() {
    for good in ["127.0.0.1:7000", "[::]:*", "localhost:80", "10.0.0.0/8:1-2", "udp:0.0.0.0:53"] {
        assert_eq!(Rule::parse_listen(good).unwrap().to_string(), good);
    }
    for (bad, message) in [
        ("*:80", "`*:80` names no address to listen on"),
        ("a.example:80", "`a.example:80` names a host"),
        ("*.example:80", "names a host"),
    ] {
        let error = Rule::parse_listen(bad).unwrap_err();
        assert!(error.message.contains(message), "{error:?}");
        assert!(error.help.unwrap().contains("`0.0.0.0:80` is every IPv4 address"), "{bad}");
    }
    for bad in [":7000", "7000", "udp:7000", ""] {
        let error = Rule::parse_listen(bad).unwrap_err();
        assert!(error.help.unwrap().starts_with("as in `127.0.0.1:7000`; `0.0.0.0:7000` is every"), "{bad}");
    }
    assert!(Rule::parse_listen("127.0.0.1").unwrap_err().message.contains("names no port"));
}

#[test]
fn a_rule_is_there_once() {
    let mut all = Vec::new();
    for text in ["10.0.0.5:1", "udp:10.0.0.5:1", "10.0.0.5:1-2"] {
        Rule::parse(text).unwrap().add_to(&mut all).unwrap();
    }
    let twin = Rule::parse("10.0.0.5/32:1").unwrap();
    assert_eq!(twin.add_to(&mut all).unwrap_err().message, "`10.0.0.5:1` is there twice");
    assert_eq!(all.len(), 3);
}

#[test]
fn names_of_hosts() {
    let table = [
        ("example.com", "example.com", true),
        ("example.com", "EXAMPLE.com.", true),
        ("example.com", "example.com..", false),
        ("example.com", "a.example.com", false),
        ("example.com", "example.co", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "A.B.Example.COM.", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "evilexample.com", false),
        ("*.example.com", "a.b.evilexample.com", false),
        ("*.example.com", "example.com.evil.test", false),
        ("*.example.com", "com", false),
        ("*.example.com", "", false),
        ("*.example.com", "\u{e4}.example.com", true),
        ("localhost", "LOCALHOST.", true),
        ("localhost", "a.localhost", false),
        ("*", "anything", true),
        ("10.0.0.5", "10.0.0.5", false),
    ];
    for (host, name, expected) in table {
        assert_eq!(Host::parse(host).unwrap().has_name(name), expected, "{host} {name}");
    }
}

#[test]
fn the_bounds_of_ports() {
    let table: [(&str, &[u16], &[u16]); 4] = [
        ("*", &[0, 1, 65535], &[]),
        ("1-65535", &[1, 65535], &[0]),
        ("80", &[80], &[79, 81]),
        ("80-82", &[80, 81, 82], &[79, 83]),
    ];
    for (text, inside, outside) in table {
        let ports = Ports::parse(text).unwrap();
        assert!(inside.iter().all(|port| ports.contains(*port)), "{text}");
        assert!(outside.iter().all(|port| !ports.contains(*port)), "{text}");
    }
    assert!(Ports::parse("80").unwrap().is_one() && Ports::parse("80-80").unwrap().is_one());
    assert!(!Ports::ALL.is_one());
}
