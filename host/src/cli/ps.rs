//! `tidegate ps`: what the apps are doing now, once or over and over; and ending one of it.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::termios::tcgetwinsize;
use serde_json::json;

use super::Failure;
use super::args::{PsArgs, PsVerb};
use super::client::{Client, part, show};
use crate::hosting::types::{AppView, RequestView};

/// Of a terminal that does not say.
const USUAL_SIZE: (usize, usize) = (80, 24);

pub(super) fn run(args: &PsArgs) -> Result<(), Failure> {
    if let Some(PsVerb::Cancel { id, at }) = &args.verb {
        return cancel(&Client::new(at)?, id);
    }
    let client = Client::new(&args.at)?;
    if let Some(app) = &args.app {
        // One whose name is mistyped would have nothing to do for ever.
        client.get::<AppView>(&format!("/v1/apps/{}", part(app)?))?;
    }
    if let Some(every) = args.watch {
        return watch(&client, args.app.as_deref(), every);
    }
    let requests = look(&client, args.app.as_deref())?;
    if client.json { show::json(&requests) } else { show::print(&table(&requests)) }
}

/// What there is now: as the server lists it for programs, the oldest first for people.
fn look(client: &Client, app: Option<&str>) -> Result<Vec<RequestView>, Failure> {
    let mut requests: Vec<RequestView> = client.get("/v1/requests")?;
    requests.retain(|request| app.is_none_or(|app| request.app == app));
    if !client.json {
        requests.sort_by_key(|request| std::cmp::Reverse(request.age_ms));
    }
    Ok(requests)
}

fn table(requests: &[RequestView]) -> String {
    let row = |request: &RequestView| {
        [
            request.id.clone(),
            request.app.clone(),
            request.version.to_string(),
            request.worker.to_string(),
            request.kind.clone(),
            show::span(request.age_ms.saturating_mul(1000)),
            show::span(request.cpu_us),
            request.waits_for.clone(),
            request.request.clone(),
        ]
    };
    let heads = ["ID", "APP", "VERSION", "WORKER", "KIND", "AGE", "CPU", "WAITS FOR", "REQUEST"];
    show::aligned(heads, requests.iter().map(row).collect())
}

/// Looks again and again: at a terminal in place of the look before, elsewhere a block or, as JSON, a line each. It ends
/// when somebody ends it, when nobody reads it any more, or when the server does not answer.
fn watch(client: &Client, app: Option<&str>, every: Duration) -> Result<(), Failure> {
    let terminal = io::stdout().is_terminal();
    loop {
        let requests = look(client, app)?;
        let text = if client.json {
            serde_json::to_string(&requests).context("JSON")? + "\n"
        } else if terminal {
            screen(&block(now_ms(), &requests), size())
        } else {
            block(now_ms(), &requests) + "\n"
        };
        show::print(&text)?;
        thread::sleep(every);
    }
}

fn block(now_ms: u64, requests: &[RequestView]) -> String {
    format!("{}, {} live\n{}", show::time(now_ms), requests.len(), table(requests))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    tcgetwinsize(io::stdout())
        .ok()
        .map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)))
        .filter(|(columns, rows)| *columns > 0 && *rows > 0)
        .unwrap_or(USUAL_SIZE)
}

/// A block from the top of the screen on, in place of what was there, and cut to what there is room for. The cursor is
/// left below it, where a shell may go on.
fn screen(block: &str, (columns, rows): (usize, usize)) -> String {
    let lines: Vec<&str> = block.lines().collect();
    let shown = if lines.len() < rows { lines.len() } else { rows.saturating_sub(2) };
    let mut text = String::from("\x1b[H\x1b[2J");
    for line in lines.iter().take(shown) {
        text.extend(line.chars().take(columns));
        text.push('\n');
    }
    if shown < lines.len() {
        text.push_str(&format!("and {} more\n", lines.len() - shown));
    }
    text
}

fn cancel(client: &Client, id: &str) -> Result<(), Failure> {
    client.command("DELETE", &format!("/v1/requests/{}", part(id)?))?;
    if client.json {
        show::json(&json!({ "cancelled": id }))
    } else {
        show::print(&format!("{id}: cancelled\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_has_room_for_what_it_shows() {
        let block = "at noon, 3 live\nID  APP\n1   shop\n2   shop\n3   shop\n";
        assert_eq!(screen(block, (80, 24)), format!("\x1b[H\x1b[2J{block}"));
        assert_eq!(screen(block, (80, 6)), format!("\x1b[H\x1b[2J{block}"), "and a row for the cursor");
        let cut = screen(block, (7, 5));
        assert_eq!(cut, "\x1b[H\x1b[2Jat noon\nID  APP\n1   sho\nand 2 more\n");
        assert!(cut.lines().count() < 5);
        assert_eq!(screen(block, (1, 1)), "\x1b[H\x1b[2Jand 5 more\n");
    }
}
