;; A body that is written and never finished: the connection is cut, there is no clean end. The last character of the
;; path says how: `c` closes the handle, anything else just returns.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 4096) "half a body")
  (func $last_of_target (result i32)
    (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))) (i32.const 1))))
  (func (export "tidegate_handle") (result i32)
    (local $out i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))
    (drop (call $write (local.get $out) (i32.const 4096) (i32.const 11)))
    (if (i32.eq (call $last_of_target) (i32.const 99)) ;; c
      (then (drop (call $close (local.get $out)))))
    (i32.const 0)))
