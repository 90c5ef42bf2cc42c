;; Writes 1 MiB after a 205, which has no content (RFC 9110 15.3.6): all of it is taken and thrown away.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "tidegate_handle") (result i32)
    (local $out i32)
    (local $left i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 205) (i32.const 0) (i32.const 0)))
    (local.set $left (i32.const 16))
    (loop $more
      (if (i32.ne (call $write (local.get $out) (i32.const 65536) (i32.const 65536)) (i32.const 65536)) (then unreachable))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))
    (call $finish (local.get $out) (i32.const 0) (i32.const 0))))
