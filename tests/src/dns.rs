//! A name server for tests: a table of names that can be changed while it runs, over UDP and TCP on the loopback.
//!
//! Give its address to the server under test as `[server] dns = [..]`. It answers questions for A and AAAA, says of names
//! that are not in its table that there are none, and counts what it is asked. It repeats nothing and caches nothing.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::wait::PATIENCE;

/// What is said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, for `ttl` seconds; without any, that the name has none.
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    /// The same, but over TCP only: over UDP that it would not fit.
    OverTcp { addresses: Vec<IpAddr>, ttl: u32 },
    /// That it is another name for this one, for `ttl` seconds. If that is in the table too, what is said of it comes along.
    Alias { target: String, ttl: u32 },
    /// That there is no such name (NXDOMAIN); `minimum` is the SOA record's, in seconds.
    NoName { minimum: u32 },
    /// SERVFAIL.
    ServFail,
    /// Nothing.
    Silence,
    /// Bytes that begin as an answer does and are none.
    Garbage,
}

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const IN: u16 = 1;

const SERV_FAIL: u8 = 2;
const NX_DOMAIN: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// Bytes of the header.
const HEADER: usize = 12;
/// A name that stands where the question's does.
const NAME_OF_QUESTION: [u8; 2] = [0xc0, HEADER as u8];
/// Aliases that are followed for one answer.
const ALIASES_MAX: usize = 8;

#[derive(Default)]
struct Table {
    answers: HashMap<String, Answer>,
    /// What was said last of names that are not in the table.
    other: Option<Answer>,
    /// How often each name was asked for, either family.
    asked: HashMap<String, usize>,
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    came: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name server. It ends when it is dropped.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Dns {
    /// Listens on a port of its own.
    pub fn start() -> Self {
        let (udp, tcp) = bind();
        let address = udp.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let of_udp = Arc::clone(&shared);
        thread::spawn(move || serve_udp(&udp, &of_udp));
        let of_tcp = Arc::clone(&shared);
        thread::spawn(move || serve_tcp(&tcp, &of_tcp));
        Self { address, shared }
    }

    /// Where it listens, for both protocols.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` has these addresses. Also how a name is made to lead elsewhere (rebinding).
    pub fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let parse = |text: &&str| text.parse().unwrap_or_else(|_| panic!("{text:?} is not an address"));
        self.say(name, Answer::Addresses { addresses: addresses.iter().map(parse).collect(), ttl });
    }

    /// From now on `answer` is what is said of `name`.
    pub fn say(&self, name: &str, answer: Answer) {
        self.shared.table().answers.insert(key(name), answer);
    }

    /// From now on `answer` is what is said of all names that are not in the table.
    pub fn say_of_others(&self, answer: Answer) {
        self.shared.table().other = Some(answer);
    }

    /// From now on there is no such name.
    pub fn remove(&self, name: &str) {
        self.shared.table().answers.remove(&key(name));
    }

    /// How many questions for `name` have come. One lookup is two, for A and AAAA; a datagram that was sent again counts.
    pub fn asked(&self, name: &str) -> usize {
        self.shared.table().asked.get(&key(name)).copied().unwrap_or(0)
    }

    /// How many questions have come.
    pub fn asked_in_all(&self) -> usize {
        self.shared.table().asked.values().sum()
    }

    /// Waits until `count` questions for `name` have come; panics if they do not.
    pub fn until_asked(&self, name: &str, count: usize) {
        let name = key(name);
        let end = Instant::now() + PATIENCE;
        let mut table = self.shared.table();
        loop {
            let asked = table.asked.get(&name).copied().unwrap_or(0);
            if asked >= count {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {count} questions for {name}: {asked} came");
            table = self.shared.came.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Something for each thread to wake up for.
        let _ =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect(self.address);
    }
}

/// One port for both protocols: that of one may be in use for the other.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP port on the loopback");
        let address = udp.local_addr().expect("a bound socket has an address");
        if let Ok(tcp) = TcpListener::bind(address) {
            return (udp, tcp);
        }
    }
    panic!("no port on the loopback is free for both UDP and TCP");
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buf = [0; 4_096];
    loop {
        let received = socket.recv_from(&mut buf);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if let Ok((len, from)) = received
            && let Some(answer) = answer(shared, &buf[..len], false)
        {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if let Ok((stream, _)) = accepted {
            let shared = Arc::clone(shared);
            thread::spawn(move || serve_stream(stream, &shared));
        }
    }
}

/// Until the client ends it. A message has its length before it (RFC 1035, section 4.2.2).
fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut len = [0; 2];
    loop {
        stream.read_exact(&mut len)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut question)?;
        if let Some(answer) = answer(shared, &question, true) {
            let mut message = Vec::with_capacity(answer.len() + 2);
            put_block(&mut message, &answer);
            stream.write_all(&message)?;
        }
    }
}

/// Names are compared in lower case, without the trailing dot.
fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The one question of a message: its name, its type, and where it ends.
fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(str::from_utf8(message.get(at..at + len)?).ok()?.to_ascii_lowercase());
        at += len;
    }
    let kind = message.get(at..at + 2)?;
    message.get(at + 2..at + 4)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]]), at + 4))
}

fn answer(shared: &Shared, message: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let (name, kind, end) = question(message)?;
    let mut table = shared.table();
    *table.asked.entry(name.clone()).or_default() += 1;
    shared.came.notify_all();
    let said = |name: &str| table.answers.get(name).or(table.other.as_ref()).cloned();

    let mut reply = Reply::new(&message[..end]);
    let mut owner = NAME_OF_QUESTION.to_vec();
    let mut next = said(&name).unwrap_or(Answer::NoName { minimum: 1 });
    if !matches!(kind, A | AAAA) && matches!(next, Answer::Addresses { .. } | Answer::OverTcp { .. }) {
        return Some(reply.end(NOT_IMPLEMENTED));
    }
    for _ in 0..ALIASES_MAX {
        match next {
            Answer::Silence => return None,
            Answer::Garbage => {
                // It announces records and has none.
                reply.answers = 9;
                return Some(reply.end(0));
            }
            Answer::ServFail => return Some(reply.end(SERV_FAIL)),
            Answer::NoName { minimum } => {
                reply.authority(minimum);
                return Some(reply.end(NX_DOMAIN));
            }
            Answer::OverTcp { .. } if !over_tcp => {
                reply.truncated = true;
                return Some(reply.end(0));
            }
            Answer::Addresses { addresses, ttl } | Answer::OverTcp { addresses, ttl } => {
                for address in addresses {
                    match address {
                        IpAddr::V4(address) if kind == A => reply.record(&owner, A, ttl, &address.octets()),
                        IpAddr::V6(address) if kind == AAAA => {
                            reply.record(&owner, AAAA, ttl, &address.octets())
                        }
                        _ => {}
                    }
                }
                if reply.answers == 0 {
                    reply.authority(ttl);
                }
                return Some(reply.end(0));
            }
            Answer::Alias { target, ttl } => {
                let name_of_target = encode(&target);
                reply.record(&owner, CNAME, ttl, &name_of_target);
                owner = name_of_target;
                match table.answers.get(&key(&target)).cloned() {
                    Some(answer) => next = answer,
                    // The asker is to find out by itself.
                    None => return Some(reply.end(0)),
                }
            }
        }
    }
    Some(reply.end(SERV_FAIL))
}

/// A message that answers a question, as it grows.
struct Reply {
    bytes: Vec<u8>,
    truncated: bool,
    answers: u16,
    authorities: u16,
}

impl Reply {
    /// `question` is the header and the question.
    fn new(question: &[u8]) -> Self {
        Self { bytes: question.to_vec(), truncated: false, answers: 0, authorities: 0 }
    }

    fn record(&mut self, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) {
        self.put(owner, kind, ttl, data);
        self.answers += 1;
    }

    /// The SOA record that says for how long there is nothing.
    fn authority(&mut self, minimum: u32) {
        // A name of the server, one of who runs it, the serial number and three intervals.
        let mut data = vec![0, 0];
        for number in [1, 3_600, 600, 86_400, minimum] {
            data.extend(u32::to_be_bytes(number));
        }
        self.put(&NAME_OF_QUESTION, SOA, minimum, &data);
        self.authorities += 1;
    }

    fn put(&mut self, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) {
        self.bytes.extend_from_slice(owner);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
        put_block(&mut self.bytes, data);
    }

    /// The message, with its header (RFC 1035, section 4.1.1).
    fn end(mut self, code: u8) -> Vec<u8> {
        // An answer, by an authority, to an ordinary question; the asker's wish for recursion stays as it is.
        self.bytes[2] = 0x84 | (self.bytes[2] & 1) | if self.truncated { 2 } else { 0 };
        self.bytes[3] = 0x80 | code;
        for (at, count) in [(4, 1), (6, self.answers), (8, self.authorities), (10, 0)] {
            self.bytes[at..at + 2].copy_from_slice(&u16::to_be_bytes(count));
        }
        self.bytes
    }
}

/// Bytes with their length before them.
fn put_block(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u16::try_from(bytes.len()).expect("a message of less than 64 KiB").to_be_bytes());
    into.extend_from_slice(bytes);
}

/// A name as labels, without pointers.
fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in key(name).split('.') {
        assert!((1..64).contains(&label.len()), "{name:?} is not a name");
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        // Number 0x1234, recursion wanted, one question.
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode(name));
        message.extend(kind.to_be_bytes());
        message.extend(IN.to_be_bytes());
        message
    }

    fn over_udp(dns: &Dns, message: &[u8], within: Duration) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(within)).unwrap();
        socket.send_to(message, dns.address()).unwrap();
        let mut buf = [0; 4_096];
        socket.recv(&mut buf).ok().map(|len| buf[..len].to_vec())
    }

    fn over_tcp(dns: &Dns, message: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(dns.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut framed = Vec::new();
        put_block(&mut framed, message);
        stream.write_all(&framed).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    /// Flags, code, and the counts of answers and authorities.
    fn header(answer: &[u8]) -> (u8, u8, u8, u8) {
        assert_eq!(answer[..2], [0x12, 0x34]);
        (answer[2], answer[3] & 15, answer[7], answer[9])
    }

    #[test]
    fn a_name_is_answered_for_either_family_and_can_be_changed() {
        let dns = Dns::start();
        dns.set("Db.Example.", &["192.0.2.1", "2001:db8::1"], 60);
        let question = ask("db.EXAMPLE", A);
        let answer = over_udp(&dns, &question, PATIENCE).unwrap();
        assert_eq!(header(&answer), (0x85, 0, 1, 0));
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
        assert_eq!(answer[question.len()..], record);
        let answer = over_udp(&dns, &ask("db.example", AAAA), PATIENCE).unwrap();
        assert!(
            answer.ends_with(&[0, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            "{answer:?}"
        );
        dns.set("db.example", &["10.0.0.1"], 60);
        assert!(over_udp(&dns, &question, PATIENCE).unwrap().ends_with(&[0, 4, 10, 0, 0, 1]));
        let none = over_udp(&dns, &ask("db.example", AAAA), PATIENCE).unwrap();
        assert_eq!(header(&none), (0x85, 0, 0, 1), "it has no address of this family");
        dns.until_asked("DB.example", 4);
        assert_eq!((dns.asked("db.example"), dns.asked_in_all()), (4, 4));
    }

    #[test]
    fn failures_are_as_they_are_wanted() {
        let dns = Dns::start();
        let question = ask("db.example", A);
        let answer = over_udp(&dns, &question, PATIENCE).unwrap();
        assert_eq!(header(&answer), (0x85, NX_DOMAIN, 0, 1), "a name that is not in the table");
        dns.say("db.example", Answer::NoName { minimum: 30 });
        assert!(over_udp(&dns, &question, PATIENCE).unwrap().ends_with(&[0, 0, 0, 30]));
        dns.say("db.example", Answer::ServFail);
        assert_eq!(header(&over_udp(&dns, &question, PATIENCE).unwrap()), (0x85, SERV_FAIL, 0, 0));
        dns.say("db.example", Answer::Garbage);
        let answer = over_udp(&dns, &question, PATIENCE).unwrap();
        assert_eq!((header(&answer), answer.len()), ((0x85, 0, 9, 0), question.len()));
        dns.say_of_others(Answer::ServFail);
        dns.remove("db.example");
        assert_eq!(header(&over_udp(&dns, &question, PATIENCE).unwrap()).1, SERV_FAIL);
        dns.say("db.example", Answer::Silence);
        assert_eq!(over_udp(&dns, &question, Duration::from_millis(50)), None);
        dns.until_asked("db.example", 6);
    }

    #[test]
    fn what_does_not_fit_comes_over_tcp() {
        let dns = Dns::start();
        let addresses = (0..200).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        dns.say("many.example", Answer::OverTcp { addresses, ttl: 60 });
        let question = ask("many.example", A);
        assert_eq!(header(&over_udp(&dns, &question, PATIENCE).unwrap()), (0x87, 0, 0, 0));
        let answer = over_tcp(&dns, &question);
        assert_eq!((header(&answer), answer.len()), ((0x85, 0, 200, 0), question.len() + 200 * 16));
    }

    #[test]
    fn an_alias_brings_what_is_known_of_its_target() {
        let dns = Dns::start();
        dns.say("www.example", Answer::Alias { target: "web.example".into(), ttl: 60 });
        let question = ask("www.example", A);
        assert_eq!(header(&over_udp(&dns, &question, PATIENCE).unwrap()), (0x85, 0, 1, 0));
        dns.set("web.example", &["192.0.2.1"], 60);
        let answer = over_udp(&dns, &question, PATIENCE).unwrap();
        assert_eq!(header(&answer), (0x85, 0, 2, 0));
        assert!(answer.ends_with(&[0, 4, 192, 0, 2, 1]));
        dns.say("web.example", Answer::Alias { target: "www.example".into(), ttl: 60 });
        assert_eq!(header(&over_udp(&dns, &question, PATIENCE).unwrap()).1, SERV_FAIL, "a circle");
    }

    #[test]
    fn its_port_is_free_again_when_it_is_gone() {
        let dns = Dns::start();
        let address = dns.address();
        drop(dns);
        crate::wait::until("its threads have ended", || {
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        });
    }
}
