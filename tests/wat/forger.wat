;; Tries to make its log records and its standard output look like lines of somebody else: line breaks, carriage
;; returns, terminal escapes.
(module
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "said by log\nFORGED one\r\nFORGED two\rFORGED three\1b[2J")
  (data (i32.const 2048) "said by stdout\nFORGED four\n\1b]0;title\07")
  (func (export "tidegate_handle") (result i32)
    (drop (call $log (i32.const 3) (i32.const 1024) (i32.const 51)))
    (i32.store (i32.const 0) (i32.const 2048))
    (i32.store (i32.const 4) (i32.const 37))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
