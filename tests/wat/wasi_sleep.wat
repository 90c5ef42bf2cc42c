;; Sleeps 200 ms through WASI's poll_oneoff and answers with how long that took on WASI's monotonic clock, in
;; nanoseconds.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tidegate_handle") (result i32)
    (if (call $now (i32.const 1) (i64.const 1) (i32.const 0)) (then (unreachable)))
    ;; A subscription of 48 bytes: userdata, tag 0 (clock) at 8, clock 1 at 16, timeout at 24, relative (flags 0).
    (i64.store (i32.const 64) (i64.const 7))
    (i32.store8 (i32.const 72) (i32.const 0))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 200000000))
    (if (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)) (then (unreachable)))
    ;; One event, with our userdata and no error.
    (if (i32.ne (i32.load (i32.const 512)) (i32.const 1)) (then (unreachable)))
    (if (i64.ne (i64.load (i32.const 256)) (i64.const 7)) (then (unreachable)))
    (if (i32.load16_u (i32.const 264)) (then (unreachable)))
    (if (call $now (i32.const 1) (i64.const 1) (i32.const 8)) (then (unreachable)))
    (i64.store (i32.const 0) (i64.sub (i64.load (i32.const 8)) (i64.load (i32.const 0))))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))))
