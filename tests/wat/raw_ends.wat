;; Tells each connection its ends, the peer's first, and sends back what comes.
(module
  (import "tidegate_v1" "socket_address" (func $address (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "forward" (func $forward (param i32 i32 i64) (result i64)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (func $tell (param $handle i32) (param $which i32) (param $end i32)
    (local $len i32)
    (local.set $len (call $address (local.get $handle) (local.get $which) (i32.const 64) (i32.const 64)))
    (if (i32.le_s (local.get $len) (i32.const 0)) (then (unreachable)))
    (i32.store8 (i32.add (i32.const 64) (local.get $len)) (local.get $end))
    (drop (call $write (local.get $handle) (i32.const 64) (i32.add (local.get $len) (i32.const 1)))))
  (func (export "tidegate_connection") (param $handle i32) (result i32)
    (local $n i64)
    (call $tell (local.get $handle) (i32.const 1) (i32.const 32))
    (call $tell (local.get $handle) (i32.const 0) (i32.const 10))
    (loop $more
      (local.set $n (call $forward (local.get $handle) (local.get $handle) (i64.const -1)))
      ;; EAGAIN (6): there is nothing, as what is sent here has room.
      (if (i64.eq (local.get $n) (i64.const -6)) (then
        (i32.store (i32.const 0) (local.get $handle))
        (i32.store16 (i32.const 4) (i32.const 1))
        (drop (call $poll (i32.const 0) (i32.const 1) (i64.const -1)))
        (br $more)))
      (br_if $more (i64.gt_s (local.get $n) (i64.const 0))))
    (i32.const 0)))
