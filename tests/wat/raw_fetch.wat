;; A request to another as it is, without the SDK: its packed head is the body of the request that this guest is sent.
;;   /   the request has no body
;;   /s  "hello" is written after the call, and then it is finished
;;   /l  "hello" is written, more than was said if less than that was, and it is not finished
;; The answer is the response's body. What was refused at once is 502 with the number of the error, four bytes; what failed
;; is 504 with the reason.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (import "tidegate_fetch_v1" "request" (func $request (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_fetch_v1" "head" (func $head (param i32 i32 i32) (result i32)))
  (import "tidegate_fetch_v1" "reason" (func $reason (param i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (data (i32.const 8192) "hello")
  (global $length (mut i32) (i32.const 0))
  (func $wait (param $handle i32) (param $interest i32)
    (i32.store (i32.const 8208) (local.get $handle))
    (i32.store16 (i32.const 8212) (local.get $interest))
    (drop (call $poll (i32.const 8208) (i32.const 1) (i64.const 3000000000))))
  ;; Reads to the end, to that place. False: it failed.
  (func $read_all (param $handle i32) (param $to i32) (result i32)
    (local $n i32)
    (global.set $length (i32.const 0))
    (loop $more
      (local.set $n (call $read (local.get $handle)
        (i32.add (local.get $to) (global.get $length)) (i32.const 65536)))
      (if (i32.eq (local.get $n) (i32.const -6)) (then (call $wait (local.get $handle) (i32.const 1)) (br $more)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (i32.const 0))))
      (global.set $length (i32.add (global.get $length) (local.get $n)))
      (br_if $more (i32.and (i32.gt_s (local.get $n) (i32.const 0))
        (i32.lt_u (global.get $length) (i32.const 300000)))))
    (i32.const 1))
  (func $fail (param $handle i32) (result i32)
    (drop (call $respond (i32.const 504) (i32.const 0) (i32.const 0) (i32.const 16384)
      (call $reason (local.get $handle) (i32.const 16384) (i32.const 1024))))
    (i32.const 0))
  (func (export "tidegate_handle") (result i32)
    (local $handle i32)
    (local $way i32)
    (drop (call $request_head (i32.const 0) (i32.const 8192)))
    (local.set $way
      (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))) (i32.const 1))))
    (drop (call $read_all (i32.load (i32.const 12)) (i32.const 65536)))
    (local.set $handle (call $request (i32.const 65536) (global.get $length) (i32.const 0) (i32.const 0)))
    (if (i32.lt_s (local.get $handle) (i32.const 0)) (then
      (i32.store (i32.const 8200) (i32.sub (i32.const 0) (local.get $handle)))
      (drop (call $respond (i32.const 502) (i32.const 0) (i32.const 0) (i32.const 8200) (i32.const 4)))
      (return (i32.const 0))))
    ;; s, l
    (if (i32.or (i32.eq (local.get $way) (i32.const 115)) (i32.eq (local.get $way) (i32.const 108))) (then
      (call $wait (local.get $handle) (i32.const 2))
      (drop (call $write (local.get $handle) (i32.const 8192) (i32.const 5)))))
    (if (i32.eq (local.get $way) (i32.const 115)) (then
      (drop (call $finish (local.get $handle) (i32.const 0) (i32.const 0)))))
    (call $wait (local.get $handle) (i32.const 1))
    (if (i32.le_s (call $head (local.get $handle) (i32.const 16384) (i32.const 40000)) (i32.const 0)) (then
      (return (call $fail (local.get $handle)))))
    (if (i32.eqz (call $read_all (local.get $handle) (i32.const 65536))) (then
      (return (call $fail (local.get $handle)))))
    (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 65536) (global.get $length)))
    (i32.const 0)))
