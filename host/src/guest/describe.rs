//! What the log says of a call that failed: the trap, and where in the guest it was.

use std::fmt::Write;

use wasmtime::{Trap, WasmBacktrace};

/// Frames of a trap's backtrace that are logged, bytes of a function's name in it, and bytes of it all. Names are the
/// guest's own, and may be of any length.
const FRAMES_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 100;
const DESCRIPTION_BYTES_MAX: usize = 2048;

/// What a failure was and where in the guest it happened. (An error's own `Debug` would resolve the host's symbols,
/// which takes the loop a tenth of a second.)
pub(super) fn describe(error: &wasmtime::Error) -> String {
    let mut text = Bounded::default();
    // Writing fails where the text is full, and then there is nothing more to say.
    let _ = match error.downcast_ref::<Trap>() {
        Some(trap) => write!(text, "{trap}"),
        None => write!(text, "{}", error.root_cause()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames().iter().take(FRAMES_MAX) {
            let index = frame.func_index();
            let _ = match frame.func_name() {
                Some(name) if name.len() > NAME_BYTES_MAX => {
                    write!(text, "\n  at {}...", &name[..name.floor_char_boundary(NAME_BYTES_MAX)])
                }
                Some(name) => write!(text, "\n  at {name}"),
                None => write!(text, "\n  at function {index}"),
            };
        }
    }
    text.0
}

/// A text that takes no more than [`DESCRIPTION_BYTES_MAX`].
#[derive(Debug, Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = DESCRIPTION_BYTES_MAX - self.0.len();
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(std::fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    /// What is said of a trap below 30 functions with names of their own.
    fn described(name: impl Fn(usize) -> String) -> String {
        let calls = (1..30).map(|n| format!("(func ${0}_{n} (call ${1}_{2}))", name(n), name(n - 1), n - 1));
        let calls: String = calls.collect();
        let (first, last) = (name(0), name(29));
        let text =
            format!("(module (func ${first}_0 unreachable) {calls} (export \"run\" (func ${last}_29)))");
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        describe(&run.call(&mut store, ()).unwrap_err())
    }

    #[test]
    fn a_trap_says_where_it_was() {
        let text = described(|_| "step".to_owned());
        assert!(text.contains("unreachable") && text.contains("\n  at step_0\n  at step_1\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + FRAMES_MAX);
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
