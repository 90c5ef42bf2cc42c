;; Each connection is sent back to itself inside the host. Over HTTP it says that it is there.
(module
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "forward" (func $forward (param i32 i32 i64) (result i64)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "here")
  (func (export "tidegate_handle") (result i32)
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 4)))
  ;; Waits until it is ready for that; -1 if it failed.
  (func $wait (param $handle i32) (param $interest i32) (result i32)
    (i32.store (i32.const 0) (local.get $handle))
    (i32.store16 (i32.const 4) (local.get $interest))
    (drop (call $poll (i32.const 0) (i32.const 1) (i64.const -1)))
    (select (i32.const -1) (i32.const 0) (i32.and (i32.load16_u (i32.const 6)) (i32.const 4))))
  (func (export "tidegate_connection") (param $handle i32) (result i32)
    (local $n i64)
    (loop $more
      (local.set $n (call $forward (local.get $handle) (local.get $handle) (i64.const -1)))
      ;; EAGAIN (6): either there is nothing, or no room for it.
      (if (i64.eq (local.get $n) (i64.const -6)) (then
        (if (call $wait (local.get $handle) (i32.const 1)) (then (return (i32.const 1))))
        (if (call $wait (local.get $handle) (i32.const 2)) (then (return (i32.const 1))))
        (br $more)))
      (if (i64.lt_s (local.get $n) (i64.const 0)) (then (return (i32.const 2))))
      (br_if $more (i64.gt_s (local.get $n) (i64.const 0))))
    (drop (call $finish (local.get $handle) (i32.const 0) (i32.const 0)))
    (i32.const 0)))
