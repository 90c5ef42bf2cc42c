;; Declares content-length: 5 and then breaks its word. The last character of the path says how: `s` writes three
;; bytes and finishes, `l` writes eight at once, `e` writes five and finishes, as promised.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; content-length: 5, 16 + 16 + 14 + 1 = 47.
  (data (i32.const 4096)
    "\2f\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\0e\00\00\00\2e\00\00\00\01\00\00\00"
    "content-length5")
  (data (i32.const 4160) "12345678")
  (func $case (param $letter i32) (result i32)
    (i32.eq (local.get $letter)
      (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))) (i32.const 1)))))
  (func (export "tidegate_handle") (result i32)
    (local $out i32)
    (local $n i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $out (i32.load (i32.const 16)))
    (drop (call $response_head (i32.const 200) (i32.const 4096) (i32.const 47)))
    (local.set $n (i32.const 5))
    (if (call $case (i32.const 115)) (then (local.set $n (i32.const 3)))) ;; s
    (if (call $case (i32.const 108)) (then (local.set $n (i32.const 8)))) ;; l
    (drop (call $write (local.get $out) (i32.const 4160) (local.get $n)))
    (drop (call $finish (local.get $out) (i32.const 0) (i32.const 0)))
    (i32.const 0)))
