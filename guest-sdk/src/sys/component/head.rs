//! The request's head, asked for once and packed as a module's host does it.

use tidegate_abi::request::RequestHead;
use wasip2::http::types::{IncomingRequest, Method, Scheme};

use super::Handles;

/// What a request says of itself.
pub(super) struct Head {
    method: String,
    target: String,
    authority: String,
    secure: bool,
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    pub(super) fn take(request: &IncomingRequest) -> Self {
        let method = match request.method() {
            Method::Get => "GET".to_owned(),
            Method::Head => "HEAD".to_owned(),
            Method::Post => "POST".to_owned(),
            Method::Put => "PUT".to_owned(),
            Method::Delete => "DELETE".to_owned(),
            Method::Connect => "CONNECT".to_owned(),
            Method::Options => "OPTIONS".to_owned(),
            Method::Trace => "TRACE".to_owned(),
            Method::Patch => "PATCH".to_owned(),
            Method::Other(name) => name,
        };
        // No path is how `*` comes, which only OPTIONS has (RFC 9112 section 3.2.4).
        let no_path = || if method == "OPTIONS" { "*" } else { "/" }.to_owned();
        let target = request.path_with_query().filter(|path| !path.is_empty()).unwrap_or_else(no_path);
        let mut fields = request.headers().entries();
        for (name, _) in &mut fields {
            name.make_ascii_lowercase();
        }
        Self {
            method,
            target,
            authority: request.authority().unwrap_or_default(),
            secure: matches!(request.scheme(), Some(Scheme::Https)),
            fields,
        }
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// The value of the first field of that name.
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// Whether the head says that a body follows, or that none does: by its length, or by asking before it is sent.
    pub(super) fn tells_of_body(&self) -> bool {
        self.field("content-length").is_some() || self.field("expect").is_some()
    }

    /// A length of zero, however many digits it has.
    fn declares_nothing(&self) -> bool {
        self.field("content-length").is_some_and(|length| length.iter().all(|digit| *digit == b'0'))
    }

    /// As the import `request_head`.
    pub(super) fn pack(&self, handles: Handles, buf: &mut [u8]) -> i32 {
        let host = self.host().into_iter();
        let fields = self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let head = RequestHead {
            http_minor: 1,
            secure: self.secure,
            has_body: !self.declares_nothing(),
            request_body: handles.request_body,
            response_body: handles.response_body,
            mount_len: 0,
            deadline_ns: u64::MAX,
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            authority: self.authority.as_bytes(),
            peer: b"",
            local: b"",
            request_id: b"",
            params: std::iter::empty(),
            fields: host.chain(fields),
        };
        // Larger than 2 GiB it cannot be: it stands in a memory of four, twice.
        head.pack(buf).and_then(|size| i32::try_from(size).ok()).unwrap_or(-tidegate_abi::errno::EMSGSIZE)
    }

    /// `host` as a header, where the host of `wasi:http` keeps it to itself.
    fn host(&self) -> Option<(&[u8], &[u8])> {
        let is_hidden = !self.authority.is_empty() && self.field("host").is_none();
        is_hidden.then_some((b"host".as_slice(), self.authority.as_bytes()))
    }
}
