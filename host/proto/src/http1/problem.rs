//! Problem documents: what a client sees when the server itself answers (RFC 9457).
//!
//! The `type` and the `Tidegate-Error` header are stable names that programs may rely on; the rest is for people.
//! Must never carry what a guest or a peer said, a path or a backtrace: callers pass fixed sentences, and the
//! request id joins the answer to the log.

use super::encode::{
    ResponseContext, hex_digit, push_connection, push_content_length, push_decimal, push_line,
    push_status_line,
};

/// Appends a whole response with a problem document to `out`; on HEAD without its body. `code` is the stable name
/// of the error, `instance_id` the request's id, `date` an IMF-fixdate, `retry_after_s` seconds.
///
/// An id or code that could not stand in a header (anything but visible ASCII) is left out of the header; in the
/// document both are escaped.
// The ten are the parts of the answer, given once at each of a handful of sites.
#[allow(clippy::too_many_arguments)]
pub fn encode_problem(
    status: u16,
    code: &str,
    title: &str,
    detail: &str,
    instance_id: &str,
    cx: &ResponseContext,
    close: bool,
    date: &[u8],
    retry_after_s: Option<u32>,
    out: &mut Vec<u8>,
) {
    // The document is written first and then brought behind its head, whose length field needs its size: no
    // second buffer for it, as errors come in floods.
    let start = out.len();
    push_document(status, code, title, detail, instance_id, out);
    let body_len = out.len().saturating_sub(start);
    push_status_line(status, out);
    out.extend_from_slice(b"content-type: application/problem+json\r\n");
    push_content_length(body_len as u64, out);
    push_checked(b"tidegate-error", code, out);
    push_checked(b"x-request-id", instance_id, out);
    if let Some(seconds) = retry_after_s {
        out.extend_from_slice(b"retry-after: ");
        push_decimal(u64::from(seconds), out);
        out.extend_from_slice(b"\r\n");
    }
    push_line(b"date", date, out);
    push_connection(cx, close, out);
    out.extend_from_slice(b"\r\n");
    if let Some(written) = out.get_mut(start..) {
        // `body_len` bytes of `written` are the document.
        written.rotate_left(body_len.min(written.len()));
    }
    if cx.head_request {
        out.truncate(out.len().saturating_sub(body_len));
    }
}

fn push_checked(name: &[u8], value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        push_line(name, value.as_bytes(), out);
    }
}

fn push_document(status: u16, code: &str, title: &str, detail: &str, instance_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"urn:tidegate:error:");
    push_escaped(code, out);
    out.extend_from_slice(b"\",\"title\":\"");
    push_escaped(title, out);
    out.extend_from_slice(b"\",\"status\":");
    push_decimal(u64::from(status), out);
    out.extend_from_slice(b",\"detail\":\"");
    push_escaped(detail, out);
    out.extend_from_slice(b"\",\"instance\":\"urn:tidegate:request:");
    push_escaped(instance_id, out);
    out.extend_from_slice(b"\"}\n");
}

/// The inside of a JSON string (RFC 8259 7).
fn push_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[
                    hex_digit(usize::from(byte >> 4)),
                    hex_digit(usize::from(byte & 0xf)),
                ]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::Version;

    const DATE: &[u8; 29] = b"Fri, 20 Nov 2026 09:00:00 GMT";

    fn problem(head_request: bool, version: Version, id: &str, detail: &str) -> String {
        let cx = ResponseContext { head_request, version, keep_alive: true };
        let mut out = b"before".to_vec();
        encode_problem(503, "overloaded", "Overloaded", detail, id, &cx, false, DATE, Some(2), &mut out);
        String::from_utf8(out).expect("UTF-8 in, UTF-8 out")
    }

    const BODY: &str = "{\"type\":\"urn:tidegate:error:overloaded\",\"title\":\"Overloaded\",\"status\":503,\
                        \"detail\":\"the queue is full\",\"instance\":\"urn:tidegate:request:r1\"}\n";

    #[test]
    fn head_then_document() {
        let head = format!(
            "beforeHTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\ntidegate-error: overloaded\r\nx-request-id: r1\r\nretry-after: 2\r\n\
             date: Fri, 20 Nov 2026 09:00:00 GMT\r\n",
            BODY.len()
        );
        let detail = "the queue is full";
        assert_eq!(problem(false, Version::Http11, "r1", detail), format!("{head}\r\n{BODY}"));
        assert_eq!(
            problem(true, Version::Http11, "r1", detail),
            format!("{head}\r\n"),
            "HEAD keeps the length"
        );
        assert_eq!(
            problem(false, Version::Http10, "r1", detail),
            format!("{head}connection: keep-alive\r\n\r\n{BODY}")
        );
    }

    #[test]
    fn nothing_breaks_out_of_the_document_or_the_head() {
        let text = problem(false, Version::Http11, "a\r\nx: y", "q\"b\\n\n\r\t\u{1}\u{7f}é");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(!head.contains("x-request-id") && !head.contains("x: y"), "{head}");
        assert!(body.contains(r#""detail":"q\"b\\n\n\r\t\u0001\u007fé""#), "{body}");
        assert!(body.contains(r#""instance":"urn:tidegate:request:a\r\nx: y"}"#), "{body}");
    }
}
