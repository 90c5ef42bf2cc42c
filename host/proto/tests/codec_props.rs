//! Properties of the codec: splitting changes nothing, what is encoded reads back, and no bytes bring it down.

mod common;
#[path = "common/driver.rs"]
mod driver;
#[path = "common/wire.rs"]
mod wire;

use common::load;
use driver::{Driver, Outcome, run};
use proptest::prelude::*;
use tidegate_proto::http1::encode::{ResponseHead, encode_chunk_size, push_trailer};
use tidegate_proto::http1::head::HeadScanner;
use tidegate_proto::limits::Limits;
use wire::{pieces, wire};

/// Narrow bounds, so that generated input meets each of them.
fn narrow() -> Limits {
    Limits {
        head_bytes_max: 96,
        headers_max: 4,
        target_bytes_max: 12,
        chunk_ext_bytes_max: 6,
        trailer_bytes_max: 12,
        ..Limits::default()
    }
}

fn run_pieces(pieces: &[Vec<u8>], limits: &Limits, data_max: usize) -> Outcome {
    run(pieces.iter().map(Vec::as_slice), limits, data_max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(
        input in wire(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        data_max in 1_usize..5,
        bounds in any::<bool>(),
    ) {
        let limits = if bounds { narrow() } else { Limits::default() };
        let whole = run([input.as_slice()], &limits, usize::MAX);
        prop_assert_eq!(&run_pieces(&pieces(&input, &cuts), &limits, data_max), &whole);
        prop_assert_eq!(&run(input.chunks(1), &limits, usize::MAX), &whole);
    }

    #[test]
    fn vectors_with_damage_give_the_same_in_any_split(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        let case = &CASES[which.index(CASES.len())];
        let mut input = case.clone();
        if !input.is_empty() {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let whole = run([input.as_slice()], &Limits::default(), usize::MAX);
        prop_assert_eq!(run_pieces(&pieces(&input, &cuts), &Limits::default(), 7), whole);
    }

    #[test]
    fn arbitrary_bytes_bring_nothing_down(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut driver = Driver::new(narrow(), 3);
        driver.receive(&input);
        driver.finish();
        // Behind a head that stands, the same bytes are a body, a chunk or a trailer.
        for start in ["", "2\r\nab\r\n", "1;", "0\r\n", "0\r\nA: "] {
            let mut driver = Driver::new(narrow(), 3);
            driver.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            driver.receive(start.as_bytes());
            driver.receive(&input);
            driver.finish();
        }
    }

    #[test]
    fn chunks_read_back(
        body in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        trailers in prop::collection::btree_map("x-[a-z]{1,6}", "[!-~]{0,8}", 0..3),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        data_max in 1_usize..64,
    ) {
        let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for data in body.iter().filter(|data| !data.is_empty()) {
            encode_chunk_size(data.len(), &mut input);
            input.extend_from_slice(data);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n");
        let mut lines = Vec::new();
        for (name, value) in &trailers {
            push_trailer(name.as_bytes(), value.as_bytes(), &mut lines).expect("valid");
        }
        input.extend_from_slice(&lines);
        input.extend_from_slice(b"\r\n");
        let outcome = run_pieces(&pieces(&input, &cuts), &Limits::default(), data_max);
        prop_assert_eq!(outcome.requests.len(), 1, "{:?}", outcome.detail);
        prop_assert_eq!(&outcome.requests[0].body, &body.concat());
        let expected: Vec<_> = trailers.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes())).collect();
        prop_assert_eq!(&outcome.requests[0].trailers, &expected);
    }

    /// All that the scanner has seen may be spoiled, but for its last byte: it never looks again, so that a head
    /// that comes a byte at a time costs no more than one that comes whole.
    #[test]
    fn the_scanner_never_looks_back(input in wire()) {
        let limits = narrow();
        let whole = HeadScanner::default().scan(&input, &limits);
        let (mut scanner, mut seen) = (HeadScanner::default(), Vec::new());
        let mut split = Ok(None);
        for byte in &input {
            if let Some(before) = seen.len().checked_sub(2) {
                seen[before] = b'\0';
            }
            seen.push(*byte);
            split = scanner.scan(&seen, &limits);
            if split != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(split, whole);
    }

    /// Whatever a guest sets, a head that was taken holds whole lines of its own and nothing else.
    #[test]
    fn no_field_of_a_guest_makes_a_second_line(
        name in prop::collection::vec(any::<u8>(), 0..6),
        value in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut head = ResponseHead::default();
        let taken = head.push(&name, &value).is_ok();
        let lines = head.lines();
        let ends = lines.windows(2).filter(|two| two == b"\r\n").count();
        prop_assert_eq!(ends, usize::from(taken && !lines.is_empty()));
        prop_assert_eq!(lines.iter().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)).count(), ends * 2);
    }
}

static CASES: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
    load("http1").iter().map(common::Case::input).filter(|input| input.len() < 2_000).collect()
});
