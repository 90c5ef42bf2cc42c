//! Guests in C, built by clang and wasi-libc: what a real libc asks of the host is there. Skipped with a word on standard
//! error where the compiler is absent.

use std::fs;
use std::process::Command;

use tidegate_tests::artifacts::{has_wasi_libc, workspace};
use tidegate_tests::check::{self, logged_problem, success};
use tidegate_tests::markdown::Page;
use tidegate_tests::wait::{PATIENCE, poll_for};
use tidegate_tests::{Server, c_guest};

/// The guest behind one worker, with a variable set; `None` where it cannot be built.
fn serve(name: &str, env: &str) -> Option<Server> {
    let module = c_guest(name)?;
    Some(Server::builder().module(module).option("--workers", "1").option("--env", env).start())
}

#[test]
fn a_c_handler_greets() {
    let Some(server) = serve("c_hello", "GREETING=Good day") else { return };
    let response = server.get("a", "/");
    check::ok(&response, b"Good day, World!\n");
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));

    let mut client = server.client();
    check::ok(&client.post("a", "/", b"Ann").unwrap(), b"Good day, Ann!\n");
    // No body at all is a body that is at its end.
    client.send("POST / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    check::ok(&client.response().unwrap(), b"Good day, World!\n");
    check::ok(&client.post("a", "/", b"").unwrap(), b"Good day, World!\n");
    // Longer than the first buffer, and as long as may be.
    for len in [511, 512, 513, 1000] {
        let name = "n".repeat(len);
        let greeting = format!("Good day, {name}!\n");
        check::ok(&client.post("a", "/", name.as_bytes()).unwrap(), greeting.as_bytes());
        let line = server.wait_for_log(|line| line.contains(&format!("a body of {len} bytes")));
        assert!(line.is_some(), "printf is not in the log:\n{}", server.stderr().tail(20));
    }
    assert_eq!(client.post("a", "/", &[b'n'; 1001]).unwrap().status(), 413);
    assert_eq!(client.get("a", "/count/12x").unwrap().status(), 404);
    assert!(server.wait_for_log(|line| line.contains("WARN") && line.contains("nothing is here")).is_some());
}

#[test]
fn a_body_that_comes_late_is_waited_for() {
    let Some(server) = serve("c_hello", "GREETING=Hello") else { return };
    let mut client = server.client();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    // The guest reads now, and finds nothing: that is what lets the host say 100.
    assert_eq!(client.head().unwrap().status, 100);
    for chunk in ["3\r\nAnn\r\n", "5\r\n and \r\n", "3\r\nBob\r\n", "0\r\n\r\n"] {
        // Another client is served between: waiting holds up nobody.
        success(&server.get("a", "/"));
        client.send(chunk).unwrap();
    }
    check::ok(&client.response().unwrap(), b"Hello, Ann and Bob!\n");
}

#[test]
fn a_c_handler_writes_as_fast_as_its_client_reads() {
    let Some(server) = serve("c_hello", "GREETING=Hello") else { return };
    let lines = 2_000_000;
    success(&server.get("a", "/count/1000"));
    let before = server.rss_bytes();
    let mut client = server.client();
    client.send_get("a", &format!("/count/{lines}")).unwrap();
    let head = client.head().unwrap();
    // Nobody reads on: the guest fills what there is to fill, and then it waits, which takes no CPU time.
    let quiet = || {
        let used = server.cpu_time();
        success(&server.get("a", "/"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        (server.cpu_time().saturating_sub(used) < std::time::Duration::from_millis(30)).then_some(())
    };
    assert!(poll_for(PATIENCE, quiet).is_some(), "the guest goes on although nobody reads");
    let held = server.rss_bytes().saturating_sub(before);
    assert!(held < 8 << 20, "{held} bytes for a client that does not read");

    let mut body = client.body(&head).unwrap();
    let mut bytes = Vec::new();
    while client.read_body(&mut body, &mut bytes, 1 << 20).unwrap() > 0 {}
    let expected: String = (0..lines).map(|number| format!("{number}\n")).collect();
    assert!(bytes == expected.as_bytes(), "{} bytes instead of {}", bytes.len(), expected.len());
}

#[test]
fn instances_may_be_reused() {
    let Some(module) = c_guest("c_hello") else { return };
    let server = Server::builder().module(module).option("--reuse", "1000").option("--workers", "1").start();
    let mut client = server.client();
    for number in 0..200 {
        let name = format!("number {number}");
        let response = client.post("a", "/", name.as_bytes()).unwrap();
        check::ok(&response, format!("Hello, {name}!\n").as_bytes());
    }
}

#[test]
fn what_needs_no_files_works() {
    let Some(server) = serve("c_libc", "WHO=you") else { return };
    let expected = "constructors: 1\ngetenv: you\nsnprintf: 3.142    42 ab  | 4 feedfacecafe\nstrtod: 0.0025\n\
        sqrt: 1.4142\nmalloc: yes\nrealloc: yes\nposix_memalign: 0\nnanosleep: 0, as long as asked\ntime: YEAR\n\
        clock_getres: 0\nusleep: 0\ngetentropy: 0\nfopen: Capabilities insufficient\nstdin: at its end\nisatty: 1\n\
        lseek: Invalid seek\nclose of 9: Bad file descriptor\n";
    let response = server.get("a", "/");
    success(&response);
    let year = response.text().lines().find_map(|line| line.strip_prefix("time: ").map(str::to_owned));
    let year = year.expect("the year");
    assert!((2024..2200).contains(&year.parse::<u32>().unwrap()), "{year}");
    assert_eq!(response.text(), expected.replace("YEAR", &year));
    for text in ["printed 1", "printed 2", "printed 3, without an end"] {
        assert!(server.wait_for_log(|line| line.contains(text)).is_some(), "{text}");
    }
}

#[test]
fn every_way_to_end_early_has_a_name() {
    let Some(server) = serve("c_libc", "WHO=you") else { return };
    for (target, code, word) in [
        ("/exit", "guest-trap", "exit(3)"),
        ("/abort", "guest-trap", "unreachable"),
        ("/assert", "guest-trap", "Assertion failed"),
        ("/memory", "guest-memory", "memory limit"),
    ] {
        logged_problem(&server, &server.get("a", target), 500, code);
        assert!(
            server.wait_for_log(|line| line.contains(word)).is_some(),
            "{target}: {word:?} is not in the log"
        );
    }
    assert!(
        server.wait_for_log(|line| line.contains("atexit ran")).is_some(),
        "exit runs what atexit was given"
    );
    success(&server.get("a", "/"));
}

/// The guide's first handler, built and served as its page says, and every other piece of it at least compiles.
#[test]
fn the_guide_works_as_written() {
    if !has_wasi_libc() {
        return;
    }
    let text = fs::read_to_string(workspace().join("docs/guide-c.md")).unwrap();
    let page = Page::parse(&text);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(workspace().join("guest-sdk/tidegate.h"), folder.path().join("tidegate.h")).unwrap();
    fs::write(folder.path().join("handler.c"), page.blocks_of("c")[0]).unwrap();
    fs::write(folder.path().join("Makefile"), page.blocks_of("make")[0]).unwrap();
    let run = |command: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(command).current_dir(folder.path()).env_remove("MAKEFLAGS");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("make");
    let server = Server::builder().module(folder.path().join("handler.wasm")).start();
    check::ok(&server.get("a", "/here"), b"Hello from C, you asked for /here\n");

    // Without libc: the command of the page, and the handler that tidegate.h begins with.
    let shell = page.blocks_of("sh");
    let bare = shell.iter().find(|block| block.contains("-nostdlib")).expect("the command without libc");
    let header = fs::read_to_string(folder.path().join("tidegate.h")).unwrap();
    let commands: Vec<_> =
        header.lines().filter_map(|line| line.strip_prefix(" *     clang")).map(str::trim).collect();
    assert!(
        commands.iter().any(|command| bare.contains(command.split(" -o ").next().unwrap())),
        "{commands:?}"
    );
    let example: String = header
        .lines()
        .skip_while(|line| !line.contains("#include \"tidegate.h\""))
        .map_while(|line| line.strip_prefix(" *"))
        .take_while(|line| line.is_empty() || line.starts_with("     "))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(folder.path().join("handler.c"), example).unwrap();
    run(bare);
    let module = folder.path().join("handler.wasm");
    assert!(fs::metadata(&module).unwrap().len() < 300);
    check::ok(&Server::builder().module(module).start().get("a", "/"), b"Hello World\n");
}

/// The errors in the guide have the numbers of the header.
#[test]
fn the_guides_errors_are_those_of_the_header() {
    let page = Page::parse(&fs::read_to_string(workspace().join("docs/guide-c.md")).unwrap());
    let header = fs::read_to_string(workspace().join("guest-sdk/tidegate.h")).unwrap();
    let rows = page.rows_below("Errors");
    let named: Vec<_> = rows.iter().filter(|row| row[0].starts_with("`TIDEGATE_")).collect();
    assert_eq!(named.len(), 10);
    for row in named {
        let define = format!("#define {} {} ", row[0].trim_matches('`'), row[1]);
        assert!(header.contains(&define), "{define}");
    }
}
