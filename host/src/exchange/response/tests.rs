//! What a response takes and refuses, and what its reader gets of it.

use super::*;

fn fields<'a>(list: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Option<Field<'a>>> + 'a {
    list.iter().map(|(n, v)| Some((n.as_bytes(), v.as_bytes())))
}

const NONE: &[(&str, &str)] = &[];

fn limited(limit: u64) -> Response {
    let mut r = Response::new();
    r.set_limit(limit);
    r
}

#[test]
fn what_is_announced_larger_than_it_may_be_is_refused_and_another_try_allowed() {
    let mut r = limited(10);
    assert_eq!(r.set_head(200, fields(&[("content-length", "11")])), Err(Refusal::TooLong));
    assert!(r.exceeded() && r.stage() == Stage::Unset);
    assert_eq!(r.respond(200, fields(NONE), &[0; 11]), Err(Refusal::TooLong));
    assert!(r.exceeded() && r.stage() == Stage::Unset);
    assert_eq!(r.respond(200, fields(NONE), &[0; 10]), Ok(()));
    assert!(!r.exceeded() && r.stage() == Stage::Ended);
    // What is not sent is not counted.
    for (status, head) in [(200, true), (304, false)] {
        let mut r = limited(10);
        r.begin(head);
        assert_eq!(r.set_head(status, fields(&[("content-length", "11")])), Ok(()));
        assert_eq!(r.write(&[0; 11]), Ok(11));
        assert_eq!(r.finish(fields(NONE)), Ok(()));
        assert!(!r.exceeded());
    }
    r.reset(Watermarks::default());
    assert_eq!(r.respond(200, fields(NONE), &[0; 11]), Ok(()), "the next request has a limit of its own");
}

#[test]
fn what_grows_larger_than_it_may_be_is_cut() {
    let mut r = limited(10);
    r.set_head(200, fields(NONE)).unwrap();
    assert_eq!(r.write(&[0; 10]), Ok(10));
    assert!(!r.exceeded() && r.allowed() == 0);
    assert_eq!(r.write(b"x"), Err(Refusal::TooLong));
    assert!(r.exceeded() && r.stage() == Stage::Cut);

    let mut from = Pipe::new(Watermarks::default());
    from.write(&[0; 20]);
    let mut r = limited(15);
    r.set_head(200, fields(NONE)).unwrap();
    assert_eq!(r.take_from(&mut from, 100), Ok(15));
    assert_eq!(r.take_from(&mut from, 100), Err(Refusal::TooLong));
    assert!(r.exceeded() && r.stage() == Stage::Cut);

    let mut r = limited(15);
    r.set_head(200, fields(NONE)).unwrap();
    assert!(matches!(r.receive(100, |room| Ok::<_, ()>(room.len())), Ok(Ok(15))));
    assert!(matches!(r.receive(100, |room| Ok::<_, ()>(room.len())), Err(Refusal::TooLong)));
    assert!(r.exceeded());

    // The declared length is not the limit.
    let mut r = limited(15);
    r.set_head(200, fields(&[("content-length", "3")])).unwrap();
    assert_eq!(r.write(b"four"), Err(Refusal::TooLong));
    assert!(!r.exceeded() && r.stage() == Stage::Cut);
    let mut r = limited(15);
    r.set_head(200, fields(&[("content-length", "15")])).unwrap();
    r.write(&[0; 14]).unwrap();
    assert_eq!(r.finish(fields(NONE)), Err(Refusal::TooShort));
    assert!(!r.exceeded());
}

#[test]
fn calls_out_of_order_have_names() {
    let mut r = Response::new();
    assert_eq!(r.write(b"x"), Err(Refusal::HeadMissing));
    assert_eq!(r.finish(fields(NONE)), Err(Refusal::HeadMissing));
    assert_eq!(r.set_head(200, fields(NONE)), Ok(()));
    assert_eq!(r.set_head(200, fields(NONE)), Err(Refusal::Already));
    assert_eq!(r.hint(fields(NONE)), Err(Refusal::Already));
    assert_eq!(r.write(b"x"), Ok(1));
    assert_eq!(r.finish(fields(NONE)), Ok(()));
    assert_eq!(r.write(b"x"), Err(Refusal::Ended));
    assert_eq!(r.finish(fields(NONE)), Err(Refusal::Already));
}

#[test]
fn a_refused_head_leaves_nothing_and_may_be_tried_again() {
    let mut r = Response::new();
    let bad = [("a", "1"), ("b", "x\r\ny: z")];
    assert!(matches!(r.set_head(200, fields(&bad)), Err(Refusal::Invalid(_))));
    assert!(matches!(r.set_head(99, fields(NONE)), Err(Refusal::Invalid(_))));
    assert_eq!((r.stage(), r.refused()), (Stage::Unset, Some(GuestError::InvalidStatus)));
    assert_eq!(r.set_head(201, fields(&[("c", "2")])), Ok(()));
    assert_eq!(r.head.status(), 201);
}

#[test]
fn a_declared_length_is_kept_or_the_response_is_cut() {
    let declared = [("content-length", "3")];
    let mut long = Response::new();
    long.set_head(200, fields(&declared)).unwrap();
    assert_eq!(long.write(b"abcd"), Err(Refusal::TooLong));
    assert_eq!(long.stage(), Stage::Cut);
    let mut short = Response::new();
    short.set_head(200, fields(&declared)).unwrap();
    short.write(b"ab").unwrap();
    assert_eq!(short.finish(fields(NONE)), Err(Refusal::TooShort));
    assert_eq!(short.stage(), Stage::Cut);
    let mut whole = Response::new();
    assert!(matches!(whole.respond(200, fields(&declared), b"ab"), Err(Refusal::Invalid(_))));
    assert_eq!(whole.respond(200, fields(&declared), b"abc"), Ok(()));
}

#[test]
fn a_body_on_head_is_counted_and_thrown_away() {
    let mut r = Response::new();
    r.begin(true);
    r.set_head(200, fields(NONE)).unwrap();
    assert_eq!(r.write(&[0; 100_000]), Ok(100_000));
    r.finish(fields(NONE)).unwrap();
    assert_eq!((r.known_len(), r.pipe.len()), (Some(100_000), 0));
}

#[test]
fn bytes_from_elsewhere_keep_to_the_rules() {
    let put = |count: usize| move |room: &mut [u8]| Ok::<_, ()>(count.min(room.len()));
    let mut r = Response::new();
    assert_eq!(r.receive(9, put(9)), Err(Refusal::HeadMissing));
    r.set_head(200, fields(&[("content-length", "5")])).unwrap();
    assert_eq!(r.receive(9, |_| Err::<usize, _>("why")), Ok(Err("why")));
    assert_eq!(r.receive(2, put(9)), Ok(Ok(2)));
    assert_eq!(r.receive(9, put(9)), Ok(Ok(3)), "no more than it declared");
    assert_eq!((r.written(), r.pipe.len(), r.allowed()), (5, 5, 0));
    assert_eq!(r.receive(9, put(9)), Err(Refusal::TooLong));
    assert_eq!(r.stage(), Stage::Cut);
    assert_eq!(r.receive(9, put(9)), Err(Refusal::Ended));

    let mut r = Response::new();
    r.set_head(200, fields(NONE)).unwrap();
    while r.is_ready() {
        assert!(matches!(r.receive(usize::MAX, put(usize::MAX)), Ok(Ok(1..))));
    }
    assert_eq!(r.pipe.len(), r.pipe.marks().high);
    assert_eq!(r.receive(1, put(1)), Err(Refusal::Full));

    let mut r = Response::new();
    r.begin(true);
    r.set_head(200, fields(NONE)).unwrap();
    assert_eq!(r.receive(usize::MAX, put(usize::MAX)), Ok(Ok(DISCARD_BYTES)));
    assert_eq!((r.pipe.len(), r.written()), (0, DISCARD_BYTES as u64));
}

#[test]
fn full_is_refused_until_the_low_mark() {
    let mut r = Response::new();
    r.set_head(200, fields(NONE)).unwrap();
    let marks = Watermarks::default();
    assert_eq!(r.write(&vec![7; marks.high + 1]), Ok(marks.high));
    assert_eq!(r.write(b"x"), Err(Refusal::Full));
    r.pipe.consume(marks.high - marks.low - 1);
    assert!(!r.is_ready());
    assert_eq!(r.write(b"x"), Err(Refusal::Full));
    r.pipe.consume(1);
    assert!(r.is_ready());
    assert_eq!(r.write(b"x"), Ok(1));
}

#[test]
fn white_space_counts_before_it_is_looked_at() {
    let spaces = " ".repeat(TRAILER_BYTES_MAX / 4);
    let four = [("a", &*spaces), ("b", &*spaces), ("c", &*spaces), ("d", &*spaces)];
    let mut r = Response::new();
    assert_eq!(r.hint(fields(&four)), Ok(()), "half of what a hint may have");
    r.set_head(200, fields(NONE)).unwrap();
    assert_eq!(r.finish(fields(&four)), Err(Refusal::TooLarge));
    assert!(r.trailers.is_empty());
    // A byte that is not valid would have another error: nobody has come to it.
    let bad = format!("{}\0", " ".repeat(TRAILER_BYTES_MAX));
    assert_eq!(r.finish(fields(&[("a", &bad)])), Err(Refusal::TooLarge));
    assert_eq!(r.finish(fields(&four[..3])), Ok(()));
}

#[test]
fn hints_are_bounded_while_they_wait_and_in_all() {
    let long = "v".repeat(INTERIM_BYTES_MAX / 2 - 8);
    let one = [("link", &*long)];
    let mut r = Response::new();
    assert_eq!(r.hint(fields(&one)), Ok(()));
    assert_eq!(r.hint(fields(&one)), Ok(()));
    assert_eq!(r.hint(fields(&one)), Err(Refusal::Full));
    assert!(r.take_hint().is_some());
    for n in 2..INTERIM_MAX {
        assert_eq!(r.hint(fields(&one)), Ok(()), "{n}");
        assert!(r.take_hint().is_some());
    }
    assert_eq!(r.hint(fields(&one)), Err(Refusal::TooLarge), "there is an end to it");
    assert!(r.take_hint().is_some() && r.take_hint().is_none());
    r.reset(Watermarks::default());
    assert_eq!(r.hint(fields(&one)), Ok(()));
    let too_long = "v".repeat(INTERIM_BYTES_MAX);
    assert_eq!(r.hint(fields(&[("link", &too_long)])), Err(Refusal::TooLarge));
}

#[test]
fn an_unfinished_body_is_cut() {
    let mut r = Response::new();
    r.set_head(200, fields(NONE)).unwrap();
    r.abandon();
    assert_eq!(r.stage(), Stage::Cut);
}
