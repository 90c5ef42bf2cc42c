;; Answers as a whole, and then traps in the same slice: the answer stands.
(module
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "whole")
  (func (export "tidegate_handle") (result i32)
    (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5)))
    unreachable))
