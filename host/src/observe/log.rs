//! The server's log: `tracing` events as lines on standard error.
//!
//! A thread of its own writes them, so that a slow terminal never holds up a loop; what does not fit into its queue
//! is dropped and counted. One event is one line whatever is in it: the JSON format escapes by itself, the text format
//! is made to here.

use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Instant;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer, debug_fn};
use tracing_subscriber::fmt::{FormatFields, Layer, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::dev_log::DevFormat;
use super::sink::{FAREWELL, Sink, SinkGuard};
use crate::config::LogFormat;

/// What sets the level: directives such as `debug` or `warn,tidegate::session=trace`.
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// What holds without it. The resolver's library warns of each odd datagram, which anyone can send.
const DEFAULT_DIRECTIVES: &str = "info,hickory_net=error,hickory_proto=error,hickory_resolver=error";
/// The levels that directives know.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The directives cannot be read.
    #[error("the variable {FILTER_VARIABLE} is not a log filter: {0}")]
    Filter(String),
    /// Standard error can not be written to from a thread of its own.
    #[error("the log can not be set up: {0}")]
    Sink(#[from] io::Error),
    /// There is a log already.
    #[error("the log was set up before")]
    Twice(#[from] TryInitError),
}

/// Writes out what is queued when it is dropped, for as long as a moment. Keep it until the process ends.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Guard {
    sink: Sink,
    queue: SinkGuard,
}

impl Drop for Guard {
    /// Tells of lost lines in the log's last one: whoever reads it should know that it is not whole.
    fn drop(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        // What is queued goes first, so that there is room for one line more.
        self.queue.drain(deadline);
        let dropped = self.sink.lost().records;
        if dropped > 0 {
            tracing::warn!(dropped, "log lines were dropped: they came faster than they could be written");
        }
        self.queue.finish(deadline);
    }
}

/// Prints a line on standard error for whoever sits there. Where nobody does any more, the terminal closed or the reader
/// of a pipe gone, nothing happens; `eprintln!` would panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = io::Write::write_all(&mut io::stderr().lock(), format!("{line}\n").as_bytes());
}

/// Sends all events of the process to standard error. The level is `info` unless [`FILTER_VARIABLE`] says otherwise. In
/// `dev` the text format gives the words to guests.
pub fn init(format: LogFormat, dev: bool) -> Result<Guard, InitError> {
    let directives = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = filter(&directives)?;
    // Not the stream itself: its lock would be held for as long as a write takes, and everybody who prints wants it.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (sink, queue) = Sink::start(file, "log")?;
    let writer = sink.clone();
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            if dev {
                let layer = text().event_format(DevFormat::new(ansi));
                registry.with(layer.with_writer(writer)).try_init()?;
            } else {
                registry.with(text().with_writer(writer)).try_init()?;
            }
        }
        LogFormat::Json => {
            registry.with(json().with_writer(writer)).try_init()?;
        }
    }
    Ok(Guard { sink, queue })
}

/// The text format. Apart from the fields it is what tracing-subscriber makes of an event, without colors: those would
/// need another crate.
fn text<S>() -> Layer<S, impl for<'w> FormatFields<'w> + 'static>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    layer().fmt_fields(one_line()).with_ansi(false)
}

/// The JSON format: an event's own fields beside its level and time, those of the innermost span under `span`.
fn json<S>() -> Layer<S, JsonFields, Format<Json>>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    layer().json().flatten_event(true).with_span_list(false)
}

fn filter(directives: &str) -> Result<EnvFilter, InitError> {
    let directives = if directives.is_empty() { DEFAULT_DIRECTIVES } else { directives };
    // A bare word could also be a target, all of it: but then a level that is mistyped would turn the log off.
    let level = |word: &str| {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
            || matches!(word, "" | "0" | "1" | "2" | "3" | "4" | "5")
    };
    let plain = |word: &&str| !word.contains(['=', '[', ']', '{', '}', ':', '"']);
    if let Some(word) = directives.split(',').map(str::trim).filter(plain).find(|word| !level(word)) {
        return Err(InitError::Filter(format!("`{word}` is no level; there are {}", LEVELS.join(", "))));
    }
    EnvFilter::try_new(directives).map_err(|error| InitError::Filter(error.to_string()))
}

/// Fields as `name=value`, the message bare, without a character that could begin a line or steer a terminal. Strings
/// come quoted and escaped already; what is shown by `Display` does not.
fn one_line() -> impl for<'w> FormatFields<'w> + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(OneLine { inner: writer }, "{value:?}")
    })
    .delimited(" ")
}

/// Escapes control characters, the line and paragraph separators, and what turns the direction of text around.
pub(super) struct OneLine<'a, W> {
    pub(super) inner: &'a mut W,
}

impl<W: Write> Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let steers = |character: char| {
            character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let mut rest = text;
        while let Some(at) = rest.find(steers) {
            let (plain, from) = rest.split_at(at);
            self.inner.write_str(plain)?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                write!(self.inner, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.inner.write_str(rest)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(in crate::observe) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(in crate::observe) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the two formats write for the events of `log`.
    pub(in crate::observe) fn written(format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let make = move || writer.clone();
        let registry = tracing_subscriber::registry().with(filter("info").unwrap());
        match format {
            LogFormat::Text => {
                let layer = tracing_subscriber::fmt::layer()
                    .fmt_fields(one_line())
                    .with_ansi(false)
                    .with_writer(make);
                tracing::subscriber::with_default(registry.with(layer), log);
            }
            LogFormat::Json => {
                tracing::subscriber::with_default(registry.with(json().with_writer(make)), log);
            }
        }
        kept.text()
    }

    const EVIL: &str = "a\r\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{85}\u{2028}\u{202e}\tz";

    #[test]
    fn a_field_cannot_forge_a_line() {
        let log = || {
            let span = tracing::info_span!("request", id = %EVIL);
            let _entered = span.enter();
            tracing::info!(display = %EVIL, debug = ?EVIL, plain = EVIL, "{EVIL}");
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(format, log);
            assert_eq!(text.lines().count(), 1, "{text}");
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.contains(['\r', '\n', '\u{1b}']), "{line:?}");
            assert_eq!(line.matches("forged").count(), 5, "{line:?}");
        }
        let text = written(LogFormat::Text, log);
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(|character| character.is_control() || character == '\u{202e}'), "{line:?}");
        assert!(line.contains("display=a\\r\\n2026"), "{line:?}");
    }

    #[test]
    fn an_ordinary_line_stays_as_it_is() {
        let text = written(LogFormat::Text, || tracing::info!(app = %"shop", bytes = 5, "served \u{e4}"));
        assert!(text.ends_with("served \u{e4} app=shop bytes=5\n"), "{text:?}");
        assert!(written(LogFormat::Text, || tracing::debug!("not shown")).is_empty());
    }

    #[test]
    fn a_wrong_filter_is_told() {
        assert!(filter("").is_ok() && filter("debug,tidegate=trace").is_ok());
        assert!(filter("tidegate=loud").unwrap_err().to_string().contains(FILTER_VARIABLE));
        assert!(filter("WARN,tidegate::session=trace,3").is_ok());
        for wrong in ["wran", "tidegate=debug,wran"] {
            let told = filter(wrong).unwrap_err().to_string();
            assert!(told.contains("`wran` is no level"), "{told}");
        }
    }
}
