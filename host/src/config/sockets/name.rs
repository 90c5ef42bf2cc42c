//! Names of hosts, as rules and guests write them.

use super::super::problem::ValueError;

/// What DNS allows, without the dot at the end.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// True for what may be looked up: a name in ASCII, in either case, with or without a dot at its end. Numbers that some
/// take for addresses (`127.1`, `0x7f000001`, `2130706433`) are none.
pub(crate) fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label) && !ends_in_a_number(text)
}

/// Checks a name as a rule has it: in lower case, without the dot.
///
/// # Errors
/// It is none; the help says what to write instead.
pub(super) fn check(text: &str) -> Result<(), ValueError> {
    let error = |what: &str| ValueError::new(format!("`{}` {what}", text.escape_default()));
    if text.is_empty() {
        return Err(ValueError::new("the host is missing"));
    }
    if text.contains('*') {
        return Err(error("has a `*` in the middle of it")
            .help("`*` stands for all hosts, `*.example.com` for all names below `example.com`"));
    }
    if !text.is_ascii() {
        return Err(error("is not ASCII").help("write the name in its `xn--` form, as DNS has it"));
    }
    if let Some(plain) = text.strip_suffix('.') {
        return Err(error("ends in a dot").help(format!("write `{plain}`")));
    }
    if let Some(below) = text.strip_prefix('.') {
        return Err(error("begins with a dot").help(format!("names below `{below}` are `*.{below}`")));
    }
    if ends_in_a_number(text) {
        return Err(error("is not an IPv4 address")
            .help("four decimal numbers up to 255 without leading zeros, as in `10.0.0.5`"));
    }
    let lower = text.to_ascii_lowercase();
    if lower != text && is_name(&lower) {
        return Err(error("has capital letters").help(format!("write `{lower}`")));
    }
    if is_name(text) {
        return Ok(());
    }
    Err(error("is not the name of a host").help(
        "labels of up to 63 letters, digits, `-` and `_`, with dots between them; 253 characters in all",
    ))
}

fn is_label(label: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label.bytes().all(fits)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// True for what parsers of addresses in other places take for IPv4: the last label is a number, be it octal or hex.
fn ends_in_a_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = [&*"a".repeat(63); 4].join(".");
        for good in [
            "a",
            "db.example",
            "DB.Example.",
            "xn--bcher-kva.example",
            "_srv.a",
            "1.example",
            "0x7g",
            &long[2..],
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a..",
            "-a",
            "a-",
            "a b",
            "a:1",
            "a/b",
            "a\0",
            "\u{e4}.example",
            "*.a",
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7F.1",
            "1.0x",
            &"a".repeat(64),
            &long,
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
