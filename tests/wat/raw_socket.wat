;; Sockets as they are, without the SDK: the path is a letter and an address, as in `/t/127.0.0.1:80`.
;;   t  TCP: sends "ping", ends its side, answers with all that comes back
;;   u  UDP: sends "ping", answers with the datagram that comes back
;;   r  looks a name up, answers with the entries
;;   l  TCP: answers with the local address of the connection, and that of the peer behind it
;; What fails is answered with 502 and the number of the error, four bytes.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "connect" (func $connect (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "resolve" (func $resolve (param i32 i32) (result i32)))
  (import "tidegate_v1" "socket_address" (func $socket_address (param i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "error" (func $error (param i32) (result i32)))
  (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "write" (func $write (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "finish" (func $finish (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "close" (func $close (param i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 8192) "ping")
  (global $handle (mut i32) (i32.const 0))
  (global $length (mut i32) (i32.const 0))
  ;; Ends the call with an error if there is one.
  (func $check (param $result i32) (result i32)
    (if (i32.lt_s (local.get $result) (i32.const 0)) (then
      (i32.store (i32.const 8200) (i32.sub (i32.const 0) (local.get $result)))
      (drop (call $respond (i32.const 502) (i32.const 0) (i32.const 0) (i32.const 8200) (i32.const 4)))
      (return (i32.const 1))))
    (i32.const 0))
  ;; Waits until the handle is ready for that, or has failed, or ten seconds are over.
  (func $wait (param $interest i32)
    (i32.store (i32.const 8208) (global.get $handle))
    (i32.store16 (i32.const 8212) (local.get $interest))
    (drop (call $poll (i32.const 8208) (i32.const 1) (i64.const 10000000000))))
  ;; What a call for the handle gives once it no longer says -EAGAIN (6).
  (func $read_all
    (local $n i32)
    (block $end (loop $more
      (local.set $n (call $read (global.get $handle)
        (i32.add (i32.const 65536) (global.get $length)) (i32.const 65536)))
      (if (i32.eq (local.get $n) (i32.const -6)) (then (call $wait (i32.const 1)) (br $more)))
      (if (i32.le_s (local.get $n) (i32.const 0)) (then
        (if (i32.lt_s (local.get $n) (i32.const 0)) (then (global.set $length (local.get $n))))
        (br $end)))
      (global.set $length (i32.add (global.get $length) (local.get $n)))
      (br_if $more (i32.le_u (global.get $length) (i32.const 65536))))))
  (func $answer (param $from i32)
    (if (call $check (global.get $length)) (then (return)))
    (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (local.get $from) (global.get $length))))
  (func (export "tidegate_handle") (result i32)
    (local $way i32)
    (local $text i32)
    (local $len i32)
    (drop (call $request_head (i32.const 0) (i32.const 8192)))
    (local.set $way (i32.load8_u (i32.add (i32.load (i32.const 40)) (i32.const 1))))
    (local.set $text (i32.add (i32.load (i32.const 40)) (i32.const 3)))
    (local.set $len (i32.sub (i32.load (i32.const 44)) (i32.const 3)))
    ;; r
    (if (i32.eq (local.get $way) (i32.const 114)) (then
      (global.set $handle (call $resolve (local.get $text) (local.get $len)))
      (if (call $check (global.get $handle)) (then (return (i32.const 0))))
      (call $read_all)
      (call $answer (i32.const 65536))
      (return (i32.const 0))))
    (global.set $handle
      (call $connect (i32.eq (local.get $way) (i32.const 117)) (local.get $text) (local.get $len)))
    (if (call $check (global.get $handle)) (then (return (i32.const 0))))
    (call $wait (i32.const 2))
    (if (call $check (i32.sub (i32.const 0) (call $error (global.get $handle)))) (then (return (i32.const 0))))
    ;; l
    (if (i32.eq (local.get $way) (i32.const 108)) (then
      (local.set $len
        (call $socket_address (global.get $handle) (i32.const 0) (i32.const 65536) (i32.const 100)))
      (global.set $length (i32.add (local.get $len)
        (call $socket_address (global.get $handle) (i32.const 1)
          (i32.add (i32.const 65536) (local.get $len)) (i32.const 100))))
      (call $answer (i32.const 65536))
      (return (i32.const 0))))
    (if (call $check (call $write (global.get $handle) (i32.const 8192) (i32.const 4)))
      (then (return (i32.const 0))))
    ;; u
    (if (i32.eq (local.get $way) (i32.const 117)) (then
      ;; What was said to be ready may still say -EAGAIN.
      (loop $again
        (call $wait (i32.const 1))
        (global.set $length (call $read (global.get $handle) (i32.const 65536) (i32.const 65536)))
        (br_if $again (i32.eq (global.get $length) (i32.const -6))))
      (call $answer (i32.const 65536))
      (return (i32.const 0))))
    ;; t
    (if (call $check (call $finish (global.get $handle) (i32.const 0) (i32.const 0)))
      (then (return (i32.const 0))))
    (call $read_all)
    (drop (call $close (global.get $handle)))
    (call $answer (i32.const 65536))
    (i32.const 0)))
