//! Traps. The client of `/` gets a 500; that of `/late`, where head and first bytes have left, sees its response cut off
//! and never a clean end. `/panic` panics: only the log hears why, and in `tidegate dev` whoever asked.

use std::io::Write;
use std::process::abort;
use std::time::Duration;
use tidegate_sdk::{Request, Response, ResponseWriter, Result, handler, sleep};

#[handler]
fn trap(request: Request, response: ResponseWriter) -> Result<()> {
    if request.path().ends_with("/panic") {
        find("</pre>&tea");
    }
    // Every abort, and so every panic, ends in the `unreachable` instruction.
    if !request.path().ends_with("/late") {
        abort();
    }
    let mut body = response.start(Response::text(""))?;
    body.write_all(b"so far so good\n")?;
    // What was written leaves whenever a handler waits.
    sleep(Duration::from_millis(1));
    abort()
}

#[inline(never)]
fn find(name: &str) -> usize {
    let stock = ["coffee", "milk"];
    stock.iter().position(|item| *item == name).unwrap_or_else(|| panic!("no {name} in stock"))
}
