//! The log as the author of a guest reads it in `dev`: what the guest says stands out, and may have several lines.
//!
//! Events of guests begin with their app's name on every line, so that even there none passes for another's, and
//! nothing in them steers the terminal. All other events look as they do in production.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::guest_log::TARGET;
use super::log::OneLine;

/// Formats events for the author of a guest.
#[derive(Debug)]
pub(super) struct DevFormat {
    others: Format,
    ansi: bool,
}

impl DevFormat {
    /// With colors if `ansi`.
    pub(super) fn new(ansi: bool) -> Self {
        Self { others: Format::default().with_ansi(false), ansi }
    }
}

/// What an event of a guest has in it.
#[derive(Debug, Default)]
struct Said {
    app: String,
    text: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "app" => value.clone_into(&mut self.app),
            "text" => value.clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<S, N> FormatEvent<S, N> for DevFormat
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != TARGET {
            return self.others.format_event(context, writer, event);
        }
        let mut said = Said::default();
        event.record(&mut said);
        let level = event.metadata().level();
        let [dim, color, end] = if self.ansi { ["\x1b[2m", color_of(*level), "\x1b[0m"] } else { [""; 3] };
        let first = said.text.split('\n').next().unwrap_or_default();
        write!(writer, "{dim}{} |{end} {color}{level:>5}{end} ", said.app)?;
        line(&mut writer, first)?;
        for more in said.text.split('\n').skip(1) {
            write!(writer, "{dim}{} |{end}       ", said.app)?;
            line(&mut writer, more)?;
        }
        Ok(())
    }
}

fn line(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    OneLine { inner: writer }.write_str(&text.trim_end_matches('\r').replace('\t', "    "))?;
    writer.write_char('\n')
}

fn color_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::guest_log::{GuestLog, Level};
    use super::super::log::tests::Kept;
    use super::*;
    use crate::exchange::RequestId;

    fn written(ansi: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(DevFormat::new(ansi))
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        kept.text()
    }

    #[test]
    fn what_a_guest_says_is_readable_and_every_line_is_its_own() {
        let log = GuestLog::new("shop".into(), u64::MAX);
        let say = |text: &[u8]| written(false, || _ = log.record(Level::Warn, &RequestId::Nothing, text));
        assert_eq!(say(b"low on tea"), "shop |  WARN low on tea\n");
        assert_eq!(
            say(b"panicked at x\r\n    at shop::show\n\tz"),
            "shop |  WARN panicked at x\nshop |           at shop::show\nshop |           z\n"
        );
        let evil = say(b"a\x1b[2J\nother | ERROR forged\x07");
        assert!(!evil.contains(['\x1b', '\x07']), "{evil:?}");
        assert!(evil.lines().all(|line| line.starts_with("shop | ")), "{evil}");
        let colored = written(true, || _ = log.record(Level::Error, &RequestId::Nothing, b"no tea"));
        assert!(colored.contains("\x1b[31mERROR\x1b[0m no tea\n"), "{colored:?}");
    }

    #[test]
    fn all_else_is_as_it_was() {
        let text = written(false, || tracing::info!(target: "tidegate", app = "shop", "served"));
        assert!(text.contains(" INFO tidegate: served app=\"shop\"") && text.lines().count() == 1, "{text}");
    }
}
