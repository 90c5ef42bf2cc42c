;; Grows two memories in turn, each to less than the limit, together to more. Only the first is exported.
(module
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory $a (export "memory") 1)
  (memory $b 1)
  (func (export "tidegate_handle") (result i32)
    (drop (memory.grow $a (i32.const 20)))
    (drop (memory.grow $b (i32.const 20)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))))
