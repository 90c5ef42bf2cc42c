;; Answers with its environment, as WASI gives it: NAME=VALUE and a zero byte each.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tidegate_handle") (result i32)
    (if (call $sizes (i32.const 0) (i32.const 4)) (then (unreachable)))
    (if (call $get (i32.const 1024) (i32.const 4096)) (then (unreachable)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.load (i32.const 4)))))
