//! Components that are written by hand, to do what no toolchain lets a guest do: a core module in text format with the
//! host functions that hostile ones call, made a handler.

use std::path::PathBuf;

use crate::artifacts::wat_text;

/// What `cabi_realloc` of a component does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realloc {
    /// It gives the next free bytes of the second page.
    Good,
    Traps,
    /// It gives an address beyond the memory.
    Outside,
}

/// The component `name`. `code` is the inside of a core module that has a function `$handle (param i32 i32)` and may
/// call, of `host`: `$fields`, `$append`, `$subscribe`, `$ready`, `$poll`, `$path`, `$random`, `$drop-pollable`, with the
/// types that the canonical ABI gives them. Its memory has two pages; the second is `cabi_realloc`'s.
pub fn wat_component(name: &str, realloc: Realloc, code: &str) -> PathBuf {
    let post = if code.contains("(export \"post\")") { "" } else { "(func (export \"post\"))" };
    let realloc = match realloc {
        Realloc::Good => {
            "(local $at i32) (local.set $at (global.get $free))
             (global.set $free (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 15)) (i32.const -8)))
             (local.get $at)"
        }
        Realloc::Traps => "unreachable",
        Realloc::Outside => "(i32.const 0x7ffffff0)",
    };
    let text = format!(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
                (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $outer))
                (export "pollable" (type $pollable (eq $outer)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (import "wasi:http/types@0.2.0" (instance $types
                (export "fields" (type $fields (sub resource)))
                (type $error (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
                (export "header-error" (type $header-error (eq $error)))
                (export "[constructor]fields" (func (result (own $fields))))
                (export "[method]fields.append" (func
                    (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8))
                    (result (result (error $header-error)))))
                (export "incoming-request" (type $request (sub resource)))
                (export "[method]incoming-request.path-with-query" (func
                    (param "self" (borrow $request)) (result (option string))))
                (export "response-outparam" (type $outparam (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            (core module $libc
                (memory (export "memory") 2)
                (global $free (mut i32) (i32.const 65536))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
            (core instance $libc (instantiate $libc))
            (alias core export $libc "memory" (core memory $memory))
            (alias core export $libc "cabi_realloc" (core func $realloc))
            (core func $fields (canon lower (func $types "[constructor]fields")))
            (core func $append (canon lower (func $types "[method]fields.append") (memory $memory)))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core func $ready (canon lower (func $poll "[method]pollable.ready")))
            (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
            (core func $path (canon lower
                (func $types "[method]incoming-request.path-with-query") (memory $memory) (realloc $realloc)))
            (core func $random (canon lower
                (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
            (core func $drop-pollable (canon resource.drop $pollable))
            (core module $main
                (import "libc" "memory" (memory 2))
                (import "host" "fields" (func $fields (result i32)))
                (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
                (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
                (import "host" "ready" (func $ready (param i32) (result i32)))
                (import "host" "poll" (func $poll (param i32 i32 i32)))
                (import "host" "path" (func $path (param i32 i32)))
                (import "host" "random" (func $random (param i64 i32)))
                (import "host" "drop-pollable" (func $drop-pollable (param i32)))
                {code}
                (export "handle" (func $handle))
                {post})
            (core instance $main (instantiate $main
                (with "libc" (instance $libc))
                (with "host" (instance
                    (export "fields" (func $fields)) (export "append" (func $append))
                    (export "subscribe" (func $subscribe)) (export "ready" (func $ready))
                    (export "poll" (func $poll)) (export "path" (func $path)) (export "random" (func $random))
                    (export "drop-pollable" (func $drop-pollable))))))
            (alias core export $main "post" (core func $post))
            (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
                (canon lift (core func $main "handle") (post-return $post)))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    );
    wat_text(name, &text)
}
