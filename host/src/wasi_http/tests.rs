//! The host's functions called as a component calls them, without a guest in between: what they spend, and what they keep.

use std::sync::Arc;

use tidegate_proto::pipe::Watermarks;
use wasmtime::component::Resource;

use super::answer::OutgoingResponse;
use super::draft::OutgoingBody;
use super::fields::FieldList;
use super::types::{
    HostFields, HostOutgoingBody, HostOutgoingRequest, HostOutgoingResponse, HostResponseOutparam, Method,
    Scheme,
};
use super::*;
use crate::clock::{Clock, Nanos};
use crate::config::{AppLimits, Instances};
use crate::exchange::Exchange;
use crate::guest::cache::Cache;
use crate::guest::compile::Compiler;
use crate::guest::component::{ComponentSide, ResponseOutparam};
use crate::guest::cost::{CALL, parsed};
use crate::guest::engine::{self, Mode};
use crate::guest::program::{Linkers, Loader, Spec, Wants};
use crate::guest::state::Outside;

/// A handler that does nothing.
const IDLE: &str = r#"(component
    (import "wasi:http/types@0.2.12" (instance $types
        (export "incoming-request" (type (sub resource)))
        (export "response-outparam" (type (sub resource)))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $param))
    (core module $code (func (export "handle") (param i32 i32)))
    (core instance $own (instantiate $code))
    (func $handle (param "request" (own $request)) (param "response-out" (own $param))
        (canon lift (core func $own "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.12" (instance $handler)))"#;

/// Bytes of the largest text that one call may bring.
const LARGE: usize = 1 << 20;

/// The data of a Store whose call runs.
fn state(high: usize) -> ComponentState {
    state_in(high, Outside::nothing())
}

/// Likewise, with a net around it.
pub(crate) fn state_in(high: usize, outside: Outside) -> ComponentState {
    state_of(high, outside, None)
}

/// Likewise, of an app that keeps data.
pub(crate) fn state_with(kv: Option<Arc<crate::kv::Access>>) -> ComponentState {
    state_of(1024, Outside::nothing(), kv)
}

fn state_of(high: usize, outside: Outside, kv: Option<Arc<crate::kv::Access>>) -> ComponentState {
    let engine = engine::serving(Mode::Production).unwrap();
    let mut linkers = Linkers::new(&engine);
    add_to_linker(&mut linkers.component).unwrap();
    let clock = Clock::start();
    let compiler = Compiler::in_process(Mode::Production);
    let loader = Loader {
        engine,
        linkers,
        compiler,
        cache: Cache::none(),
        clock,
        file_threads: Default::default(),
        residency: Arc::default(),
    };
    let wasm = wat::parse_str(IDLE).unwrap();
    let spec = Spec {
        name: "test".into(),
        limits: AppLimits::default(),
        instances: Instances::Fresh,
        env: Vec::new(),
        mounts: Vec::new(),
        kv,
        wants: Wants { http: true, ..Wants::default() },
    };
    let program = Arc::new(loader.load(&wasm, &blake3::hash(&wasm), spec).unwrap());
    let exchange = Exchange::new(clock);
    exchange.lock().begin(false, Watermarks::new(high, 16).unwrap());
    // As if the thread used no CPU time: no test is to be stopped for being slow.
    exchange.slice.begin(clock.now(), Nanos::MAX);
    let side = ComponentSide::new(&program, &exchange, Mode::Production);
    ComponentState::new(program, exchange, outside, None, side)
}

fn list(http: &mut Http<'_>, bytes: usize) -> Resource<FieldList> {
    let list = HostFields::new(http).unwrap();
    if bytes > 0 {
        http.append(Resource::new_borrow(list.rep()), "x".to_owned(), vec![b'v'; bytes]).unwrap().unwrap();
    }
    list
}

/// A response with its body.
fn response(http: &mut Http<'_>) -> (Resource<OutgoingResponse>, Resource<OutgoingBody>) {
    let headers = list(http, 0);
    let response = HostOutgoingResponse::new(http, headers).unwrap();
    let body = HostOutgoingResponse::body(http, Resource::new_borrow(response.rep())).unwrap().unwrap();
    (response, body)
}

/// A call that a guest makes: what it takes is looked at before it is found wanting.
type Call = fn(&mut Http<'_>, u32, u32, String);

#[test]
fn what_is_given_is_paid_for_whatever_the_answer() {
    let calls: [(&str, Call); 8] = [
        ("has", |http, list, _, text| drop(http.has(Resource::new_borrow(list), text))),
        ("get", |http, list, _, text| drop(http.get(Resource::new_borrow(list), text))),
        ("delete", |http, list, _, text| drop(http.delete(Resource::new_borrow(list), text))),
        ("set", |http, list, _, text| {
            drop(HostFields::set(http, Resource::new_borrow(list), text, Vec::new()))
        }),
        ("method", |http, _, request, text| {
            drop(http.set_method(Resource::new_borrow(request), Method::Other(text)));
        }),
        ("scheme", |http, _, request, text| {
            drop(http.set_scheme(Resource::new_borrow(request), Some(Scheme::Other(text))));
        }),
        ("authority", |http, _, request, text| {
            drop(http.set_authority(Resource::new_borrow(request), Some(text)));
        }),
        ("path", |http, _, request, text| {
            drop(http.set_path_with_query(Resource::new_borrow(request), Some(text)));
        }),
    ];
    let mut state = state(64);
    for (name, call) in calls {
        let mut http = Http { state: &mut state };
        let headers = list(&mut http, 0);
        let request = HostOutgoingRequest::new(&mut http, headers).unwrap();
        let list = list(&mut http, 0);
        let spent = |http: &Http<'_>| -> Nanos { http.state.exchange.slice.spent() };
        let before = spent(&http);
        call(&mut http, list.rep(), request.rep(), "\0".repeat(LARGE));
        assert!(spent(&http) - before >= CALL + parsed(LARGE), "{name} spends {}", spent(&http) - before);
    }
}

#[test]
fn trailers_that_wait_for_their_answer_are_counted() {
    let mut state = state(64);
    let mut http = Http { state: &mut state };
    let room = http.state.side.desk.room();
    let mut kept = Vec::new();
    let stopped = (0..200).find_map(|_| {
        let (response, body) = response(&mut http);
        let trailers = list(&mut http, 0);
        kept.push(response);
        let value = vec![b'v'; 30_000];
        let given = http.append(Resource::new_borrow(trailers.rep()), "x".to_owned(), value);
        given.err().or_else(|| HostOutgoingBody::finish(&mut http, body, Some(trailers)).err())
    });
    let error = stopped.expect("200 lists of 30,000 bytes are too many").to_string();
    assert!(error.contains("hold more than"), "{error}");
    assert!((room / 32_000..=room / 30_000).contains(&(kept.len() - 1)), "{} were kept", kept.len());
    for response in kept {
        HostOutgoingResponse::drop(&mut http, response).unwrap();
    }
    // The list that was one too many is still there, and empty.
    assert!(http.state.side.desk.room() > room - 1000);
}

#[test]
fn what_is_permitted_before_the_answer_can_be_written() {
    for high in [64 << 10, 1 << 20, 4 << 20] {
        let mut state = state(high);
        let mut http = Http { state: &mut state };
        let (_response, body) = response(&mut http);
        let stream = HostOutgoingBody::write(&mut http, body).unwrap().unwrap();
        let stream = state.side.table.get_mut(&stream).unwrap();
        let mut written = 0;
        loop {
            let permit = stream.check_write().unwrap();
            if permit == 0 {
                break;
            }
            let some = permit.min(100_000);
            stream.write(vec![0; some].into()).unwrap();
            written += some;
        }
        assert!(written == high || (written < high && written > (1 << 20) - 1000), "{written} of {high}");
    }
}

#[test]
fn an_error_of_any_length_makes_a_short_text() {
    let mut state = state(64);
    let turn = state.side.desk.turn();
    let mut http = Http { state: &mut state };
    let param = http.state.side.table.push(ResponseOutparam { turn }).unwrap();
    let error = ErrorCode::InternalError(Some("\u{1}".repeat(LARGE)));
    HostResponseOutparam::set(&mut http, param, Err(error)).unwrap();
    let told = state.side.reported.unwrap();
    assert!(told.contains("InternalError") && told.len() < 3_000, "{} bytes", told.len());
}
