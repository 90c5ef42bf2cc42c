;; Arguments that are wrong without being dangerous: lengths, counts, statuses, heads. Each is refused, nothing is
;; sent, and another try is allowed.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (memory (export "memory") 2)
  ;; One field, "x: a\rb": size 36, version 1, fixed 16, count 1, reserved 0, then its entry and its bytes.
  (data (i32.const 4096)
    "\24\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\01\00\00\00\21\00\00\00\03\00\00\00"
    "xa\0db")
  ;; Transfer-Encoding by hand: 16 + 16 + 17 + 7 = 56.
  (data (i32.const 4160)
    "\38\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\11\00\00\00\31\00\00\00\07\00\00\00"
    "transfer-encodingchunked")
  ;; A table that leaves the layout: count 1,000 in 36 bytes.
  (data (i32.const 4224)
    "\24\00\00\00\01\00\10\00\e8\03\00\00\00\00\00\00"
    "\20\00\00\00\01\00\00\00\21\00\00\00\03\00\00\00"
    "xabc")
  ;; A name that leaves the layout.
  (data (i32.const 4288)
    "\24\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\ff\ff\00\00\21\00\00\00\03\00\00\00"
    "xabc")
  (func $put (param $index i32) (param $value i32)
    (i32.store (i32.add (i32.const 8192) (i32.mul (local.get $index) (i32.const 4))) (local.get $value)))
  (func (export "tidegate_handle") (result i32)
    (local $in i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $in (i32.load (i32.const 12)))
    (call $put (i32.const 0) (call $read (local.get $in) (i32.const 4096) (i32.const 0)))
    (call $put (i32.const 1) (call $poll (i32.const 16384) (i32.const 257) (i64.const 0)))
    (call $put (i32.const 2) (call $response_head (i32.const 0) (i32.const 0) (i32.const 0)))
    (call $put (i32.const 3) (call $response_head (i32.const 99) (i32.const 0) (i32.const 0)))
    (call $put (i32.const 4) (call $response_head (i32.const 600) (i32.const 0) (i32.const 0)))
    (call $put (i32.const 5) (call $response_head (i32.const 101) (i32.const 0) (i32.const 0)))
    (call $put (i32.const 6) (call $response_head (i32.const 200) (i32.const 4096) (i32.const 36)))
    (call $put (i32.const 7) (call $response_head (i32.const 200) (i32.const 4160) (i32.const 56)))
    (call $put (i32.const 8) (call $response_head (i32.const 200) (i32.const 4224) (i32.const 36)))
    (call $put (i32.const 9) (call $response_head (i32.const 200) (i32.const 4288) (i32.const 36)))
    (call $put (i32.const 10) (call $response_head (i32.const 200) (i32.const 4096) (i32.const 7)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 8192) (i32.const 44))))
