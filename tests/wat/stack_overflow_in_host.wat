;; Recurses as deep as it can and calls the host from the deepest point: the gap between the wasm stack and the
;; fiber's is what the host has then.
(module
  (import "tidegate_v1" "usage" (func $usage (param i32 i32) (result i32)))
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "deep")
  (func $down (param $n i32) (result i32)
    (drop (call $usage (i32.const 0) (i32.const 48)))
    (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 4096)))
      (then (drop (call $log (i32.const 3) (i32.const 1024) (i32.const 4)))))
    (i32.add (call $down (i32.add (local.get $n) (i32.const 1))) (i32.const 1)))
  (func (export "tidegate_handle") (result i32) (call $down (i32.const 1))))
