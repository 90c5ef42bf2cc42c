;; After a clean end nothing more can be written and nothing can be ended again. The response is whole by then: what
;; the calls said goes into the log.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 4096) "whole")
  (data (i32.const 4112) "write after finish: as documented")
  (data (i32.const 4160) "write after finish: SOMETHING ELSE")
  (data (i32.const 4208) "finish after finish: as documented")
  (data (i32.const 4256) "finish after finish: SOMETHING ELSE")
  (func (export "tidegate_handle") (result i32)
    (local $out i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 200) (i32.const 0) (i32.const 0)))
    (drop (call $write (local.get $out) (i32.const 4096) (i32.const 5)))
    (drop (call $finish (local.get $out) (i32.const 0) (i32.const 0)))
    (if (i32.eq (call $write (local.get $out) (i32.const 4096) (i32.const 5)) (i32.const -64)) ;; EPIPE
      (then (drop (call $log (i32.const 3) (i32.const 4112) (i32.const 33))))
      (else (drop (call $log (i32.const 3) (i32.const 4160) (i32.const 34)))))
    (if (i32.eq (call $finish (local.get $out) (i32.const 0) (i32.const 0)) (i32.const -7)) ;; EALREADY
      (then (drop (call $log (i32.const 3) (i32.const 4208) (i32.const 34))))
      (else (drop (call $log (i32.const 3) (i32.const 4256) (i32.const 35)))))
    (i32.const 0)))
