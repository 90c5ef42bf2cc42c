;; Writes to 48 MiB of memory, keeps them for three seconds, and answers.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tidegate_handle") (result i32)
    (if (i32.eq (memory.grow (i32.const 768)) (i32.const -1)) (then (unreachable)))
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 50331648))
    ;; A subscription of 48 bytes: userdata, tag 0 (clock) at 8, clock 1 at 16, timeout at 24, relative (flags 0).
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 3000000000))
    (if (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)) (then (unreachable)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
