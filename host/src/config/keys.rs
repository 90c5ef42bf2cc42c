//! The settings that have a key, for the manifest and for `--limit` and `--http` alike: name, unit, bounds.

use tidegate_proto::limits::Limits;

use super::limits::AppLimits;
use super::problem::ValueError;
use super::suggest::did_you_mean;
use super::tenants::TenantLimits;
use super::units::Given;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

/// One setting of a `T`.
#[derive(Clone, Copy)]
pub(crate) struct Key<T> {
    /// As the manifest writes it. A flag may write `-` for `_`.
    pub(crate) name: &'static str,
    /// Reads a value and stores it.
    pub(crate) set: fn(&mut T, Given<'_>) -> Result<(), ValueError>,
}

impl<T> Key<T> {
    const fn new(name: &'static str, set: fn(&mut T, Given<'_>) -> Result<(), ValueError>) -> Self {
        Self { name, set }
    }
}

/// The `limits` of an app.
pub(crate) const APP_KEYS: [Key<AppLimits>; 16] = [
    // A page of memory at least; a memory of 32 bits has no more than 4 GiB.
    Key::new("memory", |limits, given| {
        given.bytes(64 * KIB..=4 * GIB).map(|value| limits.memory_bytes = value)
    }),
    Key::new("cpu", |limits, given| given.duration(1..=DAY).map(|value| limits.cpu = value)),
    Key::new("wall", |limits, given| given.duration(1..=DAY).map(|value| limits.wall = value)),
    Key::new("concurrency", |limits, given| given.count(1..=65_536).map(|value| limits.concurrency = value)),
    Key::new("queue", |limits, given| given.count(0..=1_000_000).map(|value| limits.queue = value)),
    Key::new("body", |limits, given| {
        limits.body_bytes = match given {
            Given::Word("unlimited") | Given::Text("unlimited") => None,
            given => Some(given.bytes(0..=u64::MAX)?),
        };
        Ok(())
    }),
    Key::new("log_rate", |limits, given| {
        given.bytes_per_s(0..=GIB).map(|value| limits.log_bytes_per_s = value)
    }),
    Key::new("table_elements", |limits, given| {
        given.count(1..=20_000).map(|value| limits.table_elements = value as usize)
    }),
    Key::new("sockets", |limits, given| given.count(1..=1_000_000).map(|value| limits.sockets_max = value)),
    Key::new("socket_bytes", |limits, given| {
        limits.socket_bytes_max = match given {
            Given::Word("unlimited") | Given::Text("unlimited") => u64::MAX,
            given => given.bytes(0..=u64::MAX)?,
        };
        Ok(())
    }),
    Key::new("connects", |limits, given| {
        given.per_s(1..=1_000_000).map(|value| limits.connects_per_s = value)
    }),
    Key::new("requests", |limits, given| requests_per_s(given).map(|value| limits.requests_per_s = value)),
    Key::new("connections", |limits, given| connections(given).map(|value| limits.connections_max = value)),
    Key::new("response", |limits, given| {
        given.or_unlimited(|given| given.bytes(0..=u64::MAX)).map(|value| limits.response_bytes = value)
    }),
    Key::new("log_lines", |limits, given| log_lines_per_s(given).map(|value| limits.log_lines_per_s = value)),
    Key::new("cpu_share", |limits, given| cpu_percent(given).map(|value| limits.cpu_percent = value)),
];

/// The `limits` of a tenant: the names that they have for an app, over all its apps together.
pub(crate) const TENANT_KEYS: [Key<TenantLimits>; 14] = [
    Key::new("apps", |limits, given| {
        given.or_unlimited(|given| given.count(1..=1_000_000)).map(|value| limits.apps = value)
    }),
    Key::new("modules", |limits, given| {
        given.or_unlimited(|given| given.bytes(KIB..=u64::MAX)).map(|value| limits.module_bytes = value)
    }),
    Key::new("concurrency", |limits, given| {
        given.or_unlimited(|given| given.count(1..=65_536)).map(|value| limits.concurrency = value)
    }),
    Key::new("queue", |limits, given| {
        given.or_unlimited(|given| given.count(0..=1_000_000)).map(|value| limits.queue = value)
    }),
    Key::new("requests", |limits, given| requests_per_s(given).map(|value| limits.requests_per_s = value)),
    Key::new("connections", |limits, given| connections(given).map(|value| limits.connections = value)),
    Key::new("cpu_share", |limits, given| cpu_percent(given).map(|value| limits.cpu_percent = value)),
    Key::new("memory", |limits, given| {
        given.or_unlimited(|given| given.bytes(64 * KIB..=u64::MAX)).map(|value| limits.memory_bytes = value)
    }),
    Key::new("sockets", |limits, given| {
        given.or_unlimited(|given| given.count(1..=1_000_000)).map(|value| limits.sockets = value)
    }),
    Key::new("connects", |limits, given| {
        given.or_unlimited(|given| given.per_s(1..=1_000_000)).map(|value| limits.connects_per_s = value)
    }),
    Key::new("log_rate", |limits, given| {
        given.or_unlimited(|given| given.bytes_per_s(0..=GIB)).map(|value| limits.log_bytes_per_s = value)
    }),
    Key::new("log_lines", |limits, given| log_lines_per_s(given).map(|value| limits.log_lines_per_s = value)),
    Key::new("kv_keys", |limits, given| {
        given
            .or_unlimited(|given| given.count(0..=u32::MAX))
            .map(|value| limits.kv_keys = value.map(u64::from))
    }),
    Key::new("kv_bytes", |limits, given| {
        given.or_unlimited(|given| given.bytes(0..=u64::MAX)).map(|value| limits.kv_bytes = value)
    }),
];

fn requests_per_s(given: Given<'_>) -> Result<Option<u32>, ValueError> {
    given.or_unlimited(|given| given.per_s(1..=10_000_000))
}

fn connections(given: Given<'_>) -> Result<Option<u32>, ValueError> {
    given.or_unlimited(|given| given.count(1..=10_000_000))
}

fn log_lines_per_s(given: Given<'_>) -> Result<Option<u32>, ValueError> {
    given.or_unlimited(|given| given.per_s(0..=10_000_000))
}

/// More cores than that no machine of ours has.
fn cpu_percent(given: Given<'_>) -> Result<Option<u32>, ValueError> {
    given.or_unlimited(|given| given.percent(1..=100_000))
}

/// The `watermarks` of an app.
pub(crate) const WATERMARK_KEYS: [Key<AppLimits>; 2] =
    [Key::new("high", set_high_watermark), Key::new("low", set_low_watermark)];

/// What `--limit` takes: the limits of an app, and its watermarks under longer names.
pub(crate) const APP_FLAG_KEYS: [Key<AppLimits>; 18] = {
    let mut keys = [Key::new("high_watermark", set_high_watermark); 18];
    let mut number = 0;
    while number < APP_KEYS.len() {
        keys[number] = APP_KEYS[number];
        number += 1;
    }
    keys[number + 1] = Key::new("low_watermark", set_low_watermark);
    keys
};

/// A smaller pipe would take a system call for every few words.
fn set_high_watermark(limits: &mut AppLimits, given: Given<'_>) -> Result<(), ValueError> {
    given.size(KIB..=64 * MIB).map(|value| limits.high_watermark = value)
}

fn set_low_watermark(limits: &mut AppLimits, given: Given<'_>) -> Result<(), ValueError> {
    given.size(0..=64 * MIB).map(|value| limits.low_watermark = value)
}

/// The bounds of connections: `[server.limits]`, and what `--http` takes.
pub(crate) const HTTP_KEYS: [Key<Limits>; 13] = [
    Key::new("head_bytes", |http, given| given.size(256..=MIB).map(|value| http.head_bytes_max = value)),
    Key::new("headers", |http, given| {
        given.count(1..=HEADERS_MAX).map(|value| http.headers_max = value as usize)
    }),
    Key::new("target_bytes", |http, given| given.size(1..=MIB).map(|value| http.target_bytes_max = value)),
    Key::new("head_timeout", |http, given| given.millis(1..=DAY).map(|value| http.head_ms_max = value)),
    Key::new("idle_timeout", |http, given| given.millis(1..=DAY).map(|value| http.idle_ms_max = value)),
    Key::new("min_rate", |http, given| {
        given.bytes_per_s(0..=GIB).map(|value| http.rate_bytes_per_s_min = value)
    }),
    Key::new("body_grace", |http, given| given.millis(0..=DAY).map(|value| http.body_grace_ms = value)),
    Key::new("write_grace", |http, given| given.millis(0..=DAY).map(|value| http.write_grace_ms = value)),
    Key::new("drain_bytes", |http, given| given.bytes(0..=GIB).map(|value| http.drain_bytes_max = value)),
    Key::new("linger", |http, given| given.millis(0..=DAY).map(|value| http.linger_ms_max = value)),
    Key::new("half_close", |http, given| given.millis(0..=DAY).map(|value| http.half_close_ms_max = value)),
    Key::new("chunk_ext_bytes", |http, given| {
        given.size(0..=MIB).map(|value| http.chunk_ext_bytes_max = value)
    }),
    Key::new("trailer_bytes", |http, given| given.size(0..=MIB).map(|value| http.trailer_bytes_max = value)),
];

/// The most header lines that the codec has room for.
const HEADERS_MAX: u32 = {
    let ceiling = tidegate_proto::http1::head::HEADERS_CEILING;
    assert!(ceiling <= 65_536);
    ceiling as u32
};

/// Stores the `key=value` of a flag.
pub(crate) fn set_from_flag<T>(keys: &[Key<T>], target: &mut T, text: &str) -> Result<(), ValueError> {
    let names = || keys.iter().map(|key| key.name);
    let Some((name, value)) = text.split_once('=') else {
        let error = ValueError::new(format!("`{text}` is not `key=value`"));
        return Err(error.help(format!("the keys are: {}", names().collect::<Vec<_>>().join(", "))));
    };
    let known = name.replace('-', "_");
    let Some(key) = keys.iter().find(|key| key.name == known) else {
        return Err(ValueError::new(format!("unknown key `{name}`"))
            .help(did_you_mean(name, keys.iter().map(|key| key.name))));
    };
    (key.set)(target, Given::Word(value))
        .map_err(|error| ValueError { message: format!("{name}: {}", error.message), ..error })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_limit_can_be_set_by_a_flag() {
        let mut limits = AppLimits::default();
        for text in [
            "memory=1MiB",
            "cpu=1s",
            "wall=2s",
            "concurrency=3",
            "queue=4",
            "body=5B",
            "log-rate=6B/s",
            "table-elements=7",
            "sockets=10",
            "socket-bytes=11B",
            "connects=12/s",
            "requests=13/s",
            "connections=14",
            "response=15B",
            "log-lines=16/s",
            "cpu-share=17%",
            "high-watermark=8KiB",
            "low_watermark=9B",
        ] {
            set_from_flag(&APP_FLAG_KEYS, &mut limits, text).unwrap();
        }
        let expected = AppLimits {
            memory_bytes: 1 << 20,
            cpu: Duration::from_secs(1),
            wall: Duration::from_secs(2),
            concurrency: 3,
            queue: 4,
            body_bytes: Some(5),
            high_watermark: 8192,
            low_watermark: 9,
            log_bytes_per_s: 6,
            table_elements: 7,
            sockets_max: 10,
            socket_bytes_max: 11,
            connects_per_s: 12,
            requests_per_s: Some(13),
            connections_max: Some(14),
            response_bytes: Some(15),
            log_lines_per_s: Some(16),
            cpu_percent: Some(17),
        };
        assert_eq!(limits, expected);
        set_from_flag(&APP_FLAG_KEYS, &mut limits, "body=unlimited").unwrap();
        assert_eq!(limits.body_bytes, None);
        set_from_flag(&APP_FLAG_KEYS, &mut limits, "socket_bytes=unlimited").unwrap();
        assert_eq!(limits.socket_bytes_max, u64::MAX);
        for name in ["requests", "connections", "response", "log_lines", "cpu_share"] {
            set_from_flag(&APP_FLAG_KEYS, &mut limits, &format!("{name}=unlimited")).unwrap();
        }
        let optional = (limits.requests_per_s, limits.connections_max, limits.log_lines_per_s);
        assert_eq!((optional, limits.response_bytes, limits.cpu_percent), ((None, None, None), None, None));
    }

    #[test]
    fn a_tenant_has_the_names_of_an_app_and_its_own() {
        let mut limits = TenantLimits::default();
        for text in [
            "apps=13",
            "modules=14KiB",
            "concurrency=1",
            "queue=2",
            "requests=3/s",
            "connections=4",
            "cpu_share=5%",
            "memory=1MiB",
            "sockets=7",
            "connects=8/s",
            "log_rate=9B/s",
            "log_lines=10/s",
            "kv_keys=11",
            "kv_bytes=12B",
        ] {
            set_from_flag(&TENANT_KEYS, &mut limits, text).unwrap();
        }
        let expected = TenantLimits {
            apps: Some(13),
            module_bytes: Some(14 << 10),
            concurrency: Some(1),
            queue: Some(2),
            requests_per_s: Some(3),
            connections: Some(4),
            cpu_percent: Some(5),
            memory_bytes: Some(1 << 20),
            sockets: Some(7),
            connects_per_s: Some(8),
            log_bytes_per_s: Some(9),
            log_lines_per_s: Some(10),
            kv_keys: Some(11),
            kv_bytes: Some(12),
        };
        assert_eq!(limits, expected);
        for key in &TENANT_KEYS {
            set_from_flag(&TENANT_KEYS, &mut limits, &format!("{}=unlimited", key.name)).unwrap();
        }
        let unlimited = TenantLimits { apps: None, module_bytes: None, ..TenantLimits::default() };
        assert_eq!(limits, unlimited);
    }

    #[test]
    fn every_bound_of_a_connection_can_be_set_by_a_flag() {
        let mut http = Limits::default();
        for text in [
            "head_bytes=1KiB",
            "headers=2",
            "target-bytes=3B",
            "head_timeout=4ms",
            "idle_timeout=5ms",
            "min_rate=6B/s",
            "body_grace=7ms",
            "write_grace=8ms",
            "drain_bytes=9B",
            "linger=10ms",
            "half_close=11ms",
            "chunk_ext_bytes=12B",
            "trailer_bytes=13B",
        ] {
            set_from_flag(&HTTP_KEYS, &mut http, text).unwrap();
        }
        let expected = Limits {
            head_bytes_max: 1024,
            headers_max: 2,
            target_bytes_max: 3,
            head_ms_max: 4,
            idle_ms_max: 5,
            rate_bytes_per_s_min: 6,
            body_grace_ms: 7,
            write_grace_ms: 8,
            drain_bytes_max: 9,
            linger_ms_max: 10,
            half_close_ms_max: 11,
            chunk_ext_bytes_max: 12,
            trailer_bytes_max: 13,
        };
        assert_eq!(http, expected);
    }

    #[test]
    fn wrong_flags_name_the_nearest_key() {
        let table = [
            ("cpuu=1s", "unknown key `cpuu`", "did you mean `cpu`?"),
            ("log-rat=1B", "unknown key `log-rat`", "did you mean `log_rate`?"),
            ("cpu", "`cpu` is not `key=value`", "memory, cpu, wall"),
            ("cpu=1", "cpu: `1` is ambiguous", "10s"),
            ("socket_byte=1B", "unknown key `socket_byte`", "did you mean `socket_bytes`?"),
            ("connects=5", "connects: `5` is ambiguous", "write `5/s`"),
            ("zzz=1", "unknown key `zzz`", "it is one of: memory"),
        ];
        for (text, message, help) in table {
            let error = set_from_flag(&APP_FLAG_KEYS, &mut AppLimits::default(), text).unwrap_err();
            assert!(error.message.contains(message), "{error:?}");
            assert!(error.help.as_ref().unwrap().contains(help), "{error:?}");
        }
    }
}
