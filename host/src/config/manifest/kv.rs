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
