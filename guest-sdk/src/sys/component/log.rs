//! Log records, as lines on stderr.

use std::io::Write as _;

use tidegate_abi::level;
use wasip2::random::random::get_random_u64;

use super::CALL;

/// What every line of a record but its first begins with: none of them can be taken for another record.
const INDENT: &[u8] = b"    ";

/// One record under the request's id.
pub(crate) fn log(level: u32, text: &[u8]) -> i32 {
    let name = match level {
        level::ERROR => "error",
        level::WARN => "warn",
        level::INFO => "info",
        level::DEBUG => "debug",
        _ => "trace",
    };
    // A panic may come while a call of the SDK has the state: its message matters more than the id.
    let id = CALL.with(|call| {
        let mut call = call.try_borrow_mut().ok()?;
        call.as_mut().map(|call| format!(" {:016x}", *call.id.get_or_insert_with(get_random_u64)))
    });
    let mut record = format!("{name}{}: ", id.unwrap_or_default()).into_bytes();
    for byte in text {
        record.push(*byte);
        if matches!(byte, b'\n' | b'\r') {
            record.extend_from_slice(INDENT);
        }
    }
    record.push(b'\n');
    // In one piece: stderr is not buffered. There is nobody to tell about a log that fails.
    let _ = std::io::stderr().write_all(&record);
    0
}
