//! What an app may keep in the key-value store.

use super::keys::{Key, set_from_flag};
use super::problem::ValueError;

/// What an app may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSettings {
    /// Keys. Default 10,000.
    pub keys: u64,
    /// Bytes of keys and values together. Default 16 MiB.
    pub bytes: u64,
}

impl Default for KvSettings {
    fn default() -> Self {
        Self { keys: 10_000, bytes: 16 << 20 }
    }
}

/// The keys of `kv = { .. }`.
pub(crate) const KV_KEYS: [Key<KvSettings>; 2] = [
    Key { name: "keys", set: |kv, given| given.count(1..=u32::MAX).map(|value| kv.keys = value.into()) },
    Key { name: "bytes", set: |kv, given| given.bytes(1024..=1 << 40).map(|value| kv.bytes = value) },
];

impl KvSettings {
    /// Reads what stands behind `--kv=`: `KEY=VALUE`, several between commas. `true` is the defaults.
    ///
    /// # Errors
    /// An unknown key, or a wrong value.
    pub(crate) fn parse_flag(text: &str) -> Result<Self, ValueError> {
        let mut kv = Self::default();
        for part in text.split(',').filter(|_| text != "true") {
            set_from_flag(&KV_KEYS, &mut kv, part)?;
        }
        Ok(kv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let kv = |keys, bytes| Ok(KvSettings { keys, bytes });
        assert_eq!(KvSettings::parse_flag("true"), kv(10_000, 16 << 20));
        assert_eq!(KvSettings::parse_flag("keys=5"), kv(5, 16 << 20));
        assert_eq!(KvSettings::parse_flag("keys=5,bytes=1MiB"), kv(5, 1 << 20));
        for (wrong, message) in [
            ("", "`` is not `key=value`"),
            ("false", "`false` is not `key=value`"),
            ("keys=0", "keys: "),
            ("bytes=1", "bytes: `1` is ambiguous"),
            ("byte=1KiB", "unknown key `byte`"),
            ("keys=5,", "`` is not `key=value`"),
        ] {
            let error = KvSettings::parse_flag(wrong).unwrap_err();
            assert!(error.message.contains(message), "{wrong}: {error:?}");
        }
    }
}
