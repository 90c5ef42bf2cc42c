//! Neighbours that do what they may not, for whoever measures how the others are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http::Client;
use crate::server::{App, Server};
use crate::stream::Addr;

/// Apps that spin.
const SPINS: usize = 4;

/// A server with one worker: four apps that spin, one that takes memory until it has as much as it may, one that floods its
/// log, and hello.
pub fn server(memory: &str, cpu: Option<usize>) -> Server {
    let patient = |app: App| app.limit("cpu", "60s").limit("wall", "300s");
    let mut builder = Server::builder().app(App::guest("hello")).option("--workers", "1");
    for number in 0..SPINS {
        builder = builder.app(patient(App::guest("spin").named(&format!("spin-{number}"))));
    }
    builder = builder.app(App::guest("bomb").limit("memory", memory)).app(App::guest("chatty"));
    cpu.into_iter().fold(builder, super::super::server::Builder::cpu).start()
}

/// What the neighbours did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Bombs that went off.
    pub bombs: u64,
    /// Requests that logged ten thousand lines.
    pub floods: u64,
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bombs, {} floods of ten thousand lines", self.bombs, self.floods)
    }
}

/// Neighbours at work, each over and over, until this ends.
pub struct Neighbours {
    spins: Vec<Client>,
    counts: Arc<[AtomicU64; 2]>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbours {
    /// They begin.
    pub fn begin(server: &Server) -> Self {
        let mut spins: Vec<Client> = (0..SPINS).map(|_| server.client()).collect();
        for (number, client) in spins.iter_mut().enumerate() {
            client.send_get(&format!("spin-{number}.test"), "/").expect("a spin begins");
        }
        let (counts, over) = (Arc::new([const { AtomicU64::new(0) }; 2]), Arc::new(AtomicBool::new(false)));
        let threads =
            [("bomb.test", "/", 0), ("chatty.test", "/10000", 1)].into_iter().map(|(host, path, at)| {
                let (addr, counts, over) = (server.addr().clone(), Arc::clone(&counts), Arc::clone(&over));
                std::thread::spawn(move || again(&addr, host, path, &counts[at], &over))
            });
        Self { spins, threads: threads.collect(), counts, over }
    }

    /// True once each has done its worst at least once.
    pub fn all_have_begun(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Acquire) > 0)
    }

    /// They end. What they did.
    pub fn end(self) -> Noise {
        self.over.store(true, Ordering::Release);
        drop(self.spins);
        for thread in self.threads {
            thread.join().expect("a neighbour");
        }
        let [bombs, floods] = &*self.counts;
        Noise { bombs: bombs.load(Ordering::Acquire), floods: floods.load(Ordering::Acquire) }
    }
}

fn again(addr: &Addr, host: &str, path: &str, count: &AtomicU64, over: &AtomicBool) {
    let mut client = Client::connect(addr).expect("a connection");
    client.set_patience(Duration::from_secs(300));
    while !over.load(Ordering::Acquire) {
        client.get(host, path).expect("an answer, if only an error");
        count.fetch_add(1, Ordering::AcqRel);
    }
}
