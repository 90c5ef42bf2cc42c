//! `tidegate.h` says the same as `tidegate-abi`: every number and every import that it names is compared.

use std::collections::HashMap;
use tidegate_abi::{errno, fetch, fields, level, names, poll, request, socket, usage};

const HEADER: &str = include_str!("../tidegate.h");

/// The macros of the header that are numbers.
fn defines() -> HashMap<&'static str, i64> {
    HEADER
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("#define ")?.split_whitespace();
            Some((words.next()?, words.next()?.trim_end_matches('u').parse().ok()?))
        })
        .collect()
}

#[test]
fn the_numbers_are_those_of_the_abi() {
    let defines = defines();
    let errnos = (1..100).filter_map(|n| match errno::describe(n) {
        ("EUNKNOWN", _) => None,
        (symbol, _) => Some((format!("TIDEGATE_{symbol}"), i64::from(n))),
    });
    let others = [
        ("TIDEGATE_VERSION", i64::from(tidegate_abi::VERSION)),
        ("TIDEGATE_READABLE", i64::from(poll::READABLE)),
        ("TIDEGATE_WRITABLE", i64::from(poll::WRITABLE)),
        ("TIDEGATE_ERROR", i64::from(poll::ERROR)),
        ("TIDEGATE_HANGUP", i64::from(poll::HANGUP)),
        ("TIDEGATE_POLL_MAX", poll::ENTRIES_MAX as i64),
        ("TIDEGATE_LOG_ERROR", i64::from(level::ERROR)),
        ("TIDEGATE_LOG_WARN", i64::from(level::WARN)),
        ("TIDEGATE_LOG_INFO", i64::from(level::INFO)),
        ("TIDEGATE_LOG_DEBUG", i64::from(level::DEBUG)),
        ("TIDEGATE_LOG_TRACE", i64::from(level::TRACE)),
        ("TIDEGATE_FLAG_BODY", i64::from(request::FLAG_BODY)),
        ("TIDEGATE_REQUEST_FIXED_BYTES", request::FIXED_BYTES as i64),
        ("TIDEGATE_FIELDS_FIXED_BYTES", fields::FIXED_BYTES as i64),
        ("TIDEGATE_FIELD_BYTES", fields::ENTRY_BYTES as i64),
        ("TIDEGATE_FIELDS_MAX", fields::ENTRIES_MAX as i64),
        ("TIDEGATE_FIELDS_BYTES_MAX", fields::LIST_BYTES_MAX as i64),
        ("TIDEGATE_USAGE_BYTES", usage::BYTES as i64),
        ("TIDEGATE_TCP", i64::from(socket::TCP)),
        ("TIDEGATE_UDP", i64::from(socket::UDP)),
        ("TIDEGATE_LOCAL", i64::from(socket::LOCAL)),
        ("TIDEGATE_PEER", i64::from(socket::PEER)),
        ("TIDEGATE_NAME_BYTES_MAX", socket::NAME_BYTES_MAX as i64),
        ("TIDEGATE_ADDRESS_BYTES_MAX", socket::ADDRESS_BYTES_MAX as i64),
        ("TIDEGATE_HANDLES_MAX", socket::HANDLES_MAX as i64),
        ("TIDEGATE_ADDRESS_ENTRY_BYTES", socket::ENTRY_BYTES as i64),
        ("TIDEGATE_FETCH_STREAM", i64::from(fetch::FLAG_STREAM)),
        ("TIDEGATE_FETCH_LENGTH", i64::from(fetch::FLAG_LENGTH)),
        ("TIDEGATE_FETCH_FIXED_BYTES", fetch::REQUEST_FIXED_BYTES as i64),
        ("TIDEGATE_FETCH_RESPONSE_FIXED_BYTES", fetch::RESPONSE_FIXED_BYTES as i64),
    ];
    let expected = errnos.chain(others.map(|(name, value)| (name.to_owned(), value)));
    for (name, value) in expected {
        assert_eq!(defines.get(name.as_str()), Some(&value), "{name}");
    }
}

#[test]
fn every_import_is_declared() {
    let imports = [
        names::REQUEST_HEAD,
        names::RESPOND,
        names::RESPONSE_HEAD,
        names::READ,
        names::WRITE,
        names::FORWARD,
        names::FINISH,
        names::TRAILERS,
        names::POLL,
        names::CLOSE,
        names::ERROR,
        names::USAGE,
        names::LOG,
        names::CONNECT,
        names::RESOLVE,
        names::SOCKET_ADDRESS,
    ];
    for import in imports {
        assert!(HEADER.contains(&format!("TIDEGATE_IMPORT(\"{import}\")")), "{import}");
    }
    assert_eq!(HEADER.matches("TIDEGATE_IMPORT(\"").count(), imports.len());
    let fetch = [names::fetch::REQUEST, names::fetch::HEAD, names::fetch::REASON];
    for import in fetch {
        assert!(HEADER.contains(&format!("TIDEGATE_IMPORT_FETCH(\"{import}\")")), "{import}");
    }
    assert_eq!(HEADER.matches("TIDEGATE_IMPORT_FETCH(\"").count(), fetch.len());
    for module in [tidegate_abi::MODULE, tidegate_abi::FETCH_MODULE] {
        assert!(HEADER.contains(&format!("import_module(\"{module}\")")), "{module}");
    }
}
