//! `kv` of an app: `true`, `false`, or how much it may keep.

use super::walk::{Value, Walk};
use crate::config::kv::{KV_KEYS, KvSettings};
use crate::config::problem::ValueError;

const EXAMPLE: &str = "as in `kv = true`, or `kv = { keys = 10000, bytes = \"16MiB\" }`";

/// Reads the value. None: the app keeps nothing.
pub(super) fn read(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<KvSettings> {
    if let Some(keeps) = value.get_ref().as_bool() {
        return keeps.then(KvSettings::default);
    }
    if value.get_ref().as_table().is_none() {
        let message = format!("kv: it cannot be {}", value.get_ref().type_str());
        walk.problem(value.span(), ValueError::new(message).help(EXAMPLE));
        return None;
    }
    let mut kv = KvSettings::default();
    walk.keys(value, &KV_KEYS, &mut kv);
    Some(kv)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::manifest::parse_version;

    fn read(line: &str) -> Result<Option<KvSettings>, String> {
        let text = format!("[[app]]\nroutes = [\"/*\"]\n{line}\n");
        let app = parse_version(&text, "x", "shop", Path::new("shop.wasm"));
        app.map(|app| app.kv).map_err(|error| error.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn it_is_a_word_or_quotas() {
        let kept = |keys, bytes| Ok(Some(KvSettings { keys, bytes }));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("kv = false"), Ok(None));
        assert_eq!(read("kv = true"), kept(10_000, 16 << 20));
        assert_eq!(read("kv = {}"), kept(10_000, 16 << 20));
        assert_eq!(read("kv = { keys = 5 }"), kept(5, 16 << 20));
        assert_eq!(read("kv = { keys = 5, bytes = \"1MiB\" }"), kept(5, 1 << 20));
        for (wrong, message) in [
            ("kv = 5", "it cannot be integer"),
            ("kv = \"yes\"", "it cannot be string"),
            ("kv = { key = 5 }", "unknown key `key`"),
            ("kv = { keys = 0 }", "keys: "),
            ("kv = { bytes = 5 }", "bytes: "),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(message), "{wrong}: {error}");
        }
    }
}
