;; Imports a function that exists, with a type that it does not have.
(module
  (import "tidegate_v1" "respond" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tidegate_handle") (result i32) (i32.const 0)))
