//! What `bindgen!` makes of the WIT in `host/wit`.

#![allow(unreachable_pub, reason = "generated code is public, and gives only public names on")]

/// The types behind the resources.
mod resources {
    pub type Fields = super::super::fields::FieldList;
    pub type IncomingRequest = crate::guest::component::IncomingRequest;
    pub type IncomingBody = super::super::incoming::IncomingBody;
    pub type FutureTrailers = super::super::trailers::FutureTrailers;
    pub type ResponseOutparam = crate::guest::component::ResponseOutparam;
    pub type OutgoingResponse = super::super::answer::OutgoingResponse;
    pub type OutgoingBody = super::super::draft::OutgoingBody;
    pub type OutgoingRequest = super::super::outgoing::OutgoingRequest;
    pub type RequestOptions = super::super::outgoing::RequestOptions;
    pub type IncomingResponse = super::super::response::IncomingResponse;
    pub type FutureIncomingResponse = super::super::response::FutureIncomingResponse;
}

wasmtime::component::bindgen!({
    path: "wit",
    world: "tidegate:host/handler",
    imports: { default: trappable },
    exports: { default: async },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:http/types.fields": resources::Fields,
        "wasi:http/types.incoming-request": resources::IncomingRequest,
        "wasi:http/types.incoming-body": resources::IncomingBody,
        "wasi:http/types.future-trailers": resources::FutureTrailers,
        "wasi:http/types.response-outparam": resources::ResponseOutparam,
        "wasi:http/types.outgoing-response": resources::OutgoingResponse,
        "wasi:http/types.outgoing-body": resources::OutgoingBody,
        "wasi:http/types.outgoing-request": resources::OutgoingRequest,
        "wasi:http/types.request-options": resources::RequestOptions,
        "wasi:http/types.incoming-response": resources::IncomingResponse,
        "wasi:http/types.future-incoming-response": resources::FutureIncomingResponse,
    },
});
