;; Writes to a client that does not read until the host says full, and tells what it saw. The head is out by then,
;; so the answer is a log record, chosen by: a short count came before -EAGAIN, and poll then waits (its timeout of
;; 20 ms passes with nothing ready).
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 4096) "backpressure: full, then nothing ready")
  (data (i32.const 4160) "backpressure: writable at once after full")
  (data (i32.const 4224) "backpressure: writable again")
  (func (export "tidegate_handle") (result i32)
    (local $out i32)
    (local $n i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))
    ;; Until full for a whole 20 ms: what the kernel's buffers take makes room at first.
    (block $stuck
      (loop $more
        (local.set $n (call $write (local.get $out) (i32.const 65536) (i32.const 65536)))
        (br_if $more (i32.gt_s (local.get $n) (i32.const 0)))
        (if (i32.ne (local.get $n) (i32.const -6)) (then (unreachable))) ;; EAGAIN
        (i32.store (i32.const 8192) (local.get $out))
        (i32.store16 (i32.const 8196) (i32.const 2)) ;; writable
        (br_if $stuck (i32.eqz (call $poll (i32.const 8192) (i32.const 1) (i64.const 200000000))))
        ;; Ready says writable: a write must now take something.
        (if (i32.eqz (i32.and (i32.load16_u (i32.const 8198)) (i32.const 2))) (then (unreachable)))
        (br_if $more (i32.gt_s (call $write (local.get $out) (i32.const 65536) (i32.const 1)) (i32.const 0)))
        (drop (call $log (i32.const 3) (i32.const 4160) (i32.const 41)))
        (unreachable)))
    (drop (call $log (i32.const 3) (i32.const 4096) (i32.const 38)))
    ;; Now for as long as it takes.
    (drop (call $poll (i32.const 8192) (i32.const 1) (i64.const -1)))
    (if (i32.le_s (call $write (local.get $out) (i32.const 65536) (i32.const 1)) (i32.const 0)) (then (unreachable)))
    (drop (call $log (i32.const 3) (i32.const 4224) (i32.const 28)))
    (call $finish (local.get $out) (i32.const 0) (i32.const 0))))
