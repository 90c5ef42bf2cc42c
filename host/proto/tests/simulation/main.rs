//! The server's half against the clients' over a simulated network, on virtual time: splits, delays, buffers that fill,
//! half-closes, resets, peers that are slow or gone, and timers that are looked at late.
//!
//! Everything follows from a seed, which a failure prints. `TIDEGATE_SIM_SEED=N` runs that one alone,
//! `TIDEGATE_SIM_SEEDS=N` so many instead of the few hundred of every test run.
//!
//! Held to in each run: bytes arrive in order, and all of them or the connection's end tells; nothing comes of input that
//! was refused, and nothing leaves behind the end; no deadline is missed, and none is missing where the peer is waited for;
//! buffers stay within their bounds; both sides end.

mod client;
mod dice;
mod guest;
mod network;
mod plan;
mod reader;
mod server;

use std::collections::BTreeMap;

use client::{Account, Client, End};
use dice::Dice;
use network::Link;
use plan::{Exchange, Plan, Trouble};
use reader::Reply;
use server::Server;
use tidegate_proto::conn::Timeout;

const SEEDS: u64 = 600;
/// Far more than any run needs.
const TURNS_MAX: usize = 3_000_000;

/// Says which run failed.
struct Tell(u64, Plan);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TIDEGATE_SIM_SEED={} fails; its plan: {:?}", self.0, self.1);
        }
    }
}

/// What runs have come upon, so that none of it is missed unseen.
type Met = BTreeMap<&'static str, usize>;

fn run(seed: u64, met: &mut Met) {
    let mut dice = Dice::new(seed);
    let plan = Plan::new(&mut dice);
    let tell = Tell(seed, plan.clone());
    let mut up = Link::new(plan.up, dice.split());
    let mut down = Link::new(plan.down, dice.split());
    let mut server = Server::new(&plan, dice.split());
    let mut client = Client::new(&plan, dice.split());
    let mut now = 0;
    let mut turns = 0;
    loop {
        up.deliver(now);
        down.deliver(now);
        if up.offended {
            up.offended = false;
            down.abort(now);
        }
        let mut moved = false;
        // Whose turn is first is nobody's to rely on.
        for who in if dice.once_in(2) { [0, 1] } else { [1, 0] } {
            moved |= if who == 0 {
                server.turn(now, &mut up, &mut down)
            } else {
                client.turn(now, &mut up, &mut down)
            };
        }
        turns += 1;
        assert!(turns < TURNS_MAX, "it does not come to an end");
        if server.is_closed() && client.is_over(now) {
            break;
        }
        if moved {
            continue;
        }
        let times = [up.next_at(), down.next_at(), server.next_at(now), client.next_at(now)];
        let next = times.into_iter().flatten().min();
        now = next.unwrap_or_else(|| panic!("nothing more can happen: {server:?} {client:?}")).max(now + 1);
    }
    let account = client.account();
    check(&tell.1, &server, &account);
    count(&tell.1, &server, &account, met);
}

fn check(plan: &Plan, server: &Server, account: &Account) {
    assert!(server.seen.len() <= account.begun, "a request that nobody sent");
    for (number, seen) in server.seen.iter().enumerate() {
        let exchange = &plan.exchanges[number];
        let sent = exchange.body(number);
        assert!(sent.starts_with(&seen.body), "the guest of {number} saw another body");
        assert!(
            exchange.body_max.is_none_or(|max| seen.body.len() <= max),
            "the guest of {number} saw too much"
        );
        if let Some(trailers) = seen.whole {
            assert_eq!(seen.body.len(), sent.len(), "the body of {number} ended early");
            assert_eq!(trailers, usize::from(exchange.chunked), "the trailers of {number}");
        }
    }
    for (number, reply) in account.replies.iter().enumerate() {
        check_reply(plan, number, reply, number + 1 == account.replies.len());
    }
    if let Some(partial) = &account.partial {
        let number = account.replies.len();
        let answer = plan.exchanges[number].answer(number);
        let ours = partial.status == plan.exchanges[number].status;
        assert!(!ours || answer.starts_with(&partial.body), "another answer to {number}");
        assert!(!partial.until_close || account.end != End::Fin, "an answer that was cut ended cleanly");
    }
    if matches!(plan.trouble, Trouble::None | Trouble::HalfClose) {
        check_calm(plan, server, account);
    }
}

fn check_reply(plan: &Plan, number: usize, reply: &Reply, last: bool) {
    let exchange = &plan.exchanges[number];
    if reply.status == exchange.status {
        let expected = exchange.seen_answer(number);
        assert!(reply.body == expected, "{} bytes of {} to {number}", reply.body.len(), expected.len());
        let bodiless = exchange.method == "HEAD" || matches!(exchange.status, 204 | 304);
        let chunked = exchange.trailers && !exchange.http10 && !bodiless;
        assert_eq!(reply.trailers, usize::from(chunked), "the trailers of the answer to {number}");
        return;
    }
    let due = match reply.status {
        413 => last && exchange.body_max.is_some_and(|max| max < exchange.body_bytes),
        408 => last && !matches!(plan.trouble, Trouble::None | Trouble::HalfClose | Trouble::SlowReader),
        502 => exchange.fails_after.is_some(),
        _ => false,
    };
    assert!(due, "{} to {number}, which was to be answered with {}", reply.status, exchange.status);
}

/// Whether no request behind this one needs to be answered.
fn may_end(exchange: &Exchange) -> bool {
    let leaves_much = exchange.body_bytes > 60_000 && exchange.answers_early();
    let ends = exchange.close || exchange.http10 || exchange.expect || exchange.fails_after.is_some();
    ends || leaves_much || exchange.body_max.is_some()
}

/// Nothing went wrong: all that had to be answered was, and as a whole.
fn check_calm(plan: &Plan, server: &Server, account: &Account) {
    // Once the client has what it came for and is gone, a guest that goes on for nobody may be ended.
    let bad = |timeout: &&Timeout| !matches!(timeout, Timeout::Linger | Timeout::HalfClose);
    assert_eq!(server.timeouts.iter().find(bad), None, "nobody was slow");
    let fails = plan.exchanges.iter().any(|exchange| exchange.fails_after.is_some());
    if fails && account.end == End::Reset {
        // It takes with it what had arrived and was not read.
        return;
    }
    for (number, exchange) in plan.exchanges.iter().enumerate() {
        // An answer that has begun is cut where its request turns out to be too large.
        let too_large = exchange.body_max.is_some_and(|max| max < exchange.body_bytes);
        if exchange.fails_after.is_some() || (too_large && exchange.answers_early()) {
            return;
        }
        let Some(reply) = account.replies.get(number) else {
            let (end, seen) = (account.end, server.seen.len());
            panic!("{number} was not answered, of {seen} that came; {end:?}, {:?}", server.timeouts);
        };
        if exchange.body_bytes > 0
            && exchange.reads
            && exchange.body_max.is_none()
            && reply.status == exchange.status
        {
            let whole = server.seen[number].whole.is_some();
            assert!(
                whole || exchange.answers_after != usize::MAX || exchange.expect,
                "{number} was not read"
            );
        }
        // The client of this crate gives up a connection that answers before it was asked.
        if reply.closes || may_end(exchange) || (plan.pooled && exchange.answers_early()) {
            return;
        }
    }
}

fn count(plan: &Plan, server: &Server, account: &Account, met: &mut Met) {
    let mut add = |what, n: usize| *met.entry(what).or_default() += n;
    for timeout in &server.timeouts {
        let what = match timeout {
            Timeout::Idle => "idle",
            Timeout::Head => "late head",
            Timeout::Body => "late body",
            Timeout::Reader => "slow reader",
            Timeout::HalfClose => "still after a half-close",
            Timeout::Linger => "long linger",
        };
        add(what, 1);
    }
    add("answers", account.replies.len());
    add("several answers on one connection", usize::from(account.replies.len() > 1));
    add("several answers to the client of this crate", usize::from(plan.pooled && account.replies.len() > 1));
    add("cut answers", usize::from(account.partial.is_some()));
    add("100", account.continues);
    add("413", server.statuses.iter().filter(|status| **status == 413).count());
    add("408", server.statuses.iter().filter(|status| **status == 408).count());
    add("502", server.statuses.iter().filter(|status| **status == 502).count());
    add("resets", usize::from(account.end == End::Reset));
    add("lingering", usize::from(server.lingered));
    add("full pipes", usize::from(server.was_full));
    add("full sockets", usize::from(server.was_blocked));
    add("trailers of requests", server.seen.iter().filter(|seen| seen.whole == Some(1)).count());
    add("trailers of answers", account.replies.iter().filter(|reply| reply.trailers > 0).count());
    add("until close", account.replies.iter().filter(|reply| reply.until_close).count());
    add("half-closed", usize::from(plan.trouble == Trouble::HalfClose));
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn both_sides_end_and_nothing_is_lost() {
    let mut met = Met::new();
    if let Some(seed) = number("TIDEGATE_SIM_SEED") {
        return run(seed, &mut met);
    }
    let seeds = number("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        run(seed, &mut met);
    }
    println!("{met:#?}");
    if seeds >= SEEDS {
        let missed: Vec<_> = met.iter().filter(|(_, n)| **n == 0).map(|(what, _)| *what).collect();
        assert!(missed.is_empty(), "no run came upon {missed:?}");
        for timeout in
            ["idle", "late head", "late body", "slow reader", "long linger", "still after a half-close"]
        {
            assert!(met.contains_key(timeout), "no run came upon {timeout}");
        }
    }
}
