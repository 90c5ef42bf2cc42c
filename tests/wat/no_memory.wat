;; Exports no memory: no call could pass it anything.
(module
  (func (export "tidegate_handle") (result i32) (i32.const 0)))
