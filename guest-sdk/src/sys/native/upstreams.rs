//! Those whom handlers under test send requests to: functions that the test gives.
//!
//! A request is answered when its body has ended. What nobody was given for is refused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use http::{HeaderMap, Request, StatusCode};
use tidegate_abi::errno::{self, Errno};
use tidegate_abi::fetch::{Body, RequestView};
use tidegate_abi::poll::{ERROR, Entry, READABLE, WRITABLE};

use crate::fields::{pairs, to_map};

type Outcome<T = usize> = Result<T, Errno>;

const FIRST_HANDLE: u32 = 1 << 30;
/// Bytes of a body that are taken at once; the next time the handler waits there is room again.
const PIPE_BYTES: usize = 64 << 10;

/// What an upstream makes of a request: a response, or the code of a failure.
pub(crate) struct Answer {
    pub(crate) result: Result<(StatusCode, HeaderMap, Vec<u8>), String>,
    /// How long it takes.
    pub(crate) delay_ns: u64,
}

pub(crate) type Upstream = Rc<dyn Fn(Request<Vec<u8>>) -> Answer>;

thread_local! {
    static UPSTREAMS: RefCell<Vec<(String, Upstream)>> = const { RefCell::new(Vec::new()) };
}

/// Puts `upstream` behind `origin`, as in `http://a.internal`.
pub(crate) fn add(origin: &str, upstream: Upstream) {
    UPSTREAMS.with_borrow_mut(|all| all.push((origin.to_owned(), upstream)));
}

/// Takes away what was put there last.
pub(crate) fn remove(origin: &str) {
    UPSTREAMS.with_borrow_mut(|all| {
        if let Some(at) = all.iter().rposition(|(other, _)| other == origin) {
            all.remove(at);
        }
    });
}

fn find(origin: &str) -> Option<Upstream> {
    UPSTREAMS
        .with_borrow(|all| all.iter().rev().find(|(other, _)| other == origin).map(|(_, f)| Rc::clone(f)))
}

pub(crate) fn is_ours(handle: u32) -> bool {
    handle >= FIRST_HANDLE && handle != u32::MAX
}

#[derive(Default)]
pub(crate) struct Fetches {
    next: u32,
    open: BTreeMap<u32, Fetch>,
}

impl std::fmt::Debug for Fetches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests", self.open.len())
    }
}

struct Fetch {
    origin: String,
    /// Until the body has ended.
    request: Option<Request<Vec<u8>>>,
    full: bool,
    answer: Option<Answer>,
    due_ns: u64,
    read: usize,
}

fn parse(view: &RequestView<'_>) -> Option<(String, Request<Vec<u8>>)> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let scheme = if view.https() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", text(view.authority())?);
    let mut request = Request::new(Vec::new());
    *request.method_mut() = http::Method::from_bytes(view.method()).ok()?;
    *request.uri_mut() = format!("{origin}{}", text(view.path())?).parse().ok()?;
    *request.headers_mut() = to_map(view.fields());
    Some((origin, request))
}

impl Fetches {
    pub(super) fn begin(&mut self, head: &[u8], body: &[u8], bytes_max: usize, now_ns: u64) -> Outcome {
        if body.len() > bytes_max {
            return Err(errno::EMSGSIZE);
        }
        let view = RequestView::bounded(head).map_err(|_| errno::EINVAL)?;
        let (origin, mut request) = parse(&view).ok_or(errno::EINVAL)?;
        request.body_mut().extend_from_slice(body);
        let handle = FIRST_HANDLE + self.next;
        self.next += 1;
        let mut fetch =
            Fetch { origin, request: Some(request), full: false, answer: None, due_ns: now_ns, read: 0 };
        if view.body() == Body::Given {
            fetch.ask(now_ns);
        }
        self.open.insert(handle, fetch);
        Ok(handle as usize)
    }

    fn get(&mut self, handle: u32) -> Outcome<&mut Fetch> {
        self.open.get_mut(&handle).ok_or(errno::EBADF)
    }

    pub(super) fn head(&mut self, handle: u32, now_ns: u64) -> Outcome<Vec<u8>> {
        let (status, headers, _) = self.get(handle)?.answered(now_ns)?;
        let fields: Vec<_> = pairs(headers).collect();
        let head = tidegate_abi::fetch::Response { status: status.as_u16(), fields: fields.iter().copied() };
        let size = head.pack(&mut []).ok_or(errno::EIO)?;
        let mut packed = vec![0; size as usize];
        head.pack(&mut packed);
        Ok(packed)
    }

    pub(super) fn reason(&mut self, handle: u32, now_ns: u64) -> Outcome<String> {
        let fetch = self.get(handle)?;
        let is_due = now_ns >= fetch.due_ns;
        let failed = fetch.answer.as_ref().filter(|_| is_due).and_then(|answer| answer.result.as_ref().err());
        Ok(failed.cloned().unwrap_or_default())
    }

    /// How it failed; 0 if it has not.
    pub(super) fn error(&mut self, handle: u32, now_ns: u64) -> Errno {
        self.reason(handle, now_ns)
            .map_or(errno::EBADF, |reason| if reason.is_empty() { 0 } else { errno::EIO })
    }

    /// What can be read; 0 at the end.
    pub(super) fn peek(&mut self, handle: u32, now_ns: u64) -> Outcome {
        let fetch = self.get(handle)?;
        let read = fetch.read;
        fetch.answered(now_ns).map(|(_, _, body)| body.len() - read)
    }

    pub(super) fn read(&mut self, handle: u32, buf: &mut [u8], now_ns: u64) -> Outcome {
        let fetch = self.get(handle)?;
        let read = fetch.read;
        let (_, _, body) = fetch.answered(now_ns)?;
        let n = buf.len().min(body.len() - read);
        buf[..n].copy_from_slice(&body[read..read + n]);
        fetch.read += n;
        Ok(n)
    }

    pub(super) fn room(&mut self, handle: u32) -> Outcome {
        match self.get(handle)? {
            Fetch { request: None, .. } => Err(errno::EPIPE),
            Fetch { full: true, .. } => Err(errno::EAGAIN),
            _ => Ok(PIPE_BYTES),
        }
    }

    pub(super) fn write(&mut self, handle: u32, bytes: &[u8]) -> Outcome {
        let n = self.room(handle)?.min(bytes.len());
        let fetch = self.get(handle)?;
        fetch.full = n == PIPE_BYTES;
        if let Some(request) = &mut fetch.request {
            request.body_mut().extend_from_slice(&bytes[..n]);
        }
        Ok(n)
    }

    pub(super) fn finish(&mut self, handle: u32, now_ns: u64) -> Outcome {
        let fetch = self.get(handle)?;
        if fetch.request.is_none() {
            return Err(errno::EALREADY);
        }
        fetch.ask(now_ns);
        Ok(0)
    }

    pub(super) fn close(&mut self, handle: u32) -> Outcome {
        self.open.remove(&handle).map(|_| 0).ok_or(errno::EBADF)
    }

    pub(super) fn ready(&self, entry: Entry, now_ns: u64) -> u16 {
        let Some(fetch) = self.open.get(&entry.handle) else { return ERROR };
        let mut ready = 0;
        if fetch.answer.is_some() && now_ns >= fetch.due_ns {
            ready |= entry.interest & READABLE;
        }
        if !fetch.full {
            ready |= entry.interest & WRITABLE;
        }
        ready
    }

    pub(super) fn due_ns(&self, entry: &Entry) -> Option<u64> {
        let fetch = self.open.get(&entry.handle)?;
        let read = (entry.interest & READABLE != 0 && fetch.answer.is_some()).then_some(fetch.due_ns);
        read.or((entry.interest & WRITABLE != 0).then_some(0))
    }

    /// The handler has waited: upstreams have taken what there was.
    pub(super) fn drain(&mut self) {
        self.open.values_mut().for_each(|fetch| fetch.full = false);
    }
}

impl Fetch {
    /// The request is whole.
    fn ask(&mut self, now_ns: u64) {
        let Some(request) = self.request.take() else { return };
        let answer = match find(&self.origin) {
            Some(upstream) => upstream(request),
            None => {
                let why = format!("connection-refused: the test gives no upstream for {}", self.origin);
                Answer { result: Err(why), delay_ns: 0 }
            }
        };
        self.due_ns = now_ns.saturating_add(answer.delay_ns);
        self.answer = Some(answer);
    }

    fn answered(&self, now_ns: u64) -> Outcome<(StatusCode, &HeaderMap, &[u8])> {
        match &self.answer {
            Some(answer) if now_ns >= self.due_ns => match &answer.result {
                Ok((status, headers, body)) => Ok((*status, headers, body)),
                Err(_) => Err(errno::EIO),
            },
            _ => Err(errno::EAGAIN),
        }
    }
}
