//! A `wasi:http` component whose path selects one behaviour: something that the WIT speaks about, done on purpose, the
//! wrong things too. What it saw it reports in the body, a line a fact, so that two hosts that answer with the same bytes
//! did the same. `/` lists them. Raw bindings and no framework: nothing may stand between the behaviour and the host.

mod call;
mod fields;
mod incoming;
mod keep;
mod late;
mod outgoing;
mod outparam;
mod poll;
mod response;
mod streams;
mod world;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use call::Call;

/// A behaviour by its name, which is the path without the slash.
type Behaviour = (&'static str, fn(Call));

struct Behaviours;

impl Guest for Behaviours {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        keep::note_call();
        let call = Call { request, out };
        let path = call.path();
        let name = path.trim_start_matches('/');
        let topics = [
            fields::ALL,
            incoming::ALL,
            keep::ALL,
            late::ALL,
            outgoing::ALL,
            outparam::ALL,
            poll::ALL,
            response::ALL,
            streams::ALL,
            world::ALL,
        ];
        let all = topics.concat();
        match all.iter().find(|(known, _)| *known == name) {
            Some((_, behaviour)) => behaviour(call),
            None if name.is_empty() => {
                let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
                call.answer(200, &names.join("\n"));
            }
            None => call.answer(404, &format!("no behaviour {name:?}\n")),
        }
    }
}

wasip2::http::proxy::export!(Behaviours);
