//! Server-sent events, against the host in memory, read back by a parser that follows the HTML Standard to the letter.

use proptest::prelude::*;
use std::time::Duration;
use tidegate_sdk::sse::{self, Event, Events};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{Request, Response, ResponseWriter, Result, StatusCode, sleep};

/// What an `EventSource` dispatches.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    event: String,
    data: String,
    last_id: String,
}

/// What it keeps beside that.
#[derive(Debug, Default)]
struct Client {
    seen: Vec<Seen>,
    retry_ms: Option<u64>,
    comments: Vec<String>,
    last_id: String,
}

/// HTML Standard sections 9.2.5 and 9.2.6. Strict where the standard ignores: an unknown field, a field without a colon,
/// or a stream that ends inside an event is a failure here, because this server never sends one.
fn read(text: &str) -> Client {
    let mut client = Client::default();
    let (mut event, mut data) = (String::new(), String::new());
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    assert!(text.is_empty() || text.ends_with("\n\n"), "it ends inside an event: {text:?}");
    let mut id = String::new();
    for line in text.split('\n') {
        if line.is_empty() {
            client.last_id.clone_from(&id);
            if let Some(data) = std::mem::take(&mut data).strip_suffix('\n') {
                let last_id = client.last_id.clone();
                client.seen.push(Seen { event: event.clone(), data: data.to_owned(), last_id });
            }
            event.clear();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => client.comments.push(value.to_owned()),
            "event" => value.clone_into(&mut event),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" => {
                assert!(!value.contains('\0'), "an id that is ignored: {value:?}");
                value.clone_into(&mut id);
            }
            "retry" => {
                assert!(value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty(), "{value:?}");
                client.retry_ms = Some(value.parse().unwrap());
            }
            other => panic!("an unknown field {other:?}"),
        }
    }
    client
}

fn seen(event: &str, data: &str, last_id: &str) -> Seen {
    Seen { event: event.into(), data: data.into(), last_id: last_id.into() }
}

/// Sends `events`, one after the other.
fn send(events: Vec<Event>) -> Answer {
    Exchange::get("/").run(move |_: Request| {
        let events = events.clone();
        Response::sse(move |out| events.iter().try_for_each(|event| out.send(event)))
    })
}

#[test]
fn the_head_says_what_it_is() {
    let heads = [
        send(vec![]),
        Exchange::get("/").run_streaming(|_: Request, response: ResponseWriter| -> Result<()> {
            response.start(sse::head())?.finish()?;
            Ok(())
        }),
    ];
    for answer in heads {
        assert_eq!(answer.status, Some(StatusCode::OK));
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(answer.finished && answer.body.is_empty());
    }
}

#[test]
fn every_field_arrives() {
    let answer = send(vec![
        Event::data("plain"),
        Event::data("named").event("news").id("7").retry(Duration::from_millis(2_500)),
        Event::data("after"),
        Event::data("").event("empty"),
        Event::comment("hello\nyou"),
        Event::default().id("8"),
        Event::data("last"),
    ]);
    let client = read(answer.text());
    let wanted = [
        seen("", "plain", ""),
        seen("news", "named", "7"),
        seen("", "after", "7"),
        seen("empty", "", "7"),
        seen("", "last", "8"),
    ];
    assert_eq!(client.seen, wanted);
    assert_eq!((client.retry_ms, client.last_id.as_str()), (Some(2_500), "8"));
    assert_eq!(client.comments, ["hello", "you"]);
    assert!(answer.finished);
}

#[test]
fn what_is_sent_is_as_short_as_it_can_be() {
    assert_eq!(send(vec![Event::data("a\nb").id("1")]).text(), "id: 1\ndata: a\ndata: b\n\n");
    assert_eq!(send(vec![Event::data("")]).text(), "data: \n\n");
}

#[test]
fn data_of_many_lines_is_joined_by_the_client() {
    let cases = [
        ("a\nb", "a\nb"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a\nb"),
        ("a\n", "a\n"),
        ("\n", "\n"),
        ("\n\na", "\n\na"),
        ("a\r\n\r\nb\n\rc", "a\n\nb\n\nc"),
        (" a", " a"),
        (": a", ": a"),
        ("\u{feff}a", "\u{feff}a"),
        ("a\u{2028}b\u{85}c\0d", "a\u{2028}b\u{85}c\0d"),
    ];
    for (data, wanted) in cases {
        assert_eq!(read(send(vec![Event::data(data)]).text()).seen, [seen("", wanted, "")], "{data:?}");
    }
}

#[test]
fn text_of_others_stays_data() {
    let attacks = [
        "x\n\ndata: forged",
        "x\nevent: forged",
        "x\r\rid: forged",
        "x\r\n\r\nretry: 1",
        "x\nid\n\n",
        "\n:comment",
    ];
    for attack in attacks {
        let client = read(send(vec![Event::data(attack)]).text());
        let data = attack.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(client.seen, [seen("", &data, "")], "{attack:?}");
        assert!(client.retry_ms.is_none() && client.comments.is_empty());

        let client = read(send(vec![Event::comment(attack)]).text());
        assert!(
            client.seen.is_empty() && client.retry_ms.is_none() && client.last_id.is_empty(),
            "{attack:?}"
        );
    }
}

#[test]
fn a_line_break_where_none_may_be_is_an_error_and_nothing_is_sent() {
    for bad in ["a\nb", "a\rb", "a\r\n", "\n", "a\n\ndata: forged", "a\0b"] {
        for event in [Event::data("x").event(bad), Event::data("x").id(bad)] {
            let answer = send(vec![Event::data("before"), event]);
            assert_eq!(read(answer.text()).seen, [seen("", "before", "")], "{bad:?}");
            assert!(!answer.finished, "{bad:?}");
            assert!(answer.logs.iter().any(|(_, text)| text.contains("line break")), "{:?}", answer.logs);
        }
    }
}

#[test]
fn an_error_of_one_event_does_not_spoil_the_next() {
    let answer = Exchange::get("/").run(|_: Request| {
        Response::sse(|events| {
            assert!(events.send(&Event::data("x").id("a\nb")).is_err());
            events.send(&Event::data("y"))
        })
    });
    assert_eq!(read(answer.text()).seen, [seen("", "y", "")]);
    assert!(answer.finished);
}

#[test]
fn keep_alives_are_nothing_to_the_client() {
    let answer = Exchange::get("/").run(|_: Request| {
        Response::sse(|events| {
            events.keep_alive()?;
            events.send(&Event::data("a"))?;
            events.keep_alive()
        })
    });
    let client = read(answer.text());
    assert_eq!((client.seen.len(), client.comments.len()), (1, 2));
}

#[test]
fn the_last_id_comes_back() {
    let last = |request: Request| format!("{:?}", request.last_event_id());
    for (sent, wanted) in [("7", "Some(\"7\")"), ("a b", "Some(\"a b\")"), ("", "None")] {
        assert_eq!(Exchange::get("/").header("Last-Event-ID", sent).run(last).text(), wanted);
    }
    assert_eq!(Exchange::get("/").run(last).text(), "None");
}

/// The same as [`send`], from async code.
fn send_async(events: Vec<Event>, pipe_bytes: usize) -> Answer {
    Exchange::get("/").pipe_bytes(pipe_bytes).run(move |_: Request| {
        let events = events.clone();
        Response::sse_async(async move |out| {
            for event in &events {
                out.send_async(event).await?;
            }
            out.keep_alive_async().await
        })
    })
}

#[test]
fn async_code_sends_the_same() {
    let events: Vec<_> = (0..20).map(|n| Event::data(format!("{n}\n{n}")).id(n.to_string())).collect();
    let blocking = send(events.clone());
    for pipe_bytes in [1, 7, 1_000_000] {
        let answer = send_async(events.clone(), pipe_bytes);
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!(answer.text(), format!("{}:\n\n", blocking.text()));
        assert!(answer.finished, "{pipe_bytes}");
    }
    let answer = send_async(vec![Event::data("x"), Event::data("y").id("a\nb")], 100);
    assert!(!answer.finished);
    assert_eq!(read(answer.text()).seen, [seen("", "x", "")]);
}

#[test]
fn an_event_of_nothing_sends_nothing() {
    assert_eq!(send(vec![Event::default(), Event::default()]).text(), "");
}

/// Each event is written when it is sent, and a slow client holds the handler up: what waits is in the pipe.
#[test]
fn a_slow_client_is_waited_for_event_by_event() {
    let big = "x".repeat(100);
    let answer = Exchange::get("/").pipe_bytes(64).run(move |_: Request| {
        let big = big.clone();
        Response::sse(move |events| {
            (0..50).try_for_each(|n| events.send(&Event::data(big.clone()).id(n.to_string())))
        })
    });
    let client = read(answer.text());
    assert_eq!((client.seen.len(), client.last_id.as_str()), (50, "49"));
    assert!(answer.calls.iter().filter(|call| **call == "poll").count() >= 50, "{:?}", answer.calls.len());
}

/// A client that never reads: the handler is held up as soon as the pipe is full, whatever it has to say.
#[test]
fn a_client_that_never_reads_costs_no_more_than_its_pipe() {
    let blocking = |_: Request| {
        Response::sse(|events| {
            loop {
                events.send(&Event::data("x".repeat(1_000)))?;
                events.keep_alive()?;
            }
        })
    };
    let waiting = |_: Request| {
        Response::sse_async(async |events| {
            loop {
                events.send_async(&Event::data("x".repeat(1_000))).await?;
                events.keep_alive_async().await?;
            }
        })
    };
    let stalled = || Exchange::get("/").pipe_bytes(4_096).stalled_client();
    for answer in [stalled().run(blocking), stalled().run(waiting)] {
        assert!(answer.queued_bytes_max <= 4_096, "{}", answer.queued_bytes_max);
        assert!(answer.queued_bytes_max > 3_000 && !answer.finished, "{}", answer.queued_bytes_max);
    }
}

#[test]
fn an_event_leaves_before_the_handler_waits() {
    let answer = Exchange::get("/").run(|_: Request| {
        Response::sse(|events| {
            for n in 0..3 {
                events.send(&Event::data(n.to_string()))?;
                sleep(Duration::from_secs(1));
            }
            Ok(())
        })
    });
    let order: Vec<_> = answer.calls.iter().filter(|call| matches!(**call, "write" | "poll")).collect();
    assert_eq!(order, [&"write", &"poll", &"write", &"poll", &"write", &"poll"]);
}

#[test]
fn a_client_that_is_gone_ends_it_and_nobody_is_blamed() {
    let answer = Exchange::get("/").hang_up_after(100).run(|_: Request| {
        Response::sse(|events| {
            loop {
                events.send(&Event::data("tick"))?;
            }
        })
    });
    assert!(!answer.finished);
    assert!(
        answer.logs.iter().all(|(level, _)| *level > tidegate_sdk::log::Level::Info),
        "{:?}",
        answer.logs
    );
}

#[test]
fn a_streaming_handler_sends_events_too() {
    let answer = Exchange::get("/").run_streaming(|_: Request, response: ResponseWriter| -> Result<()> {
        let mut body = response.start(sse::head())?;
        Events::new(&mut body).send(&Event::data("a"))?;
        body.finish()?;
        Ok(())
    });
    assert_eq!(read(answer.text()).seen, [seen("", "a", "")]);
}

/// Text with more line breaks, colons and odd characters than people write.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just('\n'), Just('\r'), Just(':'), Just(' '), any::<char>()], 0..12)
        .prop_map(|chars| chars.into_iter().collect())
}

fn line() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['\n', '\r', '\0'], ""))
}

prop_compose! {
    fn event()(
        data in prop::option::of(text()),
        name in prop::option::of(line()),
        id in prop::option::of(line()),
        retry_ms in prop::option::of(any::<u64>()),
    ) -> (Event, Option<String>, Option<String>, Option<String>, Option<u64>) {
        let mut event = data.clone().map_or_else(Event::default, Event::data);
        if let Some(name) = &name {
            event = event.event(name.clone());
        }
        if let Some(id) = &id {
            event = event.id(id.clone());
        }
        if let Some(ms) = retry_ms {
            event = event.retry(Duration::from_millis(ms));
        }
        (event, data, name, id, retry_ms)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_read_as_it_was_meant(events in prop::collection::vec(event(), 0..5)) {
        let answer = send(events.iter().map(|(event, ..)| event.clone()).collect());
        let client = read(answer.text());
        let (mut last_id, mut wanted) = (String::new(), Vec::new());
        for (_, data, name, id, _) in &events {
            if let Some(id) = id {
                last_id.clone_from(id);
            }
            if let Some(data) = data {
                let data = data.replace("\r\n", "\n").replace('\r', "\n");
                wanted.push(seen(name.as_deref().unwrap_or(""), &data, &last_id));
            }
        }
        prop_assert_eq!(client.seen, wanted);
        prop_assert_eq!(client.last_id, last_id);
        prop_assert_eq!(client.retry_ms, events.iter().filter_map(|(.., retry_ms)| *retry_ms).next_back());
    }
}
