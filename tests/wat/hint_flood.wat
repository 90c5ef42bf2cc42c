;; Sends interim responses (103) of 30 KB for as long as it is let. The path's last character says when that is over:
;; `y` yields between any two and gives up after 2,000, whatever comes of them; `w` waits for a millisecond when there
;; is no room and ends when the host says that there were enough (-EMSGSIZE). The body of the answer says how many were
;; taken.
(module
  (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
  (import "tidegate_v1" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 2)
  ;; link: 30,000 times "v", 16 + 16 + 4 + 30,000 = 30,036.
  (data (i32.const 65536)
    "\54\75\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\04\00\00\00\24\00\00\00\30\75\00\00"
    "link")
  (data (i32.const 4160) "hint_flood: done")
  (func $last (result i32)
    (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 40)) (i32.load (i32.const 44))) (i32.const 1))))
  (func (export "tidegate_handle") (result i32)
    (local $tries i32)
    (local $taken i32)
    (local $result i32)
    (local $yields i32)
    (drop (call $request_head (i32.const 0) (i32.const 4096)))
    (local.set $yields (i32.eq (call $last) (i32.const 121))) ;; y
    (memory.fill (i32.const 65572) (i32.const 118) (i32.const 30000))
    (block $over
      (loop $more
        (local.set $result (call $response_head (i32.const 103) (i32.const 65536) (i32.const 30036)))
        (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
        (if (i32.eqz (local.get $result))
          (then (local.set $taken (i32.add (local.get $taken) (i32.const 1)))))
        (if (local.get $yields)
          (then
            (drop (call $yield))
            (br_if $more (i32.lt_u (local.get $tries) (i32.const 2000)))
            (br $over)))
        (br_if $over (i32.eq (local.get $result) (i32.const -35))) ;; EMSGSIZE
        (if (local.get $result)
          (then (drop (call $poll (i32.const 0) (i32.const 0) (i64.const 1000000)))))
        (br $more)))
    (i32.store (i32.const 4200) (local.get $taken))
    (drop (call $log (i32.const 3) (i32.const 4160) (i32.const 16)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 4200) (i32.const 4))))
