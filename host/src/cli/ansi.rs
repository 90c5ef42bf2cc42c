//! The colours of a terminal, in text that is to be read elsewhere.
//!
//! What is understood is the part of ECMA-48 that compilers write: `ESC [ ... m`, with the sixteen colours, bold, faint,
//! italic and underlined, and the colours of 256 that are among the sixteen. Every other escape is left out.

use std::fmt::Write as _;

/// Takes escapes out of text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Plain {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After `ESC [`.
    Control,
    /// After `ESC ]`, until BEL or ST: titles and links.
    Command,
    /// After ESC inside of a command.
    CommandEnd,
}

impl State {
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Text | Self::Escape, 0x1b) => Self::Escape,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']') => Self::Command,
            (Self::Control, 0x20..=0x3f) => Self::Control,
            (Self::Control, 0x1b) => Self::Escape,
            (Self::Command, 0x1b) => Self::CommandEnd,
            (Self::Command, 0x07) | (Self::CommandEnd, b'\\') => Self::Text,
            (Self::Command | Self::CommandEnd, _) => Self::Command,
            _ => Self::Text,
        }
    }
}

impl Plain {
    /// What is left of the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut left = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let before = self.state;
            self.state = before.next(*byte);
            if before == State::Text && self.state == State::Text {
                left.push(*byte);
            }
        }
        left
    }
}

/// Text without escapes.
pub(super) fn plain(text: &str) -> String {
    String::from_utf8_lossy(&Plain::default().feed(text.as_bytes())).into_owned()
}

/// How text looks at a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    bold: bool,
    faint: bool,
    italic: bool,
    underlined: bool,
    /// 0 to 15.
    colour: Option<u8>,
}

impl Look {
    /// What the numbers of `ESC [ ... m` make of it.
    fn apply(&mut self, numbers: &str) {
        let mut numbers =
            numbers.split(';').map(|number| if number.is_empty() { Ok(0) } else { number.parse::<u16>() });
        while let Some(number) = numbers.next() {
            match number {
                Ok(0) => *self = Self::default(),
                Ok(1) => self.bold = true,
                Ok(2) => self.faint = true,
                Ok(3) => self.italic = true,
                Ok(4) => self.underlined = true,
                Ok(22) => (self.bold, self.faint) = (false, false),
                Ok(23) => self.italic = false,
                Ok(24) => self.underlined = false,
                Ok(n @ 30..=37) => self.colour = u8::try_from(n - 30).ok(),
                Ok(n @ 90..=97) => self.colour = u8::try_from(n - 82).ok(),
                Ok(39) => self.colour = None,
                Ok(which @ (38 | 48)) => match numbers.next() {
                    Some(Ok(5)) => {
                        let index = numbers.next().and_then(Result::ok).filter(|index| *index < 16);
                        if which == 38 {
                            self.colour = index.and_then(|index| u8::try_from(index).ok());
                        }
                    }
                    _ => return,
                },
                // A background, or what nobody writes.
                _ => {}
            }
        }
    }

    /// Classes of a `span`, empty for plain text.
    fn classes(self) -> String {
        let mut classes = String::new();
        for (on, class) in [(self.bold, "b"), (self.faint, "f"), (self.italic, "i"), (self.underlined, "u")] {
            if on {
                let _ = write!(classes, "{class} ");
            }
        }
        if let Some(colour) = self.colour {
            let _ = write!(classes, "c{colour}");
        }
        classes.trim_end().to_owned()
    }
}

/// Text as HTML: escaped, its colours as `span`s with classes `b`, `f`, `i`, `u` and `c0` to `c15`.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut look = Look::default();
    let mut shown = String::new();
    let mut sequence = String::new();
    let mut state = State::Text;
    for character in text.chars() {
        let before = state;
        state = before.next(u8::try_from(character).unwrap_or(b'?'));
        match (before, state) {
            (State::Text, State::Text) => {
                let wanted = look.classes();
                if wanted != shown {
                    close(&mut out, &shown);
                    if !wanted.is_empty() {
                        let _ = write!(out, "<span class=\"{wanted}\">");
                    }
                    shown = wanted;
                }
                escape(&mut out, character);
            }
            (State::Escape, State::Control) => sequence.clear(),
            (State::Control, State::Control) => sequence.push(character),
            (State::Control, State::Text) if character == 'm' => look.apply(&sequence),
            _ => {}
        }
    }
    close(&mut out, &shown);
    out
}

fn close(out: &mut String, shown: &str) {
    if !shown.is_empty() {
        out.push_str("</span>");
    }
}

fn escape(out: &mut String, character: char) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        '\n' | '\t' => out.push(character),
        // A browser has no use for them, and a carriage return of a progress bar is no line.
        _ if character.is_control() => {}
        _ => out.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_left_out_wherever_the_pieces_end() {
        let text = "\x1b[0m\x1b[1m\x1b[38;5;9merror\x1b[0m: \x1b]8;;http://x\x1b\\no\x1b]0;title\x07!\n";
        assert_eq!(plain(text), "error: no!\n");
        for cut in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let mut stripper = Plain::default();
            let both = [stripper.feed(first), stripper.feed(second)].concat();
            assert_eq!(both, b"error: no!\n", "{cut}");
        }
        assert_eq!(plain("\u{e4}\x1b[31m\u{20ac}"), "\u{e4}\u{20ac}");
    }

    #[test]
    fn colours_become_spans() {
        let table = [
            ("plain", "plain"),
            ("<b onclick='x'>&\"", "&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;"),
            ("\x1b[1m\x1b[31mred\x1b[0m.", "<span class=\"b c1\">red</span>."),
            ("\x1b[1;91mx\x1b[22my\x1b[my", "<span class=\"b c9\">x</span><span class=\"c9\">y</span>y"),
            ("\x1b[38;5;12mx", "<span class=\"c12\">x</span>"),
            ("\x1b[38;5;200mx\x1b[38;2;1;2;3mz", "xz"),
            ("\x1b[48;5;1mx\x1b[2Ky\r\u{8}", "xy"),
            ("\x1b[3;4mx\x1b[23;24my", "<span class=\"i u\">x</span>y"),
        ];
        for (text, expected) in table {
            assert_eq!(html(text), expected, "{text:?}");
        }
    }

    #[test]
    fn whatever_comes_no_markup_gets_through() {
        let evil = "\x1b[<script>m<script>\x1b]<img src=x>\x07\x1b<p>\u{202e}";
        let shown = html(evil);
        assert!(!shown.contains("<script") && !shown.contains("<img") && !shown.contains("<p"), "{shown}");
    }
}
