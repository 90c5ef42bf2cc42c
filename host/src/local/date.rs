//! The `Date` header, formatted once a second.

use std::time::SystemTime;

use crate::clock::{MS, Nanos};

const SECOND: Nanos = 1_000 * MS;

/// The date of the second that ends at `until`.
#[derive(Debug)]
pub(super) struct Date {
    text: [u8; 29],
    until: Nanos,
}

impl Default for Date {
    fn default() -> Self {
        Self { text: [b' '; 29], until: 0 }
    }
}

impl Date {
    /// The date at `now`, which is the monotonic clock's.
    pub(super) fn at(&mut self, now: Nanos) -> [u8; 29] {
        if now >= self.until {
            let time = SystemTime::now();
            let text = httpdate::fmt_http_date(time);
            if let Ok(bytes) = text.as_bytes().try_into() {
                self.text = bytes;
            }
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.until = now + SECOND - Nanos::from(since.subsec_nanos());
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_29_bytes_and_kept_for_at_most_a_second() {
        let mut date = Date::default();
        let text = date.at(5 * SECOND);
        assert!(text.ends_with(b" GMT"));
        assert!(date.until > 5 * SECOND && date.until <= 6 * SECOND);
    }
}
