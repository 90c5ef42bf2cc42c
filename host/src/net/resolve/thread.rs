//! The thread that asks name servers, and the way to it.
//!
//! It runs an executor of its own that drives the resolver crate's sockets and timers; no worker ever does. It sleeps while
//! there is nothing to ask, and ends when the [`Line`] to it is dropped: what it has not answered by then fails.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ask::Found;
use super::source::{Servers, Source};
use super::{Patience, Query};

/// Carries queries to the thread, and starts it for the first.
pub(super) struct Line {
    servers: Servers,
    patience: Patience,
    /// What waits in it is bounded by the queries that may be under way.
    sender: Mutex<Option<UnboundedSender<Query>>>,
    /// That there is no thread was logged.
    told: AtomicBool,
}

impl Line {
    pub(super) fn new(servers: Servers, patience: Patience) -> Self {
        Self { servers, patience, sender: Mutex::new(None), told: AtomicBool::new(false) }
    }

    /// Hands `query` over. It fails if there is no thread and none can be started.
    pub(super) fn send(&self, query: Query) {
        match self.sender() {
            // One that comes back is dropped, and so fails.
            Ok(sender) => drop(sender.send(query)),
            Err(error) => {
                let text = format!("the thread that resolves names cannot be started: {error}");
                if !self.told.swap(true, Relaxed) {
                    tracing::error!("{text}");
                }
                query.answer(Found::failed(&text));
            }
        }
    }

    fn sender(&self) -> io::Result<UnboundedSender<Query>> {
        let mut line = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is closed led to a thread that is gone, which is a bug; the next one may do better.
        if let Some(sender) = line.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, receiver) = unbounded_channel();
        let source = Source::new(self.servers.clone(), self.patience);
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(serve(receiver, source)))?;
        *line = Some(sender.clone());
        Ok(sender)
    }

    #[cfg(test)]
    pub(super) fn is_started(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Until the resolver is gone. Each query is a task of its own: one that panics fails, and harms no other.
async fn serve(mut receiver: UnboundedReceiver<Query>, mut source: Source) {
    while let Some(query) = receiver.recv().await {
        match source.current() {
            Ok(dns) => drop(tokio::spawn(async move {
                let found = dns.find(&query.name).await;
                if let Err(error) = &found.answer {
                    tracing::debug!(name = &*query.name, %error, "a name has no address");
                }
                query.answer(found);
            })),
            Err(text) => query.answer(Found::failed(&text)),
        }
    }
}
