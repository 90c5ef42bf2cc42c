//! Sizes, times and counts as people write them: `64MiB`, `500ms`, `256`.
//!
//! A size or a time without a unit is refused rather than guessed (unless it is 0), and so is a unit that some read in
//! one way and some in another (`MB`, `m`).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::ValueError;

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
/// In milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

const SIZE_HELP: &str = "the units are B, KiB, MiB and GiB, as in `64MiB`";
const TIME_HELP: &str = "the units are ms, s, min and h, as in `500ms` or `10s`";

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given<'a> {
    /// Of a flag: text, whatever it stands for.
    Word(&'a str),
    /// A string of a manifest.
    Text(&'a str),
    /// A number of a manifest.
    Number(i64),
    /// Something else of a manifest, by what TOML calls it.
    Other(&'a str),
}

impl Given<'_> {
    /// A size as it may be given, `64MiB`: in the largest unit that divides it.
    pub(crate) fn size_text(bytes: u64) -> String {
        show_bytes(bytes)
    }

    /// The same in a sentence, `64 MiB`. Nothing is rounded: a limit is told as it was set.
    pub(crate) fn size_told(bytes: u64) -> String {
        show(bytes, &SIZE_UNITS, " ")
    }

    /// A size in bytes.
    pub(crate) fn bytes(self, range: RangeInclusive<u64>) -> Result<u64, ValueError> {
        let bytes = self.with_unit("size", &SIZE_UNITS, SIZE_HELP)?;
        within(bytes, range, show_bytes)
    }

    /// Bytes a second, as a size with or without `/s`.
    pub(crate) fn bytes_per_s(self, range: RangeInclusive<u64>) -> Result<u64, ValueError> {
        let without = |text: &'_ str| text.strip_suffix("/s").unwrap_or(text).len();
        match self {
            Self::Word(text) => Given::Word(&text[..without(text)]).bytes(range),
            Self::Text(text) => Given::Text(&text[..without(text)]).bytes(range),
            other => other.bytes(range),
        }
    }

    /// Times a second: `100/s`.
    pub(crate) fn per_s(self, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
        let help = "a rate is a number with `/s`, as in `100/s`";
        let text = match &self {
            Self::Number(0) => "0",
            Self::Number(number) => {
                let error = ValueError::new("a plain number is ambiguous: a rate needs a unit");
                return Err(error.help(format!("write `\"{number}/s\"`")));
            }
            other => other.text().map_err(|error| error.help(help))?,
        };
        let (number, unit) = match text.split_once('/') {
            Some((number, unit)) => (number, Some(unit)),
            None => (text, None),
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError::new(format!("`{text}` is not a rate")).help(help));
        }
        let count = number.parse::<u32>().ok();
        match unit {
            Some("s") => {}
            None if count == Some(0) => {}
            None => {
                let error = ValueError::new(format!("`{text}` is ambiguous: a rate needs a unit"));
                return Err(error.help(format!("write `{text}/s`")));
            }
            Some(unit) => {
                let error = ValueError::new(format!("`/{unit}` is not a unit of a rate"));
                return Err(error.help(help));
            }
        }
        let (first, last) = (*range.start(), *range.end());
        count
            .filter(|count| range.contains(count))
            .ok_or_else(|| ValueError::new(format!("it must be between {first}/s and {last}/s")))
    }

    /// A part of a whole, in hundredths: `50%`.
    pub(crate) fn percent(self, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
        let help = "a share is a number with `%`, as in `50%`; `200%` is two cores";
        let text = match &self {
            Self::Number(number) => {
                let error = ValueError::new("a plain number is ambiguous: a share needs a `%`");
                return Err(error.help(format!("write `\"{number}%\"`")));
            }
            other => other.text().map_err(|error| error.help(help))?,
        };
        let number = text.strip_suffix('%').unwrap_or(text);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError::new(format!("`{text}` is not a share")).help(help));
        }
        if number == text {
            let error = ValueError::new(format!("`{text}` is ambiguous: a share needs a `%`"));
            return Err(error.help(format!("write `{text}%`")));
        }
        let (first, last) = (*range.start(), *range.end());
        let percent = number.parse::<u32>().ok().filter(|percent| range.contains(percent));
        percent.ok_or_else(|| ValueError::new(format!("it must be between {first}% and {last}%")))
    }

    /// What `read` reads, or `unlimited`.
    pub(crate) fn or_unlimited<T>(
        self,
        read: impl FnOnce(Self) -> Result<T, ValueError>,
    ) -> Result<Option<T>, ValueError> {
        match self {
            Self::Word("unlimited") | Self::Text("unlimited") => Ok(None),
            given => read(given).map(Some),
        }
    }

    /// A size in bytes that an address space holds.
    pub(crate) fn size(self, range: RangeInclusive<u64>) -> Result<usize, ValueError> {
        let bytes = self.bytes(range)?;
        usize::try_from(bytes).map_err(|_| ValueError::new("it is larger than this machine can address"))
    }

    /// A span of time in whole milliseconds.
    pub(crate) fn millis(self, range: RangeInclusive<u64>) -> Result<u64, ValueError> {
        let millis = self.with_unit("time", &TIME_UNITS, TIME_HELP)?;
        within(millis, range, show_millis)
    }

    /// A span of time in whole milliseconds.
    pub(crate) fn duration(self, range: RangeInclusive<u64>) -> Result<Duration, ValueError> {
        self.millis(range).map(Duration::from_millis)
    }

    /// A plain number.
    pub(crate) fn count(self, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
        let (first, last) = (*range.start(), *range.end());
        let number = match self {
            Self::Number(number) => u64::try_from(number).ok(),
            Self::Word(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text.parse().unwrap_or(u64::MAX))
            }
            Self::Word(text) => {
                return Err(ValueError::new(format!("`{text}` is not a number"))
                    .help("a whole number, without a unit"));
            }
            Self::Text(text) => {
                let error = ValueError::new("a number is expected here, not a string");
                let plain = text.parse::<u32>().is_ok();
                return Err(if plain { error.help(format!("write `{text}` without quotes")) } else { error });
            }
            Self::Other(kind) => {
                return Err(ValueError::new(format!("a number is expected here, not {kind}")));
            }
        };
        number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| ValueError::new(format!("it must be between {first} and {last}")))
    }

    /// A string, or a word of a flag.
    pub(crate) fn text(&self) -> Result<&str, ValueError> {
        match self {
            Self::Word(text) | Self::Text(text) => Ok(text),
            Self::Number(_) => Err(ValueError::new("a string is expected here, not an integer")),
            Self::Other(kind) => Err(ValueError::new(format!("a string is expected here, not {kind}"))),
        }
    }

    fn with_unit(self, what: &str, units: &[(&str, u64)], help: &str) -> Result<u64, ValueError> {
        let text = match &self {
            Self::Number(0) => return Ok(0),
            Self::Number(_) => {
                return Err(
                    ValueError::new(format!("a plain number is ambiguous: a {what} needs a unit")).help(help)
                );
            }
            other => other.text().map_err(|error| error.help(help))?,
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(ValueError::new(format!("`{text}` is not a {what}")).help(help));
        }
        if unit.is_empty() && number.bytes().all(|digit| digit == b'0') {
            return Ok(0);
        }
        if unit.is_empty() {
            let message = format!("`{text}` is ambiguous: a {what} needs a unit");
            return Err(ValueError::new(message).help(help));
        }
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            let error = ValueError::new(format!("`{unit}` is not a unit of {what}"));
            return Err(match meant(unit, units) {
                Some(meant) => error.help(format!("did you mean `{number}{meant}`?")),
                None => error.help(help),
            });
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor))
            .ok_or_else(|| ValueError::new(format!("`{text}` is too large")))
    }
}

/// The unit behind another way of writing it.
fn meant<'u>(unit: &str, units: &[(&'u str, u64)]) -> Option<&'u str> {
    let plain = unit.trim().to_ascii_lowercase();
    let plain = match plain.as_str() {
        "k" | "kb" => "kib",
        "m" | "mb" => "mib",
        "g" | "gb" => "gib",
        "t" | "tb" => "tib",
        "sec" | "secs" | "second" | "seconds" => "s",
        "msec" | "millis" => "ms",
        "mins" | "minute" | "minutes" => "min",
        "hr" | "hour" | "hours" => "h",
        "byte" | "bytes" => "b",
        other => other,
    };
    units.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(plain))
}

fn within(value: u64, range: RangeInclusive<u64>, show: fn(u64) -> String) -> Result<u64, ValueError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (first, last) = (show(*range.start()), show(*range.end()));
    Err(ValueError::new(format!("it must be between {first} and {last}")))
}

/// About so many bytes, for a sum that nobody wrote.
pub(crate) fn about_bytes(bytes: u64) -> String {
    let (name, factor) = if bytes >= 1 << 30 { ("GiB", 1u64 << 30) } else { ("MiB", 1 << 20) };
    // Rounded up: what is too much by a little is not to look as if it fitted.
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(factor));
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS, "")
}

fn show_millis(millis: u64) -> String {
    show(millis, &TIME_UNITS, "")
}

/// In the largest unit that divides it.
fn show(value: u64, units: &[(&str, u64)], gap: &str) -> String {
    let unit = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit.or(units.first()) {
        Some((name, factor)) => format!("{}{gap}{name}", value / factor),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn sizes() {
        let table = [("0B", 0), ("1000B", 1000), ("64KiB", 65_536), ("64MiB", 64 << 20), ("1GiB", 1 << 30)];
        for (text, bytes) in table {
            assert_eq!(Given::Word(text).bytes(ANY).unwrap(), bytes);
            assert_eq!(Given::Text(text).bytes(ANY).unwrap(), bytes);
        }
        assert_eq!(Given::Word("2KiB/s").bytes_per_s(ANY).unwrap(), 2048);
        assert_eq!(Given::Text("240B").bytes_per_s(ANY).unwrap(), 240);
    }

    #[test]
    fn nothing_needs_no_unit() {
        for zero in [Given::Word("0"), Given::Text("0"), Given::Number(0)] {
            assert_eq!(zero.bytes(ANY).unwrap(), 0);
            assert_eq!(zero.bytes_per_s(ANY).unwrap(), 0);
            assert_eq!(zero.millis(ANY).unwrap(), 0);
            assert!(zero.millis(1..=9).unwrap_err().message.contains("between 1ms and 9ms"));
        }
    }

    #[test]
    fn sums_are_told_in_large_units() {
        let table = [
            (0, "0 MiB"),
            (64 << 20, "64 MiB"),
            ((1 << 20) + 1, "1.1 MiB"),
            ((3 << 30) / 2, "1.5 GiB"),
            (16 << 30, "16 GiB"),
        ];
        for (bytes, told) in table {
            assert_eq!(about_bytes(bytes), told);
        }
        assert_eq!(about_bytes(u64::MAX), "17179869184 GiB");
    }

    #[test]
    fn a_limit_is_told_as_it_was_set() {
        let table = [
            (0, "0B", "0 B"),
            (64 << 20, "64MiB", "64 MiB"),
            ((1 << 20) + 1, "1048577B", "1048577 B"),
            (1000 << 10, "1000KiB", "1000 KiB"),
            (4 << 30, "4GiB", "4 GiB"),
        ];
        for (bytes, text, told) in table {
            assert_eq!((&*Given::size_text(bytes), &*Given::size_told(bytes)), (text, told));
            assert_eq!(Given::Word(text).bytes(ANY).unwrap(), bytes);
        }
    }

    #[test]
    fn times() {
        let table = [("0ms", 0), ("500ms", 500), ("10s", 10_000), ("2min", 120_000), ("1h", 3_600_000)];
        for (text, millis) in table {
            assert_eq!(Given::Text(text).duration(ANY).unwrap(), Duration::from_millis(millis));
        }
    }

    #[test]
    fn wrong_sizes_and_times() {
        let table: [(Given<'_>, &str, &str); 12] = [
            (Given::Word("64"), "`64` is ambiguous", "64MiB"),
            (Given::Number(64), "ambiguous", "64MiB"),
            (Given::Text("64MB"), "`MB` is not a unit", "`64MiB`"),
            (Given::Text("64m"), "`m` is not a unit", "`64MiB`"),
            (Given::Text("64mib"), "`mib` is not a unit", "`64MiB`"),
            (Given::Text("64 MiB"), "is not a unit", "`64MiB`"),
            (Given::Text("64bytes"), "is not a unit", "`64B`"),
            (Given::Text("1.5MiB"), "is not a unit", "as in"),
            (Given::Text("-1MiB"), "`-1MiB` is not a size", "as in"),
            (Given::Text(""), "is not a size", "as in"),
            (Given::Text("MiB"), "is not a size", "as in"),
            (Given::Other("boolean"), "not boolean", "as in"),
        ];
        for (given, message, help) in table {
            let error = given.bytes(ANY).unwrap_err();
            assert!(error.message.contains(message), "{given:?}: {error:?}");
            assert!(error.help.as_ref().unwrap().contains(help), "{given:?}: {error:?}");
        }
        for (text, help) in [("10sec", "`10s`"), ("5m", "min"), ("1", "500ms"), ("3MiB", "500ms")] {
            let error = Given::Word(text).millis(ANY).unwrap_err();
            assert!(error.help.as_ref().unwrap().contains(help), "{text}: {error:?}");
        }
        assert!(Given::Text("99999999999GiB").bytes(ANY).unwrap_err().message.contains("too large"));
        assert!(Given::Text("99999999999999999999B").bytes(ANY).unwrap_err().message.contains("too large"));
    }

    #[test]
    fn bounds_are_told_in_units() {
        let error = Given::Text("1B").bytes((64 << 10)..=(4 << 30)).unwrap_err();
        assert_eq!(error.message, "it must be between 64KiB and 4GiB");
        let error = Given::Text("2h").millis(0..=3_600_000).unwrap_err();
        assert_eq!(error.message, "it must be between 0ms and 1h");
    }

    #[test]
    fn rates() {
        let table = [
            (Given::Word("100/s"), 100),
            (Given::Text("1/s"), 1),
            (Given::Text("0"), 0),
            (Given::Word("0/s"), 0),
            (Given::Number(0), 0),
        ];
        for (given, expected) in table {
            assert_eq!(given.per_s(0..=100).unwrap(), expected);
        }
        let table = [
            (Given::Number(5), "a plain number is ambiguous", "write `\"5/s\"`"),
            (Given::Text("5"), "`5` is ambiguous", "write `5/s`"),
            (Given::Text("5/min"), "`/min` is not a unit", "`100/s`"),
            (Given::Text("5/"), "`/` is not a unit", "`100/s`"),
            (Given::Text("/s"), "`/s` is not a rate", "`100/s`"),
            (Given::Text("fast"), "`fast` is not a rate", "`100/s`"),
            (Given::Text("-1/s"), "`-1/s` is not a rate", "`100/s`"),
            (Given::Text("101/s"), "it must be between 1/s and 100/s", ""),
            (Given::Text("0/s"), "it must be between 1/s and 100/s", ""),
            (Given::Text("99999999999/s"), "it must be between 1/s and 100/s", ""),
            (Given::Other("boolean"), "not boolean", "`100/s`"),
        ];
        for (given, message, help) in table {
            let error = given.per_s(1..=100).unwrap_err();
            assert!(error.message.contains(message), "{given:?}: {error:?}");
            assert!(error.help.unwrap_or_default().contains(help), "{given:?}");
        }
    }

    #[test]
    fn shares() {
        for (given, expected) in
            [(Given::Word("50%"), 50), (Given::Text("1%"), 1), (Given::Text("200%"), 200)]
        {
            assert_eq!(given.percent(1..=200).unwrap(), expected);
        }
        let table = [
            (Given::Number(50), "a plain number is ambiguous", "write `\"50%\"`"),
            (Given::Word("50"), "`50` is ambiguous", "write `50%`"),
            (Given::Text("0.5%"), "`0.5%` is not a share", "`50%`"),
            (Given::Text("-1%"), "`-1%` is not a share", "`50%`"),
            (Given::Text("%"), "`%` is not a share", "`50%`"),
            (Given::Text("0%"), "it must be between 1% and 200%", ""),
            (Given::Text("201%"), "it must be between 1% and 200%", ""),
            (Given::Text("99999999999%"), "it must be between 1% and 200%", ""),
            (Given::Other("boolean"), "not boolean", "`50%`"),
        ];
        for (given, message, help) in table {
            let error = given.percent(1..=200).unwrap_err();
            assert!(error.message.contains(message), "{given:?}: {error:?}");
            assert!(error.help.unwrap_or_default().contains(help), "{given:?}");
        }
        let count = |given: Given<'static>| given.or_unlimited(|given| given.count(1..=9));
        assert_eq!(count(Given::Text("unlimited")).unwrap(), None);
        assert_eq!(count(Given::Number(3)).unwrap(), Some(3));
        assert!(count(Given::Word("10")).is_err());
    }

    #[test]
    fn counts() {
        assert_eq!(Given::Number(256).count(1..=1000).unwrap(), 256);
        assert_eq!(Given::Word("256").count(1..=1000).unwrap(), 256);
        let table = [
            (Given::Number(0), "between 1 and 1000"),
            (Given::Number(-1), "between 1 and 1000"),
            (Given::Number(i64::MAX), "between 1 and 1000"),
            (Given::Word("99999999999999999999"), "between 1 and 1000"),
            (Given::Word("1k"), "`1k` is not a number"),
            (Given::Word("+1"), "`+1` is not a number"),
            (Given::Text("5"), "not a string"),
            (Given::Other("array"), "not array"),
        ];
        for (given, message) in table {
            let error = given.count(1..=1000).unwrap_err();
            assert!(error.message.contains(message), "{given:?}: {error:?}");
        }
        assert_eq!(Given::Text("5").count(1..=9).unwrap_err().help.unwrap(), "write `5` without quotes");
    }
}
