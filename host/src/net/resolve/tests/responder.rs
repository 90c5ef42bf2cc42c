//! A name server on the loopback, over UDP, and over TCP for what it will not put into a datagram.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// What it says of a name.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Addresses of both families, and their TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// These, and not a word about the other family.
    OneFamily(RecordType, IpAddr, u32),
    /// These, but only over TCP.
    TooLong(Vec<IpAddr>, u32),
    /// Another name, whose addresses are left for the asker to find, and the TTL of that.
    Alias(&'static str, u32),
    /// No such name, for so many seconds.
    NoName(u32),
    ServFail,
    Silence,
    Garbage,
}

#[derive(Default)]
pub(super) struct Zone {
    replies: HashMap<String, Reply>,
    /// Each question once: a datagram that was sent again has the same number.
    queries: HashSet<(u16, String, RecordType)>,
}

pub(super) struct Responder {
    pub(super) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
}

impl Responder {
    pub(super) fn start() -> Self {
        // One port for both: another process may have that of the other protocol.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (of_udp, stop_udp) = (Arc::clone(&zone), Arc::clone(&stop));
        thread::spawn(move || {
            let mut buf = [0; 2_048];
            while let Ok((len, from)) = udp.recv_from(&mut buf)
                && !stop_udp.load(SeqCst)
            {
                if let Some(answer) = reply(&of_udp, &buf[..len], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let (of_tcp, stop_tcp) = (Arc::clone(&zone), Arc::clone(&stop));
        thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept()
                && !stop_tcp.load(SeqCst)
            {
                let zone = Arc::clone(&of_tcp);
                thread::spawn(move || serve(stream, &zone));
            }
        });
        Self { address, zone, stop }
    }

    /// While this is held, nothing is answered.
    pub(super) fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap()
    }

    pub(super) fn set(&self, name: &str, reply: Reply) {
        self.zone().replies.insert(name.to_owned(), reply);
    }

    /// How often `name` was asked for.
    pub(super) fn asked(&self, name: &str, record_type: RecordType) -> usize {
        self.zone().queries.iter().filter(|query| query.1 == name && query.2 == record_type).count()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(b"", self.address));
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, zone: &Mutex<Zone>) {
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        if let Some(answer) = reply(zone, &query, true) {
            let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&len, answer.as_slice()].concat()).is_err() {
                return;
            }
        }
    }
}

fn reply(zone: &Mutex<Zone>, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii().trim_end_matches('.').to_owned();
    let known = {
        let mut zone = zone.lock().unwrap();
        zone.queries.insert((query.metadata.id, name.clone(), question.query_type()));
        zone.replies.get(&name).cloned()
    };
    let mut answer = query.into_response();
    let record = |data, ttl| Record::from_rdata(question.name().clone(), ttl, data);
    let add = |answer: &mut Message, addresses: &[IpAddr], ttl| {
        let data = addresses.iter().map(|address| RData::from(*address));
        let data = data.filter(|data| data.record_type() == question.query_type());
        answer.add_answers(data.map(|data| record(data, ttl)));
    };
    match known.unwrap_or(Reply::NoName(1)) {
        Reply::Silence => return None,
        Reply::Garbage => {
            let mut bytes = answer.to_vec().unwrap();
            bytes.truncate(12);
            // Says that there are records, and ends.
            bytes[7] = 9;
            return Some(bytes);
        }
        Reply::ServFail => answer.metadata.response_code = ResponseCode::ServFail,
        Reply::NoName(minimum) => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            add_soa(&mut answer, &question, minimum);
        }
        Reply::OneFamily(family, _, _) if family != question.query_type() => return None,
        Reply::OneFamily(_, address, ttl) => add(&mut answer, &[address], ttl),
        Reply::Alias(target, ttl) => {
            let target = Name::from_ascii(format!("{target}.")).unwrap();
            answer.add_answer(record(RData::CNAME(CNAME(target)), ttl));
        }
        Reply::TooLong(..) if !over_tcp => answer.metadata.truncation = true,
        Reply::Addresses(addresses, ttl) | Reply::TooLong(addresses, ttl) => {
            add(&mut answer, &addresses, ttl);
            if answer.answers.is_empty() {
                add_soa(&mut answer, &question, ttl);
            }
        }
    }
    Some(answer.to_vec().unwrap())
}

fn add_soa(answer: &mut Message, question: &Query, minimum: u32) {
    let zone = question.name().clone();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, minimum);
    answer.add_authority(Record::from_rdata(zone, 3_600, RData::SOA(soa)));
}
