//! What the log says of a call that failed: the trap, and where in the guest it was.

use std::fmt::Write;

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::crash::{is_machinery_name, readable_name};

/// Frames of a trap's backtrace that are logged, bytes of a function's name in it, and bytes of it all. Names are the
/// guest's own, and may be of any length; they are told as they stand in the source.
const FRAMES_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 100;
const DESCRIPTION_BYTES_MAX: usize = 2048;

/// What a failure was and where in the guest it happened. (An error's own `Debug` would resolve the host's symbols,
/// which takes the loop a tenth of a second.)
pub(super) fn describe(error: &wasmtime::Error) -> String {
    let mut text = Bounded::new(DESCRIPTION_BYTES_MAX);
    // Writing fails where the text is full, and then there is nothing more to say.
    let _ = match error.downcast_ref::<Trap>() {
        Some(trap) => write!(text, "{trap}"),
        None => write!(text, "{}", error.root_cause()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let all: Vec<_> = backtrace.frames().iter().take(FRAMES_MAX).map(function).collect();
        // The guest's own; all of them, if none is.
        let own: Vec<_> = all.iter().filter(|name| !is_machinery_name(name)).collect();
        let shown = if own.is_empty() { all.iter().collect() } else { own };
        for name in shown {
            let _ = write!(text, "\n  at {name}");
        }
    }
    text.text
}

fn function(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => readable_name(name, NAME_BYTES_MAX),
        None => format!("function {}", frame.func_index()),
    }
}

/// A text that takes no more than so many bytes; writing more fails.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) text: String,
    bytes_max: usize,
}

impl Bounded {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max }
    }
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = self.bytes_max - self.text.len();
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(std::fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    /// What is said of a trap below 30 functions with names of their own.
    fn described(name: impl Fn(usize) -> String) -> String {
        let calls = (1..30).map(|n| format!("(func $f{n} (@name {:?}) (call $f{}))", name(n), n - 1));
        let calls: String = calls.collect();
        let first = name(0);
        let text =
            format!("(module (func $f0 (@name {first:?}) unreachable) {calls} (export \"run\" (func $f29)))");
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        describe(&run.call(&mut store, ()).unwrap_err())
    }

    #[test]
    fn a_trap_says_where_it_was() {
        let text = described(|n| format!("step_{n}"));
        assert!(text.contains("unreachable") && text.contains("\n  at step_0\n  at step_1\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + FRAMES_MAX);
    }

    #[test]
    fn names_are_those_of_the_source_and_machinery_is_left_out() {
        let text = described(|n| match n % 2 {
            0 => "_ZN4core9panicking9panic_fmt17h0123456789abcdefE".to_owned(),
            _ => "_ZN4shop4show17h0123456789abcdefE".to_owned(),
        });
        assert!(text.contains("\n  at shop::show\n  at shop::show"), "{text}");
        assert!(!text.contains("_ZN") && !text.contains("panicking"), "{text}");
        let text = described(|_| "_ZN3std5alloc4oops17h0123456789abcdefE".to_owned());
        assert!(text.contains("\n  at std::alloc::oops"), "with nothing of its own, all of it: {text}");
    }

    #[test]
    fn names_of_any_length_make_a_short_text() {
        let text = described(|_| "n".repeat(90_000));
        assert!(text.contains("unreachable") && text.contains("\n  at nnn"), "{text}");
        assert!(text.len() <= DESCRIPTION_BYTES_MAX, "{} bytes", text.len());
        assert!(text.lines().skip(1).all(|line| line.len() < NAME_BYTES_MAX + 10), "{text}");
        let error = wasmtime::Error::msg("\u{e4}".repeat(1 << 20));
        let text = describe(&error);
        assert!(
            text.len() <= DESCRIPTION_BYTES_MAX && text.len() > DESCRIPTION_BYTES_MAX - 2,
            "{}",
            text.len()
        );
    }
}
