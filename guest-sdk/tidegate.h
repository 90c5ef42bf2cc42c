/* tidegate.h: the module ABI of tidegate, version 1, for guests in C, C++ or Zig.
 *
 * docs/abi.md says how the calls behave, docs/guide-c.md how to use them; this file says how they look. A test compares
 * it with the Rust crate that host and SDK are built on. With wasi-libc, or without any library:
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -O2 -o guest.wasm guest.c
 *     clang --target=wasm32 -ffreestanding -nostdlib -Wl,--no-entry -O2 -o guest.wasm guest.c
 *
 *     #include "tidegate.h"
 *
 *     TIDEGATE_EXPORT("tidegate_handle") int32_t handle(void) {
 *         return tidegate_respond(200, 0, 0, "Hello World\n", 12) == 0 ? 0 : 1;
 *     }
 *
 * All numbers are little-endian. An import that fails returns a negated TIDEGATE_E* value. With a length of 0 the pointer
 * beside it may be null.
 */
#ifndef TIDEGATE_H
#define TIDEGATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__wasm__)
#define TIDEGATE_IMPORT(name) __attribute__((import_module("tidegate_v1"), import_name(name)))
#define TIDEGATE_EXPORT(name) __attribute__((export_name(name)))
#else
#define TIDEGATE_IMPORT(name)
#define TIDEGATE_EXPORT(name)
#endif

/* The version that packed layouts carry. */
#define TIDEGATE_VERSION 1

/* Errno values: those of WASI preview 1. */
#define TIDEGATE_SUCCESS 0
#define TIDEGATE_EAGAIN 6        /* nothing to read yet, or no room to write yet: poll, then try again */
#define TIDEGATE_EALREADY 7      /* done already: a second head, or a second finish */
#define TIDEGATE_EBADF 8         /* no such handle, or not one for this direction */
#define TIDEGATE_ECANCELED 11    /* the request was cancelled */
#define TIDEGATE_ECONNABORTED 13 /* the response was aborted */
#define TIDEGATE_ECONNRESET 15   /* the peer is gone */
#define TIDEGATE_EFAULT 21       /* a pointer outside memory */
#define TIDEGATE_EFBIG 22        /* more than the declared length, or than the body limit */
#define TIDEGATE_EILSEQ 25       /* bytes that are not valid here */
#define TIDEGATE_EINVAL 28       /* an argument, name or value that is not valid */
#define TIDEGATE_EIO 29          /* input or output failed */
#define TIDEGATE_EMSGSIZE 35     /* too large for one call */
#define TIDEGATE_ENOSPC 51       /* no room left */
#define TIDEGATE_ENOSYS 52       /* not offered by this host */
#define TIDEGATE_ENOTSUP 58      /* not supported on this handle */
#define TIDEGATE_EPERM 63        /* not allowed */
#define TIDEGATE_EPIPE 64        /* written after the end */
#define TIDEGATE_EPROTO 65       /* called out of order: the response head comes first */
#define TIDEGATE_ETIMEDOUT 73    /* the peer was too slow */

/* What poll is asked for, and what it answers. */
#define TIDEGATE_READABLE 1
#define TIDEGATE_WRITABLE 2
#define TIDEGATE_ERROR 4  /* always reported */
#define TIDEGATE_HANGUP 8 /* always reported */
#define TIDEGATE_POLL_MAX 256
#define TIDEGATE_FOREVER INT64_C(-1)

/* Levels of tidegate_log. */
#define TIDEGATE_LOG_ERROR 1
#define TIDEGATE_LOG_WARN 2
#define TIDEGATE_LOG_INFO 3
#define TIDEGATE_LOG_DEBUG 4
#define TIDEGATE_LOG_TRACE 5

/* Bytes of the fixed parts of the layouts. A reader finds tables by the layout's own `fixed`, not by these. */
#define TIDEGATE_REQUEST_FIXED_BYTES 88
#define TIDEGATE_FIELDS_FIXED_BYTES 16
#define TIDEGATE_FIELD_BYTES 16
#define TIDEGATE_USAGE_BYTES 48

/* The longest list of fields that is taken, in entries and in bytes with its table. More is -TIDEGATE_EMSGSIZE; entries
 * that share bytes, so that they name more than the list has, are -TIDEGATE_EINVAL. */
#define TIDEGATE_FIELDS_MAX 1024
#define TIDEGATE_FIELDS_BYTES_MAX 131072

/* Bit of tidegate_request_head_t.flags: a body follows. */
#define TIDEGATE_FLAG_BODY 1

/* Bytes inside a packed layout: `offset` counts from the layout's first byte. */
typedef struct {
    uint32_t offset;
    uint32_t len;
} tidegate_span_t;

/* A field: a header, a trailer, or a route parameter. */
typedef struct {
    tidegate_span_t name;
    tidegate_span_t value;
} tidegate_field_t;

/* Headers of a response, and trailers in both directions; at `fixed` follow `count` tidegate_field_t, then the bytes. */
typedef struct {
    uint32_t size; /* all of it */
    uint16_t version;
    uint16_t fixed;
    uint32_t count;
    uint32_t reserved;
} tidegate_fields_t;

/* The head of a request; at `fixed` follow `params_count`, then `fields_count` tidegate_field_t, then the bytes. */
typedef struct {
    uint32_t size; /* all of it */
    uint16_t version;
    uint16_t fixed;
    uint8_t http_minor; /* 0 or 1 */
    uint8_t scheme;     /* 0 http, 1 https */
    uint16_t flags;
    uint32_t request_body;
    uint32_t response_body;
    uint32_t mount_len;   /* bytes of the path that the app's route covers */
    uint64_t deadline_ns; /* when the response head is due, on WASI's monotonic clock */
    tidegate_span_t method;
    tidegate_span_t target;
    tidegate_span_t authority;
    tidegate_span_t peer;
    tidegate_span_t local;
    tidegate_span_t request_id;
    uint32_t params_count;
    uint32_t fields_count;
} tidegate_request_head_t;

/* One entry of tidegate_poll. */
typedef struct {
    uint32_t handle;
    uint16_t interest;
    uint16_t ready;
} tidegate_poll_t;

/* What tidegate_usage writes. */
typedef struct {
    uint32_t size;
    uint16_t version;
    uint16_t reserved;
    uint64_t cpu_used_ns;
    uint64_t cpu_left_ns;
    uint64_t wall_left_ns; /* until the response head is due; UINT64_MAX once it is set */
    uint64_t memory_bytes;
    uint64_t memory_bytes_max;
} tidegate_usage_t;

#if defined(__cplusplus)
#define TIDEGATE_ASSERT(what) static_assert(what, #what)
#else
#define TIDEGATE_ASSERT(what) _Static_assert(what, #what)
#endif
TIDEGATE_ASSERT(sizeof(tidegate_request_head_t) == TIDEGATE_REQUEST_FIXED_BYTES);
TIDEGATE_ASSERT(offsetof(tidegate_request_head_t, deadline_ns) == 24);
TIDEGATE_ASSERT(offsetof(tidegate_request_head_t, request_id) == 72);
TIDEGATE_ASSERT(sizeof(tidegate_fields_t) == TIDEGATE_FIELDS_FIXED_BYTES);
TIDEGATE_ASSERT(sizeof(tidegate_field_t) == TIDEGATE_FIELD_BYTES);
TIDEGATE_ASSERT(sizeof(tidegate_usage_t) == TIDEGATE_USAGE_BYTES);
TIDEGATE_ASSERT(sizeof(tidegate_poll_t) == 8);

/* Packs the request's head into buf if it fits, and returns its size either way. buf needs the alignment of
 * tidegate_request_head_t to be used as one. */
TIDEGATE_IMPORT("request_head") int32_t tidegate_request_head(void *buf, size_t cap);

/* Head and whole body at once; the body is at most the response's high watermark (64 KiB, unless the app has another).
 * head is a tidegate_fields_t with all that belongs to it, or nothing. */
TIDEGATE_IMPORT("respond")
int32_t tidegate_respond(uint32_t status, const void *head, size_t head_len, const void *body, size_t body_len);

/* The response's head, or an interim one (103), of which a response has at most 64. */
TIDEGATE_IMPORT("response_head") int32_t tidegate_response_head(uint32_t status, const void *head, size_t head_len);

/* Bytes read, 0 at the end. Never waits. */
TIDEGATE_IMPORT("read") int32_t tidegate_read(uint32_t handle, void *buf, size_t len);

/* Bytes written, maybe fewer than asked. Never waits. */
TIDEGATE_IMPORT("write") int32_t tidegate_write(uint32_t handle, const void *bytes, size_t len);

/* Bytes moved from the request's body to the response's, at most n unless that is negative; 0 at the end. Never waits. */
TIDEGATE_IMPORT("forward") int64_t tidegate_forward(uint32_t from, uint32_t to, int64_t n);

/* A clean end of the response's body. trailers is as head above. */
TIDEGATE_IMPORT("finish") int32_t tidegate_finish(uint32_t handle, const void *trailers, size_t len);

/* The trailers of a request body that was read to its end: as tidegate_request_head. */
TIDEGATE_IMPORT("trailers") int32_t tidegate_trailers(uint32_t handle, void *buf, size_t cap);

/* Waits until an entry is ready or the time is over; returns how many are. The only call that waits. */
TIDEGATE_IMPORT("poll") int32_t tidegate_poll(tidegate_poll_t *entries, size_t n, int64_t timeout_ns);

/* Gives a handle up. A response body that was not finished is cut off. */
TIDEGATE_IMPORT("close") int32_t tidegate_close(uint32_t handle);

/* How a handle failed: 0 or an errno, not negated; no such handle is -TIDEGATE_EBADF. */
TIDEGATE_IMPORT("error") int32_t tidegate_error(uint32_t handle);

/* What the request has used, as a tidegate_usage_t: as tidegate_request_head. */
TIDEGATE_IMPORT("usage") int32_t tidegate_usage(void *buf, size_t cap);

/* One record into the app's log, cut after 16 KiB. */
TIDEGATE_IMPORT("log") int32_t tidegate_log(uint32_t level, const void *text, size_t len);

#ifdef __cplusplus
}
#endif

#endif
