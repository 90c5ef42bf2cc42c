;; Sets its head, computes for longer than a slice, and only then asks for the body, which it sends back.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (import "tidegate_v1" "forward" (func $forward (param i32 i32 i64) (result i64)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $now (result i64)
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 8192)))
    (i64.load (i32.const 8192)))
  (func (export "tidegate_handle") (result i32)
    (local $in i32) (local $out i32) (local $until i64) (local $moved i64)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $in (i32.load (i32.const 12)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))
    (local.set $until (i64.add (call $now) (i64.const 20000000)))
    (loop $compute (br_if $compute (i64.lt_u (call $now) (local.get $until))))
    (loop $more
      (local.set $moved (call $forward (local.get $in) (local.get $out) (i64.const 65536)))
      (if (i64.eq (local.get $moved) (i64.const -6)) ;; EAGAIN
        (then
          (i32.store (i32.const 4096) (local.get $in))
          (i32.store16 (i32.const 4100) (i32.const 1)) ;; readable
          (drop (call $poll (i32.const 4096) (i32.const 1) (i64.const -1)))
          (br $more)))
      (br_if $more (i64.gt_s (local.get $moved) (i64.const 0))))
    (drop (call $finish (local.get $out) (i32.const 0) (i32.const 0)))
    (i32.const 0)))
