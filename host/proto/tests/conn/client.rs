//! Reading what a server has sent, as a strict client would.

use tidegate_proto::http1::body::BodyDecoder;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::framing::BodyFraming;
use tidegate_proto::limits::Limits;

/// One final response, with the interim ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) interim: Vec<u16>,
    pub(crate) minor_version: u8,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// How the end of the body is known.
    pub(crate) framed: Framed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// There is none.
    Empty,
    Length,
    Chunks,
    /// By the end of the connection.
    Close,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// All replies in `wire`, to requests with these methods in order; a request that could not be read has none.
///
/// # Panics
/// Where what was sent is not a sequence of whole responses.
pub(crate) fn replies(wire: &[u8], methods: &[&str]) -> Vec<Reply> {
    let mut rest = wire;
    let mut methods = methods.iter();
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let (reply, used) = reply(rest, methods.next().copied().unwrap_or_default());
        replies.push(reply);
        rest = &rest[used..];
    }
    replies
}

fn reply(wire: &[u8], method: &str) -> (Reply, usize) {
    let mut interim = Vec::new();
    let mut at = 0;
    loop {
        let mut room = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut room);
        let Ok(httparse::Status::Complete(length)) = head.parse(&wire[at..]) else {
            panic!("not a response head: {}", wire[at..].escape_ascii());
        };
        at += length;
        let status = head.code.expect("a status");
        if status < 200 {
            assert!(!method.is_empty() && head.headers.iter().all(|field| field.name != "content-length"));
            interim.push(status);
            continue;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("these tests send ASCII");
        let fields: Vec<_> =
            head.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
        let minor_version = head.version.expect("a version");
        let (framed, used, body, trailers) = body(&wire[at..], status, method, &fields);
        return (Reply { interim, minor_version, status, fields, body, trailers, framed }, at + used);
    }
}

type Body = (Framed, usize, Vec<u8>, Vec<(String, String)>);

fn body(wire: &[u8], status: u16, method: &str, fields: &[(String, String)]) -> Body {
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "framed in two ways: {fields:?}");
    // A request that was refused may have been HEAD: its answer has a length and no body. Nothing follows it.
    let refused_head = method.is_empty() && wire.is_empty();
    if method == "HEAD" || refused_head || matches!(status, 204 | 304) {
        return (Framed::Empty, 0, Vec::new(), Vec::new());
    }
    match (lengths.first(), codings.first()) {
        (Some(length), _) => {
            let (body, trailers, used) = decode(wire, BodyFraming::Length(length.parse().expect("a length")));
            (Framed::Length, used, body, trailers)
        }
        (None, Some(coding)) => {
            assert_eq!(*coding, "chunked");
            let (body, trailers, used) = decode(wire, BodyFraming::Chunked);
            (Framed::Chunks, used, body, trailers)
        }
        (None, None) => (Framed::Close, wire.len(), wire.to_vec(), Vec::new()),
    }
}

fn decode(wire: &[u8], framing: BodyFraming) -> (Vec<u8>, Vec<(String, String)>, usize) {
    let (mut decoder, mut trailers) = (BodyDecoder::new(framing), Fields::default());
    let (mut body, mut at) = (Vec::new(), 0);
    while !decoder.is_ended() {
        let rest = &wire[at..];
        let step = decoder.decode(rest, usize::MAX, &Limits::default(), &mut trailers).expect("well formed");
        assert!(step.consumed > 0, "a body that does not end: {} bytes", wire.len());
        body.extend_from_slice(&rest[step.data]);
        at += step.consumed;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("these tests send ASCII");
    (body, trailers.iter().map(|(name, value)| (text(name), text(value))).collect(), at)
}
