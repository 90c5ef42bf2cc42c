//! What `dev` shows to clients while there is no app to ask: what the compiler said, as a page and as plain text.

use crate::server::Notice;

use super::super::{Failure, ansi};

/// What is shown of what the tools said, in characters.
const SHOWN_MAX: usize = 128 * 1024;

/// Lines that begin so say what cargo does, and not what is wrong.
const PROGRESS: [&str; 11] = [
    "Compiling ",
    "Checking ",
    "Downloading ",
    "Downloaded ",
    "Updating ",
    "Locking ",
    "Adding ",
    "Blocking ",
    "Finished ",
    "Fresh ",
    "Dirty ",
];

/// Before the first build has come to its end.
pub(super) fn building(name: &str) -> Notice {
    let title = format!("{name} is being built");
    notice(503, &title, "Built for the first time, it is served right after.", "")
}

/// When there is nothing that could be served. `said` may have colours.
pub(super) fn broken(name: &str, failure: &Failure, said: &str) -> Notice {
    let title = format!("{name} does not build");
    let told = failure.to_string();
    let said = matter(said);
    notice(500, &title, &told, &said)
}

fn notice(status: u16, title: &str, told: &str, said: &str) -> Notice {
    let plain = ansi::plain(said);
    let place = place(&plain).unwrap_or_default();
    let text = [title, &place, plain.trim_end(), told];
    let text: Vec<&str> = text.into_iter().filter(|part| !part.is_empty()).collect();
    let text = text.join("\n\n") + "\n";
    // A page that shows something else is another page: it reloads then.
    let mark = blake3::hash(text.as_bytes()).to_hex();
    let html = PAGE
        .replace("{{mark}}", mark.get(..16).unwrap_or_default())
        .replace("{{title}}", &ansi::html(title))
        .replace("{{place}}", &ansi::html(&place))
        .replace("{{told}}", &ansi::html(told))
        // Last, as it may have anything in it.
        .replace("{{said}}", &ansi::html(said));
    Notice { status, code: "dev-build", html, text }
}

/// What the tools said, without what cargo says of its progress, and not without end.
fn matter(said: &str) -> String {
    let is_progress = |line: &&str| {
        let plain = ansi::plain(line);
        PROGRESS.iter().any(|word| plain.trim_start().starts_with(word))
    };
    let mut kept = String::new();
    for line in said.lines().filter(|line| !is_progress(line)) {
        if kept.len() + line.len() > SHOWN_MAX {
            kept.push_str("\u{1b}[0m[more than this page shows: the terminal has all of it]\n");
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Where the first error is: `src/lib.rs:7:5`, as rustc points there, or `handler.c:7:5`, as clang does.
fn place(plain: &str) -> Option<String> {
    let mut after_error = false;
    for line in plain.lines() {
        after_error |= line.starts_with("error");
        if let Some(place) = line.trim_start().strip_prefix("--> ").filter(|_| after_error) {
            return Some(place.trim().to_owned());
        }
        if let Some((place, _)) = line.split_once(": error:").or_else(|| line.split_once(": fatal error:")) {
            return Some(place.trim().to_owned());
        }
    }
    None
}

/// The page. It asks for itself every second and comes again when it would be another: fixed, or broken elsewhere.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="dark light">
<meta name="tidegate-mark" content="{{mark}}">
<title>{{title}}</title>
<noscript><meta http-equiv="refresh" content="2"></noscript>
<style>
  :root { --back: #fbfbf9; --text: #24272b; --faint: #6b7076; --line: #d9d9d4;
    --red: #b3261e; --green: #1f7a35; --yellow: #8a6100; --blue: #1f5fbf; --magenta: #8c3a9b; --cyan: #0b7a80; }
  @media (prefers-color-scheme: dark) { :root { --back: #16181b; --text: #dfe1e4; --faint: #8d939a; --line: #33373c;
    --red: #ff7b72; --green: #6cc983; --yellow: #e0b252; --blue: #79b0ff; --magenta: #d69be0; --cyan: #62c8cf; } }
  body { margin: 0; padding: 2.5rem clamp(1rem, 5vw, 4rem); background: var(--back); color: var(--text);
    font: 15px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
  h1 { margin: 0; font-size: 1.25rem; }
  h2 { margin: .4rem 0 0; font-size: 1rem; color: var(--red); overflow-wrap: anywhere; }
  pre { margin: 1.5rem 0; padding: 1.25rem 0; border: solid var(--line); border-width: 1px 0; overflow-x: auto;
    font: inherit; }
  pre:empty, h2:empty { display: none; }
  p { margin: 1rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
  footer { margin-top: 1rem; color: var(--faint); }
  .b { font-weight: 700; } .f { opacity: .7; } .i { font-style: italic; } .u { text-decoration: underline; }
  .c0, .c8 { color: var(--faint); } .c1, .c9 { color: var(--red); } .c2, .c10 { color: var(--green); }
  .c3, .c11 { color: var(--yellow); } .c4, .c12 { color: var(--blue); } .c5, .c13 { color: var(--magenta); }
  .c6, .c14 { color: var(--cyan); }
</style>
<h1>{{title}}</h1>
<h2>{{place}}</h2>
<pre>{{said}}</pre>
<p>{{told}}</p>
<footer>tidegate dev; this page comes again by itself.</footer>
<script>
  const mark = document.querySelector('meta[name=tidegate-mark]').content;
  // Not by its path alone, which may begin with two slashes and would name another host.
  const page = location.origin + location.pathname + location.search;
  const ask = (method) => fetch(page, { method, cache: 'no-store', headers: { accept: 'text/html' } });
  const look = async () => {
    try {
      // HEAD first: when the app is back, nothing of it is run but what every client may ask for.
      const there = (await ask('HEAD')).headers.has('tidegate-error');
      if (!there || !(await (await ask('GET')).text()).includes(mark)) return location.replace(page);
    } catch { /* Not there at the moment. */ }
    setTimeout(look, 1000);
  };
  setTimeout(look, 1000);
</script>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m shop v0.1.0\n\
        \u{1b}[1m\u{1b}[33mwarning\u{1b}[0m: unused\n  \u{1b}[94m--> \u{1b}[0msrc/other.rs:1:1\n\
        \u{1b}[1m\u{1b}[91merror[E0308]\u{1b}[0m\u{1b}[1m: mismatched <types>\u{1b}[0m\n \
        \u{1b}[1m\u{1b}[94m--> \u{1b}[0msrc/lib.rs:7:5\n";

    fn failure() -> Failure {
        anyhow::anyhow!("the crate does not build").into()
    }

    #[test]
    fn a_type_error_shows_where_it_is() {
        let notice = broken("shop", &failure(), SAID);
        assert_eq!(notice.status, 500);
        let expected = "shop does not build\n\nsrc/lib.rs:7:5\n\nwarning: unused\n  --> src/other.rs:1:1\n\
                        error[E0308]: mismatched <types>\n --> src/lib.rs:7:5\n\nerror: the crate does not build\n";
        assert_eq!(notice.text, expected);
        for part in [
            "<title>shop does not build</title>",
            "<h2>src/lib.rs:7:5</h2>",
            "<span class=\"b c9\">error[E0308]</span><span class=\"b\">: mismatched &lt;types&gt;</span>",
            "prefers-color-scheme: dark",
            "error: the crate does not build",
        ] {
            assert!(notice.html.contains(part), "{part} is not in {}", notice.html);
        }
        assert!(!notice.html.contains("Compiling") && !notice.html.contains('\u{1b}'));
    }

    #[test]
    fn another_error_is_another_page() {
        let mark = |said: &str| {
            let html = broken("shop", &failure(), said).html;
            let (_, after) = html.split_once("tidegate-mark\" content=\"").unwrap();
            after[..16].to_owned()
        };
        assert_eq!(mark(SAID), mark(SAID));
        assert_ne!(mark(SAID), mark("other"));
    }

    #[test]
    fn nothing_that_is_said_becomes_markup() {
        let evil = "error: </pre><script>alert(1)</script> {{told}} {{mark}}\n";
        let html = broken("<b>", &failure(), evil).html;
        assert!(!html.contains("<script>alert") && !html.contains("<b>"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; {{told}} {{mark}}"), "{html}");
    }

    #[test]
    fn places() {
        let table = [
            ("handler.c:7:5: error: expected ';'", Some("handler.c:7:5")),
            ("handler.c:1:10: fatal error: 'x.h' file not found", Some("handler.c:1:10")),
            ("warning: x\n --> src/lib.rs:1:1\n", None),
            ("make: *** [Makefile:3] Error 1", None),
        ];
        for (said, expected) in table {
            assert_eq!(place(said).as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        let notice = broken("shop", &failure(), &"x".repeat(79).add_lines(4000));
        assert!(notice.text.len() < SHOWN_MAX + 1000 && notice.text.contains("the terminal has all of it"));
    }

    trait AddLines {
        fn add_lines(&self, count: usize) -> String;
    }

    impl AddLines for String {
        fn add_lines(&self, count: usize) -> String {
            format!("{self}\n").repeat(count)
        }
    }
}
