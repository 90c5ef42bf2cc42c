;; Sends half of its body, and the other half five seconds later.
(module
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "half")
  (func (export "tidegate_handle") (result i32)
    (drop (call $response_head (i32.const 200) (i32.const 64) (i32.const 0)))
    (drop (call $write (i32.const 4) (i32.const 0) (i32.const 4)))
    (drop (call $poll (i32.const 64) (i32.const 0) (i64.const 5000000000)))
    (drop (call $write (i32.const 4) (i32.const 0) (i32.const 4)))
    (call $finish (i32.const 4) (i32.const 0) (i32.const 0))))
