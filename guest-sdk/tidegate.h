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
#define TIDEGATE_IMPORT_FETCH(name) __attribute__((import_module("tidegate_fetch_v1"), import_name(name)))
#define TIDEGATE_IMPORT_KV(name) __attribute__((import_module("tidegate_kv_v1"), import_name(name)))
#define TIDEGATE_EXPORT(name) __attribute__((export_name(name)))
#else
#define TIDEGATE_IMPORT(name)
#define TIDEGATE_IMPORT_FETCH(name)
#define TIDEGATE_IMPORT_KV(name)
#define TIDEGATE_EXPORT(name)
#endif

/* The version that packed layouts carry. */
#define TIDEGATE_VERSION 1

/* Errno values: those of WASI preview 1. */
#define TIDEGATE_SUCCESS 0
#define TIDEGATE_EACCES 2        /* the app may not: its manifest has no rule for it */
#define TIDEGATE_EADDRNOTAVAIL 4 /* no address of this machine leads there */
#define TIDEGATE_EAFNOSUPPORT 5  /* this machine has no addresses of that family */
#define TIDEGATE_EAGAIN 6        /* nothing to read yet, or no room to write yet: poll, then try again */
#define TIDEGATE_EALREADY 7      /* done already: a second head, or a second finish */
#define TIDEGATE_EBADF 8         /* no such handle, or not one for this direction */
#define TIDEGATE_EBUSY 10        /* too much of its kind is under way: later */
#define TIDEGATE_ECANCELED 11    /* the request was cancelled */
#define TIDEGATE_ECONNABORTED 13 /* the response was aborted */
#define TIDEGATE_ECONNREFUSED 14 /* nobody listens there */
#define TIDEGATE_ECONNRESET 15   /* the peer is gone */
#define TIDEGATE_EDQUOT 19       /* as much is used as may be: bytes through sockets, or the key-value store's quota */
#define TIDEGATE_EFAULT 21       /* a pointer outside memory */
#define TIDEGATE_EFBIG 22        /* more than the declared length, or than the body limit */
#define TIDEGATE_EHOSTUNREACH 23 /* no way to that machine */
#define TIDEGATE_EILSEQ 25       /* bytes that are not valid here: no number, or no text */
#define TIDEGATE_EINVAL 28       /* an argument, name or value that is not valid */
#define TIDEGATE_EIO 29          /* input or output failed */
#define TIDEGATE_EMFILE 33       /* too many are open, or opened within a second */
#define TIDEGATE_EMSGSIZE 35     /* too large for one call */
#define TIDEGATE_ENETUNREACH 40  /* no way to that network */
#define TIDEGATE_ENOENT 44       /* no such name or key */
#define TIDEGATE_ENOSPC 51       /* no room left */
#define TIDEGATE_ENOSYS 52       /* not offered by this host */
#define TIDEGATE_ENOTSUP 58      /* not supported on this handle */
#define TIDEGATE_EOVERFLOW 61    /* the sum does not fit into 64 bits */
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

/* What tidegate_connect makes, and which end tidegate_socket_address tells. */
#define TIDEGATE_TCP 0
#define TIDEGATE_UDP 1
#define TIDEGATE_LOCAL 0
#define TIDEGATE_PEER 1
#define TIDEGATE_NAME_BYTES_MAX 320   /* of a name, and of host:port */
#define TIDEGATE_ADDRESS_BYTES_MAX 64 /* hold any text of tidegate_socket_address */
#define TIDEGATE_HANDLES_MAX 256      /* open at a time, besides the request's two */

/* Bits of tidegate_fetch_head_t.flags. */
#define TIDEGATE_FETCH_STREAM 1 /* the body is written after the call, until finish */
#define TIDEGATE_FETCH_LENGTH 2 /* besides: body_len says how long it is in all */

/* Bits of the flags of tidegate_kv_swap, and the largest key and value. */
#define TIDEGATE_KV_OLD_ABSENT 1
#define TIDEGATE_KV_NEW_ABSENT 2
#define TIDEGATE_KV_KEY_BYTES_MAX 1024
#define TIDEGATE_KV_VALUE_BYTES_MAX 1048576

/* Bytes of the fixed parts of the layouts. A reader finds tables by the layout's own `fixed`, not by these. */
#define TIDEGATE_REQUEST_FIXED_BYTES 88
#define TIDEGATE_FIELDS_FIXED_BYTES 16
#define TIDEGATE_FIELD_BYTES 16
#define TIDEGATE_USAGE_BYTES 48
#define TIDEGATE_FETCH_FIXED_BYTES 72
#define TIDEGATE_FETCH_RESPONSE_FIXED_BYTES 16
#define TIDEGATE_ADDRESS_ENTRY_BYTES 20

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

/* An address that tidegate_resolve has found; tidegate_read gives whole ones. */
typedef struct {
    uint8_t family; /* 4 or 6 */
    uint8_t reserved[3];
    uint8_t address[16]; /* IPv4 in the first four */
} tidegate_address_t;

/* The head of a request to another; at `fixed` follow `fields_count` tidegate_field_t, then the bytes. Times of 0 are the
 * host's defaults. */
typedef struct {
    uint32_t size; /* all of it */
    uint16_t version;
    uint16_t fixed;
    uint8_t scheme; /* 0 http, 1 https */
    uint8_t reserved;
    uint16_t flags;
    uint32_t fields_count;
    uint64_t body_len; /* with TIDEGATE_FETCH_LENGTH */
    uint64_t connect_ns;
    uint64_t first_byte_ns;
    uint64_t between_ns;
    tidegate_span_t method;
    tidegate_span_t authority; /* host, and port unless it is the scheme's own */
    tidegate_span_t path;      /* with the query */
} tidegate_fetch_head_t;

/* The head of its response; at `fixed` follow `fields_count` tidegate_field_t, then the bytes. */
typedef struct {
    uint32_t size; /* all of it */
    uint16_t version;
    uint16_t fixed;
    uint16_t status;
    uint16_t reserved;
    uint32_t fields_count;
} tidegate_fetch_response_t;

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
TIDEGATE_ASSERT(sizeof(tidegate_address_t) == TIDEGATE_ADDRESS_ENTRY_BYTES);
TIDEGATE_ASSERT(sizeof(tidegate_fetch_head_t) == TIDEGATE_FETCH_FIXED_BYTES);
TIDEGATE_ASSERT(offsetof(tidegate_fetch_head_t, body_len) == 16);
TIDEGATE_ASSERT(offsetof(tidegate_fetch_head_t, path) == 64);
TIDEGATE_ASSERT(sizeof(tidegate_fetch_response_t) == TIDEGATE_FETCH_RESPONSE_FIXED_BYTES);
TIDEGATE_ASSERT(offsetof(tidegate_fetch_response_t, fields_count) == 12);

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

/* Bytes moved inside the host, from what can be read to what can be written, at most n unless that is negative; 0 at the
 * end. Never waits. */
TIDEGATE_IMPORT("forward") int64_t tidegate_forward(uint32_t from, uint32_t to, int64_t n);

/* A clean end of a body that is written; of a socket, of what the guest sends. trailers is as head above. */
TIDEGATE_IMPORT("finish") int32_t tidegate_finish(uint32_t handle, const void *trailers, size_t len);

/* The trailers of a body that was read to its end: as tidegate_request_head. */
TIDEGATE_IMPORT("trailers") int32_t tidegate_trailers(uint32_t handle, void *buf, size_t cap);

/* Waits until an entry is ready or the time is over; returns how many are. The only call that waits. */
TIDEGATE_IMPORT("poll") int32_t tidegate_poll(tidegate_poll_t *entries, size_t n, int64_t timeout_ns);

/* Gives a handle up. A body that was not finished is cut off. */
TIDEGATE_IMPORT("close") int32_t tidegate_close(uint32_t handle);

/* How a handle failed: 0 or an errno, not negated; no such handle is -TIDEGATE_EBADF. */
TIDEGATE_IMPORT("error") int32_t tidegate_error(uint32_t handle);

/* A socket to address, a text host:port ("db.example:5432", "10.0.0.5:53", "[2001:db8::1]:80"); kind is TIDEGATE_TCP or
 * TIDEGATE_UDP. Returns a handle at once; it is writable when it is connected. */
TIDEGATE_IMPORT("connect") int32_t tidegate_connect(uint32_t kind, const char *address, size_t len);

/* Looks a name up. Returns a handle at once, from which tidegate_read gives tidegate_address_t, as many as fit, and 0 after
 * the last. */
TIDEGATE_IMPORT("resolve") int32_t tidegate_resolve(const char *name, size_t len);

/* An end of a socket as a text ip:port, without a NUL; its length, which if it is more than cap means that nothing was
 * written. which is TIDEGATE_LOCAL or TIDEGATE_PEER. */
TIDEGATE_IMPORT("socket_address")
int32_t tidegate_socket_address(uint32_t handle, uint32_t which, char *buf, size_t cap);

/* Sends a request; head is a tidegate_fetch_head_t with all that belongs to it. body is all of its body, or with
 * TIDEGATE_FETCH_STREAM what it begins with. Returns a handle at once: write and finish are the request's body; it is
 * readable when the response's head is there, and read and trailers are the response's body. */
TIDEGATE_IMPORT_FETCH("request")
int32_t tidegate_fetch_request(const void *head, size_t head_len, const void *body, size_t body_len);

/* The head of its response, as a tidegate_fetch_response_t: as tidegate_request_head, or -TIDEGATE_EAGAIN. */
TIDEGATE_IMPORT_FETCH("head") int32_t tidegate_fetch_head(uint32_t handle, void *buf, size_t cap);

/* Why it failed, as text without a NUL ("connection-refused"): as tidegate_socket_address. 0: it has not failed. */
TIDEGATE_IMPORT_FETCH("reason") int32_t tidegate_fetch_reason(uint32_t handle, char *buf, size_t cap);

/* The key-value store. Each call returns a handle at once, which is readable when the operation is over; tidegate_read
 * then gives what stands here, and 0 behind it. A key is a text of 1 to TIDEGATE_KV_KEY_BYTES_MAX bytes. */

/* The value, or -TIDEGATE_ENOENT. */
TIDEGATE_IMPORT_KV("get") int32_t tidegate_kv_get(const char *key, size_t len);

/* Nothing. */
TIDEGATE_IMPORT_KV("set")
int32_t tidegate_kv_set(const char *key, size_t len, const void *value, size_t value_len);

/* Nothing, whether or not there was one. */
TIDEGATE_IMPORT_KV("delete") int32_t tidegate_kv_delete(const char *key, size_t len);

/* A byte: 1 or 0. */
TIDEGATE_IMPORT_KV("exists") int32_t tidegate_kv_exists(const char *key, size_t len);

/* An int64_t: the sum of delta and the value, which is a whole number in decimal digits; none counts as 0. */
TIDEGATE_IMPORT_KV("increment") int32_t tidegate_kv_increment(const char *key, size_t len, int64_t delta);

/* A byte: 1 if the value was the old one and is the new one now, else 0. flags say which of them is no value at all. */
TIDEGATE_IMPORT_KV("swap")
int32_t tidegate_kv_swap(const char *key, size_t len, const void *old_value, size_t old_len, const void *new_value,
                         size_t new_len, uint32_t flags);

/* Keys that begin with prefix and come behind the key after (0 bytes: from the first on), in the order of their bytes: a
 * uint32_t, 1 if there are more behind them; then each key, its length as a uint32_t in front. */
TIDEGATE_IMPORT_KV("list")
int32_t tidegate_kv_list(const char *prefix, size_t len, const char *after, size_t after_len);

/* What the request has used, as a tidegate_usage_t: as tidegate_request_head. */
TIDEGATE_IMPORT("usage") int32_t tidegate_usage(void *buf, size_t cap);

/* One record into the app's log, cut after 16 KiB. */
TIDEGATE_IMPORT("log") int32_t tidegate_log(uint32_t level, const void *text, size_t len);

#ifdef __cplusplus
}
#endif

#endif
