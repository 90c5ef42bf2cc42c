//! How answers are shown: tables for people, JSON for programs.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;

use crate::cli::Failure;
use crate::config::escaped;

/// Writes to standard output. That nobody reads on is an end like any other.
pub(in crate::cli) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Said(0)),
        written => Ok(written.context("standard output")?),
    }
}

/// One document.
pub(in crate::cli) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("JSON")?;
    print(&format!("{text}\n"))
}

/// Columns under their heads. What stands in them may come from anybody: it cannot steer a terminal.
pub(in crate::cli) fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> Result<(), Failure> {
    print(&aligned(heads, rows))
}

/// The same, as text.
pub(in crate::cli) fn aligned<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| one_line(&cell)));
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text without anything that could begin a line.
pub(in crate::cli) fn one_line(text: &str) -> String {
    escaped(text).replace('\n', "\\n")
}

/// Something, or a dash.
pub(in crate::cli) fn dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The size of a module.
pub(in crate::cli) fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

/// A point in time, to the second.
pub(in crate::cli) fn time(ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// A time span, short.
pub(in crate::cli) fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..10_000 => format!("{:.1}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", us / 1_000),
        1_000_000..100_000_000 => format!("{:.1}s", us as f64 / 1e6),
        _ => format!("{}m{:02}s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_steer_nothing() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = aligned(["APP", "NOTE"], vec![row("shop", "\u{1b}[2J\nx"), row("\u{e4}", "")]);
        assert_eq!(text, "APP   NOTE\nshop  \\u{1b}[2J\\nx\n\u{e4}\n");
    }

    #[test]
    fn spans_are_short() {
        for (us, text) in [
            (0, "0us"),
            (999, "999us"),
            (1_500, "1.5ms"),
            (15_000, "15ms"),
            (1_500_000, "1.5s"),
            (125_000_000, "2m05s"),
        ] {
            assert_eq!(span(us), text);
        }
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(dash(None::<u64>) + &dash(Some(3)), "-3");
    }
}
