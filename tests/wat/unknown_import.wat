;; Imports something that this version does not offer.
(module
  (import "tidegate_v1" "teleport" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tidegate_handle") (result i32) (i32.const 0)))
