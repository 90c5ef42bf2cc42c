//! Generated input: bytes that look enough like requests to get somewhere, and cuts of them.

use proptest::prelude::*;

/// Pieces of syntax, right and wrong, in any order.
pub(crate) fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "HEAD http://b/ HTTP/1.1\r\n",
            "Host: a\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n", "Content-Length: 10\r\n",
            "Connection: close\r\n", "Connection: keep-alive\r\n", "Expect: 100-continue\r\n", "A: b\r\n", "\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "3\r\nabc\r\n", "1;e\r\nx\r\n", "0\r\n", "0\r\n\r\n", "abc", "a", "5\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(b"\r\n\0 \t:;,/*#%.0aF\x7f\xff".to_vec()).prop_map(|byte| vec![byte]),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// `input` cut at the given places, each taken modulo its length.
pub(crate) fn pieces(input: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.sort_unstable();
    let mut at = 0;
    let mut pieces = Vec::new();
    for cut in cuts.into_iter().chain([input.len()]) {
        pieces.push(input[at..cut].to_vec());
        at = cut;
    }
    pieces
}
