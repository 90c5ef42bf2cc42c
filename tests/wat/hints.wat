;; Sends two interim responses (103, Early Hints) and then the final one.
(module
  (import "tidegate_v1" "response_head" (func $response_head (param i32 i32 i32) (result i32)))
  (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; link: </a>, 16 + 16 + 4 + 4 = 40.
  (data (i32.const 4096)
    "\28\00\00\00\01\00\10\00\01\00\00\00\00\00\00\00"
    "\20\00\00\00\04\00\00\00\24\00\00\00\04\00\00\00"
    "link</a>")
  (data (i32.const 4160) "final")
  (func (export "tidegate_handle") (result i32)
    (if (call $response_head (i32.const 103) (i32.const 4096) (i32.const 40)) (then (unreachable)))
    (if (call $response_head (i32.const 103) (i32.const 4096) (i32.const 40)) (then (unreachable)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 4160) (i32.const 5))))
