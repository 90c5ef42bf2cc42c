//! `docs/abi.md` is enough to write a guest from, because everything in it that can be checked is: the modules on it are
//! served, its bytes are those that the host packs, its numbers and types are those of the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use tidegate_abi::fields::{self, FieldList};
use tidegate_abi::request::{self, RequestHead};
use tidegate_abi::{errno, fetch, level, names, poll, socket, usage};
use tidegate_tests::artifacts::{wat_text, workspace};
use tidegate_tests::check::{self, success};
use tidegate_tests::markdown::{Page, code_spans};
use tidegate_tests::{Client, Server};

fn page() -> Page {
    Page::parse(&fs::read_to_string(workspace().join("docs/abi.md")).unwrap())
}

fn serve(number: usize) -> Server {
    let page = page();
    let blocks = page.blocks_of("wat");
    assert_eq!(blocks.len(), 3, "the modules on the page");
    let module = wat_text(&format!("abi_page_{number}"), blocks[number]);
    let builder = Server::builder().module(module).option("--workers", "1");
    if number == 2 { builder.option("--listen-tcp", "127.0.0.1:0").start() } else { builder.start() }
}

#[test]
fn the_raw_echo_is_served() {
    use std::io::{Read as _, Write as _};
    let server = serve(2);
    let mut stream = std::net::TcpStream::connect(server.raw_addr("abi_page_2")).unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut writer, bytes) = (stream.try_clone().unwrap(), sent.clone());
    let sender = std::thread::spawn(move || {
        writer.write_all(&bytes)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    sender.join().unwrap().unwrap();
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
}

#[test]
fn the_smallest_guest_is_served() {
    check::ok(&serve(0).get("a", "/"), b"Hello World\n");
}

#[test]
fn the_echo_is_served() {
    let server = serve(1);
    let mut client = server.client();
    let response = client.post("a", "/", b"there and back").unwrap();
    check::ok(&response, b"there and back");
    assert_eq!(response.header("content-type"), Some("text/plain"));
    check::ok(&client.get("a", "/").unwrap(), b"");

    // More than both buffers hold, from a client that only reads after it has sent: it must write from a thread.
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut client = Client::connect(server.addr()).unwrap();
    let mut writer = client.writer().unwrap();
    let sent = body.clone();
    let sender = std::thread::spawn(move || {
        use std::io::Write as _;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len());
        writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&sent))
    });
    let response = client.response().unwrap();
    sender.join().unwrap().unwrap();
    success(&response);
    assert!(response.body == body, "{} bytes came back of {}", response.body.len(), body.len());

    // A body that is cut off never ends cleanly.
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    client.shutdown_write().unwrap();
    check::cut(&client.response());
}

/// The bytes of a block of lines `offset  bytes  ; text`.
fn bytes(block: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in block.lines() {
        let (data, _) = line.split_once(';').unwrap_or((line, ""));
        let mut words = data.split_whitespace();
        let offset = usize::from_str_radix(words.next().expect("an offset"), 16).unwrap();
        assert_eq!(offset, bytes.len(), "the offset of {line:?}");
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

#[test]
fn the_bytes_are_those_that_the_host_packs() {
    let page = page();
    let blocks = page.blocks_of("hex");
    assert_eq!(blocks.len(), 3);

    let params: [(&[u8], &[u8]); 1] = [(b"id", b"42")];
    let headers: [(&[u8], &[u8]); 2] = [(b"host", b"shop.test"), (b"accept", b"*/*")];
    let head = RequestHead {
        http_minor: 1,
        secure: false,
        has_body: false,
        request_body: 3,
        response_body: 4,
        mount_len: 0,
        deadline_ns: 31_000_000_000,
        method: b"GET",
        target: b"/items/42?x=1",
        authority: b"shop.test",
        peer: b"127.0.0.1:4711",
        local: b"127.0.0.1:8080",
        request_id: b"5f2c9a01-0-2a",
        params: params.iter().copied(),
        fields: headers.iter().copied(),
    };
    let mut packed = vec![0; 1024];
    let size = head.pack(&mut packed).unwrap() as usize;
    assert_eq!(bytes(blocks[0]), packed[..size]);

    let given: [(&[u8], &[u8]); 2] = [(b"content-type", b"text/plain"), (b"x-a", b"1")];
    let given_bytes = bytes(blocks[1]);
    let list = FieldList::bounded(&given_bytes).unwrap();
    assert_eq!(list.iter().flatten().collect::<Vec<_>>(), given);
    let size = fields::pack(given.into_iter(), &mut packed).unwrap();
    assert_eq!(given_bytes, packed[..size]);

    let accept: [(&[u8], &[u8]); 1] = [(b"accept", b"*/*")];
    let request = fetch::Request {
        https: true,
        body: fetch::Body::Stream(Some(1024)),
        timeouts: fetch::Timeouts { first_byte_ns: 5_000_000_000, ..fetch::Timeouts::default() },
        method: b"PUT",
        authority: b"api.example",
        path: b"/items/42",
        fields: accept.into_iter(),
    };
    let size = request.pack(&mut packed).unwrap() as usize;
    assert_eq!(bytes(blocks[2]), packed[..size]);
}

/// The functions in the tables below a heading, with the types of their parameters and results.
fn functions(heading: &str) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let types = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric());
        words.filter(|word| matches!(*word, "i32" | "i64")).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = BTreeMap::new();
    for row in page().rows_below(heading).iter().skip(1) {
        let signature = row[1].trim_matches('`');
        let (params, results) = signature.split_once("->").unwrap_or((signature, ""));
        for name in code_spans(&row[0]) {
            let before = found.insert(name.to_owned(), (types(params), types(results)));
            assert!(before.is_none(), "{name} is there twice");
        }
    }
    found
}

/// A module that imports all of them answers, and has each of them with the type that the page says.
fn link(name: &str, module: &str, functions: &BTreeMap<String, (Vec<String>, Vec<String>)>) {
    let mut imports = String::new();
    for (import, (params, results)) in functions {
        let (params, results) = (params.join(" "), results.join(" "));
        let _ = writeln!(
            imports,
            "(import \"{module}\" \"{import}\" (func (param {params}) (result {results})))"
        );
    }
    let text = format!(
        "(module {imports} (import \"tidegate_v1\" \"respond\" \
           (func $answer (param i32 i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"tidegate_handle\") (result i32)
             (call $answer (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"
    );
    success(&Server::builder().module(wat_text(name, &text)).start().get("a", "/"));
}

#[test]
fn every_import_is_there_with_its_type() {
    let own = functions("What a guest may import");
    let mut expected = [
        names::REQUEST_HEAD,
        names::RESPOND,
        names::RESPONSE_HEAD,
        names::READ,
        names::WRITE,
        names::FORWARD,
        names::FINISH,
        names::TRAILERS,
        names::POLL,
        names::CLOSE,
        names::ERROR,
        names::USAGE,
        names::LOG,
        names::CONNECT,
        names::RESOLVE,
        names::SOCKET_ADDRESS,
    ];
    expected.sort_unstable();
    assert_eq!(own.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    link("abi_page_imports", tidegate_abi::MODULE, &own);

    let fetch = functions("Requests to others");
    let mut expected = [names::fetch::REQUEST, names::fetch::HEAD, names::fetch::REASON];
    expected.sort_unstable();
    assert_eq!(fetch.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    link("abi_page_fetch", tidegate_abi::FETCH_MODULE, &fetch);

    let kv = functions("Key-value data");
    let mut expected = [
        names::kv::GET,
        names::kv::SET,
        names::kv::DELETE,
        names::kv::EXISTS,
        names::kv::INCREMENT,
        names::kv::SWAP,
        names::kv::LIST,
    ];
    expected.sort_unstable();
    assert_eq!(kv.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    link("abi_page_kv", tidegate_abi::KV_MODULE, &kv);
}

#[test]
fn all_of_preview_1_is_there_with_its_types() {
    let wasi = functions("WASI");
    assert_eq!(wasi.len(), 46, "the functions of WASI preview 1: {:?}", wasi.keys());
    link("abi_page_wasi", "wasi_snapshot_preview1", &wasi);
}

/// The numbers and names of a table: those of the cells given, header left out.
fn numbers(heading: &str, number: usize, name: usize) -> BTreeMap<u64, String> {
    let page = page();
    let rows = page.rows_below(heading);
    let pairs = rows.iter().filter_map(|row| Some((row[number].parse().ok()?, row[name].replace('`', ""))));
    pairs.collect()
}

#[test]
fn numbers_are_those_of_the_code() {
    let named = numbers("Error numbers", 0, 1);
    assert!(named.len() >= 10, "{named:?}");
    for (number, name) in &named {
        assert_eq!(errno::describe(i32::try_from(*number).unwrap()).0, name);
    }
    // Every other number has a name on the page, too.
    let text = fs::read_to_string(workspace().join("docs/abi.md")).unwrap();
    for number in 1..100 {
        let (name, _) = errno::describe(number);
        let told = named.contains_key(&u64::from(number.unsigned_abs()))
            || text.contains(&format!("`{name}` {number}"));
        assert!(name == "EUNKNOWN" || told, "{name} {number}");
    }

    let levels = numbers("`log(level, ptr, len) -> 0`", 0, 1);
    let expected = [
        (level::ERROR, "error"),
        (level::WARN, "warn"),
        (level::INFO, "info"),
        (level::DEBUG, "debug"),
        (level::TRACE, "trace"),
    ];
    assert_eq!(levels, expected.map(|(number, name)| (u64::from(number), name.to_owned())).into());

    let bits = numbers("`poll(entries, n, timeout_ns) -> ready`", 0, 1);
    let expected = [
        (poll::READABLE, "READABLE"),
        (poll::WRITABLE, "WRITABLE"),
        (poll::ERROR, "ERROR"),
        (poll::HANGUP, "HANGUP"),
    ];
    for (bit, name) in expected {
        assert_eq!(bits.get(&u64::from(bit)).map(String::as_str), Some(name));
    }
}

/// The bytes that the rows `| offset | type | field |` below a heading take, each beginning where the one before ends.
fn layout_bytes(heading: &str) -> usize {
    let page = page();
    let mut end = 0;
    for row in page.rows_below(heading) {
        let [offset, kind, ..] = row else { continue };
        let size = match kind.as_str() {
            "u8" => 1,
            "u16" => 2,
            "u32" => 4,
            "u64" | "span" => 8,
            "3 x u8" => 3,
            "16 x u8" => 16,
            _ => continue,
        };
        assert_eq!(offset.parse::<usize>().unwrap(), end, "{heading}: {row:?}");
        end += size;
    }
    end
}

#[test]
fn layouts_have_no_gaps_and_their_sizes() {
    assert_eq!(layout_bytes("`request_head(buf, cap) -> len`"), request::FIXED_BYTES);
    assert_eq!(layout_bytes("Packed fields"), fields::FIXED_BYTES);
    assert_eq!(layout_bytes("`poll(entries, n, timeout_ns) -> ready`"), poll::ENTRY_BYTES);
    assert_eq!(layout_bytes("`usage(buf, cap) -> len`"), usage::BYTES);
    assert_eq!(layout_bytes("`resolve(name, len) -> handle`"), socket::ENTRY_BYTES);
    assert_eq!(layout_bytes("`request(head, len, body, body_len) -> handle`"), fetch::REQUEST_FIXED_BYTES);
    assert_eq!(layout_bytes("`head(handle, buf, cap) -> len`"), fetch::RESPONSE_FIXED_BYTES);
}
