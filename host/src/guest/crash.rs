//! What the author of a guest is told of a call that failed: what it panicked with, and where.
//!
//! For `dev` only: a server in production gathers none of this, so that none of it can reach a client. Everything here
//! is the guest's own word; whoever shows it escapes it.

use std::fmt::Write;
use std::path::Path;

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::describe::Bounded;

/// Frames that are told.
const FRAMES_MAX: usize = 30;
/// Bytes of a name, of a file's name, and of a message.
const NAME_BYTES_MAX: usize = 300;
const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a name before it is cut: a short one can stand for a very long one.
const DEMANGLED_BYTES_MAX: usize = 4096;
/// Bytes of standard error that are remembered.
const STDERR_BYTES_MAX: usize = 2048;

/// How the SDK begins the record of a panic, and the standard library a line on standard error.
const PANICKED: &str = "panicked at ";

/// What a call has said that may explain its end.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    /// The record of a panic, which is not logged by itself: it stands above the backtrace.
    panic: Option<String>,
    /// The end of what it wrote to standard error.
    stderr: Vec<u8>,
}

impl LastWords {
    /// A record of the level for errors. True: it tells of a panic and is kept.
    pub(crate) fn hear(&mut self, text: &[u8]) -> bool {
        let told = self.panic.is_none() && text.starts_with(PANICKED.as_bytes());
        if told {
            self.panic = Some(cut(&String::from_utf8_lossy(text), MESSAGE_BYTES_MAX));
        }
        told
    }

    /// Bytes on standard error.
    pub(crate) fn overhear(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(&bytes[bytes.len().saturating_sub(STDERR_BYTES_MAX)..]);
        let over = self.stderr.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr.drain(..over);
    }

    /// The panic that was kept and that nobody has taken: the call went on all the same.
    pub(crate) fn forget(&mut self) -> Option<String> {
        self.stderr.clear();
        self.panic.take()
    }

    /// What it panicked with; else the last it wrote to standard error, where a failed assertion of C stands.
    fn take(&mut self) -> Option<String> {
        let stderr = std::mem::take(&mut self.stderr);
        let panic = self.panic.take();
        panic.or_else(|| said(&String::from_utf8_lossy(&stderr)))
    }
}

/// The panic in the text of a standard error, else its last line.
fn said(stderr: &str) -> Option<String> {
    let stderr = stderr.split("note: run with `RUST_BACKTRACE=").next()?.trim();
    let from = stderr.rfind(PANICKED).or_else(|| stderr.rfind('\n').map(|at| at + 1)).unwrap_or(0);
    let text = stderr.get(from..)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A function that was being called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) function: String,
    /// File and line, where debug information tells them.
    pub(crate) place: Option<String>,
}

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    /// What ended it: the trap, or which limit.
    pub(crate) reason: String,
    /// What the guest said of it: of a panic, with file and line.
    pub(crate) panic: Option<String>,
    /// Its own functions, the innermost first.
    pub(crate) frames: Vec<Frame>,
}

impl Crash {
    pub(crate) fn new(error: &wasmtime::Error, words: &mut LastWords) -> Self {
        let reason = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
        let panic = words.take().map(|text| one_place(&text));
        Self { reason: cut(&reason, MESSAGE_BYTES_MAX), panic, frames: readable(backtrace) }
    }

    /// All of it, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = self.panic.clone().unwrap_or_else(|| self.reason.clone());
        for Frame { function, place } in &self.frames {
            let _ = write!(text, "\n    at {function}");
            if let Some(place) = place {
                let _ = write!(text, " ({place})");
            }
        }
        text
    }
}

/// The standard library has a line break between place and message, the SDK a space.
fn one_place(text: &str) -> String {
    text.replacen(":\n", ": ", 1)
}

/// The frames that are the guest's own; all of them, if none is.
fn readable(backtrace: &[FrameInfo]) -> Vec<Frame> {
    let here = std::env::current_dir().unwrap_or_default();
    let all: Vec<_> = backtrace.iter().flat_map(|frame| expand(frame, &here)).collect();
    let own: Vec<_> = all.iter().filter(|frame| !is_machinery(frame)).cloned().collect();
    let mut frames = if own.is_empty() { all } else { own };
    frames.dedup();
    frames.truncate(FRAMES_MAX);
    frames
}

/// A function and those that were inlined into it, the innermost first.
fn expand(frame: &FrameInfo, here: &Path) -> Vec<Frame> {
    let whole = frame.func_name().map(|name| readable_name(name, NAME_BYTES_MAX));
    let symbols = frame.symbols();
    if symbols.is_empty() {
        let function = whole.unwrap_or_else(|| format!("function {}", frame.func_index()));
        return vec![Frame { function, place: None }];
    }
    let last = symbols.len() - 1;
    let each = symbols.iter().enumerate().map(|(number, symbol)| {
        let named = symbol.name().map(|name| readable_name(name, NAME_BYTES_MAX));
        // The name section knows the whole path of the outermost, which debug information may have cut short.
        let function = if number == last { whole.clone().or(named) } else { named };
        let place = symbol.file().map(|file| {
            let file = Path::new(file).strip_prefix(here).unwrap_or(Path::new(file)).display().to_string();
            cut(&symbol.line().map_or(file.clone(), |line| format!("{file}:{line}")), NAME_BYTES_MAX)
        });
        Frame { function: function.unwrap_or_else(|| "an inlined function".to_owned()), place }
    });
    each.collect()
}

/// A name as it stands in the source, without the hash behind it, and no more than so many bytes of it.
pub(super) fn readable_name(name: &str, bytes_max: usize) -> String {
    let mut whole = Bounded::new(DEMANGLED_BYTES_MAX);
    // It fails where that is full, and nobody reads on that far.
    let _ = write!(whole, "{:#}", rustc_demangle::demangle(name));
    let name = whole.text;
    let is_hash = |tail: &str| tail.len() == 16 && tail.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bare = name.rsplit_once("::h").filter(|(_, tail)| is_hash(tail)).map_or(&*name, |(bare, _)| bare);
    cut(bare, bytes_max)
}

/// True for what nobody looks for in a backtrace: the standard library, and how the SDK gets to the handler.
fn is_machinery(frame: &Frame) -> bool {
    /// Folders of sources that are not the guest's own.
    const FOREIGN: [&str; 5] =
        ["/rustc/", "/library/std/", "/library/core/", "/library/alloc/", "/rustlib/src/rust/"];
    const SDK: [&str; 2] = ["guest-sdk/", "tidegate-sdk/"];
    let by_place = frame.place.as_deref().is_some_and(|place| {
        FOREIGN.iter().any(|folder| place.contains(folder))
            || SDK.iter().any(|folder| place.contains(folder) && place.contains("/src/"))
    });
    by_place || is_machinery_name(&frame.function)
}

/// The same by a function's name alone.
pub(super) fn is_machinery_name(function: &str) -> bool {
    const NAMES: [&str; 11] = [
        "std::",
        "core::",
        "alloc::",
        "tidegate_sdk::",
        "__rust",
        "rust_",
        "panic_abort",
        "__wasm",
        "__wasi",
        "tidegate_handle",
        "abort",
    ];
    let name = function.trim_start_matches(['<', '&']).trim_start_matches("dyn ");
    NAMES.iter().any(|start| name.starts_with(start))
}

/// The beginning of a text.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(bytes_max)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (raw, name) in [
            ("_ZN4shop5items4show17h0123456789abcdefE", "shop::items::show"),
            ("shop::items::show::h0123456789abcdef", "shop::items::show"),
            ("shop::items::show::house", "shop::items::show::house"),
            ("main", "main"),
        ] {
            assert_eq!(readable_name(raw, NAME_BYTES_MAX), name);
        }
        assert!(readable_name(&"n".repeat(90_000), NAME_BYTES_MAX).len() < 2 * NAME_BYTES_MAX);
    }

    #[test]
    fn machinery_is_told_from_the_guests_own_functions() {
        let frame = |function: &str, place: Option<&str>| Frame {
            function: function.to_owned(),
            place: place.map(str::to_owned),
        };
        for (function, place) in [
            ("core::panicking::panic_fmt", None),
            ("<alloc::vec::Vec<T> as core::ops::Index<I>>::index", None),
            ("tidegate_sdk::handler::run", Some("/p/vendor/tidegate-sdk/src/handler.rs:50")),
            ("<F as some::Trait>::call", Some("/p/guest-sdk/src/handler.rs:9")),
            ("rust_begin_unwind", None),
            ("an inlined function", Some("/rustc/5980/library/core/src/option.rs:9")),
            ("tidegate_handle", Some("src/lib.rs:9")),
            ("std::process::abort", None),
        ] {
            assert!(is_machinery(&frame(function, place)), "{function}");
        }
        for (function, place) in [
            ("shop::show", Some("src/lib.rs:9")),
            ("<shop::Item as core::fmt::Display>::fmt", Some("src/lib.rs:9")),
            ("shop::main::{{closure}}", None),
            ("helper", Some("handler.c:3")),
        ] {
            assert!(!is_machinery(&frame(function, place)), "{function}");
        }
    }

    #[test]
    fn a_panic_is_found_in_what_was_said() {
        let mut words = LastWords::default();
        assert!(!words.hear(b"out of stock") && words.hear(b"panicked at src/lib.rs:1:2: no such item"));
        assert!(!words.hear(b"panicked at another place"), "the first one is the cause");
        assert_eq!(words.take().unwrap(), "panicked at src/lib.rs:1:2: no such item");
        assert_eq!(words.take(), None);

        let mut words = LastWords::default();
        words.overhear(&[b'x'; 3 * STDERR_BYTES_MAX]);
        words.overhear(
            b"\nthread 'main' panicked at src/main.rs:3:4:\nboom\nnote: run with `RUST_BACKTRACE=1` to",
        );
        assert_eq!(words.stderr.len(), STDERR_BYTES_MAX);
        assert_eq!(one_place(&words.take().unwrap()), "panicked at src/main.rs:3:4: boom");

        let mut words = LastWords::default();
        words.overhear(b"starting\nAssertion failed: n > 0 (h.c: f: 7)\n");
        assert_eq!(words.take().unwrap(), "Assertion failed: n > 0 (h.c: f: 7)");
        words.overhear(b"\n");
        assert_eq!(words.take(), None);
    }

    #[test]
    fn a_text_has_a_line_for_each_frame() {
        let frame = Frame { function: "a::b".to_owned(), place: Some("src/lib.rs:7".to_owned()) };
        let other = Frame { function: "a::c".to_owned(), place: None };
        let mut crash = Crash {
            reason: "wasm trap".to_owned(),
            panic: Some("panicked at x".to_owned()),
            frames: vec![frame, other],
        };
        assert_eq!(crash.text(), "panicked at x\n    at a::b (src/lib.rs:7)\n    at a::c");
        crash.panic = None;
        assert!(crash.text().starts_with("wasm trap\n"));
    }
}
