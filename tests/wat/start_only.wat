;; A command: it has _start and no tidegate_handle.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
