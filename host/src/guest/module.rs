//! What a module keeps in its Store: its memory, and the handles of the request it serves.

use std::sync::Arc;

use tidegate_abi::errno::Errno;
use tidegate_abi::socket::HANDLES_MAX;
use wasmtime::Memory;

use super::crash::{Crash, LastWords};
use super::engine::Mode;
use super::program::Program;
use super::state::{Side, end_lines, end_words};
use crate::exchange::{Exchange, RequestId};
use crate::kv::{Held, Pending};
use crate::net::connect::{Connection, Names};
use crate::net::http::Call;
use crate::net::tcp::TcpStream;
use crate::net::udp::UdpSocket;
use crate::observe::guest_log::Lines;

/// The first handle; smaller numbers are kept free of meaning.
const FIRST_HANDLE: u32 = 3;
/// Numbers end here, so that a result that is a handle is never negative.
const LAST_HANDLE: u32 = i32::MAX as u32;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    RequestBody,
    ResponseBody,
    /// What the guest has opened, by its place among them. It holds until one of them is closed.
    Opened(usize),
}

/// What a guest opens by itself.
#[derive(Debug)]
pub(crate) enum Opened {
    Tcp(Box<Connection<TcpStream>>),
    Udp(Box<Connection<UdpSocket>>),
    Names(Box<Names>),
    Fetch(Box<Fetch>),
    Stored(Box<Stored>),
}

/// A request to another.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) call: Arc<Call>,
    /// The guest has ended its body, or there is nothing of it to come.
    pub(crate) finished: bool,
    /// The response's head is there.
    pub(crate) head: bool,
}

/// An operation on the key-value store.
#[derive(Debug)]
pub(crate) enum Stored {
    Waiting(Pending),
    /// What came of it, and how much of that was read.
    Over {
        bytes: Vec<u8>,
        read: usize,
        #[allow(dead_code, reason = "for as long as this is there, the bytes count as held by the app")]
        held: Held,
    },
    Failed(Errno),
}

/// The handles of a call. A number is never given twice within an instance.
#[derive(Debug)]
pub(crate) struct Handles {
    request_body: u32,
    request_open: bool,
    response_open: bool,
    /// The next number that is free.
    next: u32,
    /// What the guest has opened, by numbers that rise.
    opened: Vec<(u32, Opened)>,
}

impl Handles {
    const fn new() -> Self {
        let next = FIRST_HANDLE + 2;
        Self { request_body: FIRST_HANDLE, request_open: true, response_open: true, next, opened: Vec::new() }
    }

    /// Numbers for the next request.
    fn renew(&mut self) {
        self.end();
        // A guest that comes to the last number in its life has none but bad ones from then on.
        self.request_body = self.next;
        self.next = self.next.saturating_add(2);
        self.request_open = self.next < LAST_HANDLE;
        self.response_open = self.request_open;
    }

    /// The call is over: what it opened is closed.
    fn end(&mut self) {
        self.request_open = false;
        self.response_open = false;
        self.opened = Vec::new();
    }

    /// This call serves a connection, and no request: there are no bodies. Returns the number of the connection's handle.
    pub(crate) fn serve_connection(&mut self, stream: TcpStream) -> u32 {
        self.request_open = false;
        self.response_open = false;
        let connection = Opened::Tcp(Box::new(Connection::open(stream)));
        // An instance that has no numbers left serves nobody: 0 is a bad handle.
        self.open(connection).unwrap_or(0)
    }

    pub(crate) fn request_body(&self) -> u32 {
        self.request_body
    }

    pub(crate) fn response_body(&self) -> u32 {
        self.request_body.saturating_add(1)
    }

    /// True if there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.opened.len() < HANDLES_MAX && self.next < LAST_HANDLE
    }

    /// Gives a number to what was opened. None: there is no room.
    pub(crate) fn open(&mut self, opened: Opened) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.opened.push((number, opened));
        Some(number)
    }

    pub(crate) fn find(&self, number: u32) -> Option<Handle> {
        if number == self.request_body() && self.request_open {
            Some(Handle::RequestBody)
        } else if number == self.response_body() && self.response_open {
            Some(Handle::ResponseBody)
        } else {
            self.opened.binary_search_by_key(&number, |(number, _)| *number).ok().map(Handle::Opened)
        }
    }

    /// What stands at a place.
    pub(crate) fn opened(&mut self, place: usize) -> Option<&mut Opened> {
        self.opened.get_mut(place).map(|(_, opened)| opened)
    }

    /// What stands at two places; None if they are one.
    pub(crate) fn two_opened(&mut self, one: usize, other: usize) -> Option<(&mut Opened, &mut Opened)> {
        let [one, other] = self.opened.get_disjoint_mut([one, other]).ok()?;
        Some((&mut one.1, &mut other.1))
    }

    pub(crate) fn close(&mut self, handle: Handle) {
        match handle {
            Handle::RequestBody => self.request_open = false,
            Handle::ResponseBody => self.response_open = false,
            Handle::Opened(place) => {
                if place < self.opened.len() {
                    self.opened.remove(place);
                }
            }
        }
    }
}

/// What a module keeps in its Store.
#[derive(Debug)]
pub(crate) struct ModuleSide {
    /// The guest's memory, once it is instantiated.
    pub(crate) memory: Option<Memory>,
    pub(crate) handles: Handles,
    /// Standard output and standard error, cut into lines.
    pub(crate) stdio: [Lines; 2],
    /// What the guest said last, where its author is to be told of its end.
    pub(crate) words: Option<Box<LastWords>>,
}

impl ModuleSide {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            memory: None,
            handles: Handles::new(),
            stdio: Default::default(),
            words: (mode == Mode::Dev).then(Box::default),
        }
    }
}

impl Side for ModuleSide {
    fn renew(&mut self, _: &Arc<Exchange>) {
        self.handles.renew();
    }

    fn end(&mut self, program: &Program, id: &RequestId) {
        self.handles.end();
        end_words(self.words.as_deref_mut(), program, id);
        end_lines(&mut self.stdio, program, id);
    }

    fn crash(&mut self, error: &wasmtime::Error) -> Option<Box<Crash>> {
        self.words.as_deref_mut().map(|words| Box::new(Crash::new(error, words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connect::Names;

    fn names() -> Opened {
        Opened::Names(Box::new(Names::of("127.0.0.1".parse().unwrap())))
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut handles = Handles::new();
        assert_eq!((handles.request_body(), handles.response_body()), (3, 4));
        let (first, second) = (handles.open(names()).unwrap(), handles.open(names()).unwrap());
        assert_eq!((first, second), (5, 6));
        handles.close(handles.find(first).unwrap());
        assert_eq!(handles.find(first), None);
        assert_eq!(handles.find(second), Some(Handle::Opened(0)), "its place has moved, its number has not");
        assert_eq!(handles.open(names()), Some(7));
        // Another request, and nothing of the one before.
        handles.end();
        assert!([3, 4, 6, 7].into_iter().all(|number| handles.find(number).is_none()));
        handles.renew();
        assert_eq!((handles.request_body(), handles.response_body()), (8, 9));
        assert_eq!(handles.find(8), Some(Handle::RequestBody));
        assert_eq!(handles.open(names()), Some(10));
    }

    #[test]
    fn a_call_has_so_many_open_and_no_more() {
        let mut handles = Handles::new();
        for _ in 0..HANDLES_MAX {
            assert!(handles.has_room() && handles.open(names()).is_some());
        }
        assert!(!handles.has_room() && handles.open(names()).is_none());
        handles.close(handles.find(7).unwrap());
        assert!(handles.open(names()).is_some(), "there is room again");
        assert!(handles.open(names()).is_none());
    }

    #[test]
    fn numbers_come_to_an_end_and_do_not_begin_again() {
        let mut handles = Handles::new();
        handles.next = LAST_HANDLE - 3;
        handles.renew();
        assert_eq!(handles.find(LAST_HANDLE - 3), Some(Handle::RequestBody));
        assert_eq!(handles.open(names()), Some(LAST_HANDLE - 1));
        assert_eq!(handles.open(names()), None);
        handles.renew();
        assert_eq!((handles.find(handles.request_body()), handles.find(3)), (None, None));
        assert_eq!(handles.open(names()), None);
    }

    #[test]
    fn two_places_are_two_things() {
        let mut handles = Handles::new();
        handles.open(names()).unwrap();
        handles.open(names()).unwrap();
        assert!(handles.two_opened(1, 0).is_some());
        assert!(handles.two_opened(0, 0).is_none() && handles.two_opened(0, 2).is_none());
    }
}
