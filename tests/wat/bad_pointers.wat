;; Pointers outside memory trap, whichever call they are given to. The last character of the path chooses the call;
;; `z` does nothing wrong.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "trailers" (func $trailers (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (import "tidegate_v1" "usage" (func $usage (param i32 i32) (result i32)))
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 4096) "survived")
  (func $case (param $letter i32) (result i32)
    (i32.eq (local.get $letter)
      (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))) (i32.const 1)))))
  (func (export "tidegate_handle") (result i32)
    (local $in i32)
    (local $out i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $in (i32.load (i32.const 12)))
    (local.set $out (i32.load (i32.const 16)))
    ;; a: the head, written beyond the end
    (if (call $case (i32.const 97)) (then
      (drop (call $request_head (i32.const 65535) (i32.const 4096)))))
    ;; b: a body from nowhere
    (if (call $case (i32.const 98)) (then
      (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const -16) (i32.const 8)))))
    ;; c: a head from nowhere
    (if (call $case (i32.const 99)) (then
      (drop (call $response_head (i32.const 200) (i32.const 65530) (i32.const 32)))))
    ;; d: a read that would run over the end
    (if (call $case (i32.const 100)) (then
      (drop (call $read (local.get $in) (i32.const 65000) (i32.const 1000)))))
    ;; e: a length that wraps around
    (if (call $case (i32.const 101)) (then
      (drop (call $log (i32.const 3) (i32.const 16) (i32.const -8)))))
    ;; f: poll entries outside
    (if (call $case (i32.const 102)) (then
      (drop (call $poll (i32.const 65532) (i32.const 4) (i64.const 0)))))
    ;; g: usage outside
    (if (call $case (i32.const 103)) (then
      (drop (call $usage (i32.const 65530) (i32.const 48)))))
    ;; h: a write from outside, with a good head before it
    (if (call $case (i32.const 104)) (then
      (drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))
      (drop (call $write (local.get $out) (i32.const 65000) (i32.const 1000)))))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 8))))
