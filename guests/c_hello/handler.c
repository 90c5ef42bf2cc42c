/* A handler in C, with wasi-libc:
 *
 *     GET  /           a greeting
 *     POST /           a greeting for the name in the body
 *     GET  /count/N    N lines, as fast as the client reads them and no faster
 *
 * The first half is what any C handler needs, to be copied; the second half is the handler. docs/guide-c.md explains it
 * step by step. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tidegate.h"

static const char *const TEXT[] = {"content-type", "text/plain; charset=utf-8", NULL};

/* ---- Helpers -------------------------------------------------------------------------------------------------- */

/* Waits until the handle is ready. A client that goes away ends the handler in here: the call does not return then. */
static void wait_for(uint32_t handle, uint16_t interest) {
    tidegate_poll_t entry = {.handle = handle, .interest = interest};
    tidegate_poll(&entry, 1, TIDEGATE_FOREVER);
}

/* Writes all of it, waiting while the client is slow. 0, or the errno. */
static int write_all(uint32_t body, const char *bytes, size_t len) {
    while (len > 0) {
        int32_t n = tidegate_write(body, bytes, len);
        if (n == -TIDEGATE_EAGAIN) {
            wait_for(body, TIDEGATE_WRITABLE);
            continue;
        }
        if (n < 0) return -n;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads the whole body into memory that the caller frees, with a NUL behind it. 0, or the errno: EFBIG if it is longer
 * than max. */
static int read_all(uint32_t body, size_t max, char **out, size_t *out_len) {
    size_t len = 0, cap = 512;
    char *bytes = malloc(cap);
    if (!bytes) abort();
    for (;;) {
        if (len + 1 == cap) {
            char *more = realloc(bytes, cap *= 2);
            if (!more) abort();
            bytes = more;
        }
        int32_t n = tidegate_read(body, bytes + len, cap - len - 1);
        if (n == -TIDEGATE_EAGAIN) {
            wait_for(body, TIDEGATE_READABLE);
            continue;
        }
        if (n > 0) len += (size_t)n;
        if (n < 0 || len > max) {
            free(bytes);
            return n < 0 ? -n : TIDEGATE_EFBIG;
        }
        if (n == 0) break;
    }
    bytes[len] = '\0';
    *out = bytes;
    *out_len = len;
    return 0;
}

/* The request's head, in memory that the caller frees. */
static tidegate_request_head_t *request_head(void) {
    int32_t cap = 1024;
    for (;;) {
        tidegate_request_head_t *head = malloc((size_t)cap);
        if (!head) abort();
        int32_t len = tidegate_request_head(head, (size_t)cap);
        if (len <= cap) return head;
        free(head);
        cap = len;
    }
}

/* True if the bytes that span names are this text. Spans have no NUL behind them. */
static bool is(const tidegate_request_head_t *head, tidegate_span_t span, const char *text) {
    return span.len == strlen(text) && memcmp((const char *)head + span.offset, text, span.len) == 0;
}

/* Packs fields, given as name, value, name, value, NULL, into what a response head is. Its size; 0 if cap is too small. */
static size_t pack_fields(void *out, size_t cap, const char *const *texts) {
    size_t count = 0, size = sizeof(tidegate_fields_t);
    for (; texts[2 * count]; count++) {
        size += sizeof(tidegate_field_t) + strlen(texts[2 * count]) + strlen(texts[2 * count + 1]);
    }
    if (size > cap) return 0;
    tidegate_fields_t list = {(uint32_t)size, TIDEGATE_VERSION, sizeof list, (uint32_t)count, 0};
    memcpy(out, &list, sizeof list);
    char *table = (char *)out + sizeof list;
    size_t next = sizeof list + count * sizeof(tidegate_field_t);
    for (size_t i = 0; i < 2 * count; i++) {
        tidegate_span_t span = {(uint32_t)next, (uint32_t)strlen(texts[i])};
        memcpy(table + i * sizeof span, &span, sizeof span);
        memcpy((char *)out + next, texts[i], span.len);
        next += span.len;
    }
    return size;
}

/* A whole response in plain text. What tidegate_handle is to return. */
static int32_t respond(uint32_t status, const char *body, size_t len) {
    char head[128];
    size_t size = pack_fields(head, sizeof head, TEXT);
    return tidegate_respond(status, head, size, body, len) == 0 ? 0 : 1;
}

/* ---- The handler ---------------------------------------------------------------------------------------------- */

#define NAME_BYTES_MAX 1000
#define LINES_MAX 100000000ul

/* Set when the instance is made: _initialize, which wasi-libc brings along, runs constructors. */
static const char *greeting;

__attribute__((constructor)) static void read_environment(void) {
    greeting = getenv("GREETING");
    if (!greeting) greeting = "Hello";
}

static int32_t greet(const char *name, size_t len) {
    char text[64 + NAME_BYTES_MAX];
    int n = snprintf(text, sizeof text, "%.40s, %.*s!\n", greeting, (int)len, name);
    return respond(200, text, (size_t)n);
}

static int32_t greet_by_body(uint32_t body) {
    char *name;
    size_t len;
    int failed = read_all(body, NAME_BYTES_MAX, &name, &len);
    if (failed == TIDEGATE_EFBIG) return respond(413, "your name is too long\n", 22);
    if (failed == TIDEGATE_ETIMEDOUT) return respond(408, "you are too slow\n", 17);
    if (failed) return 1;
    printf("a body of %zu bytes\n", len); /* standard output goes into the app's log, line by line */
    int32_t result = len ? greet(name, len) : greet("World", 5);
    free(name);
    return result;
}

static int32_t count(uint32_t body, unsigned long lines) {
    char head[128];
    size_t size = pack_fields(head, sizeof head, TEXT);
    if (tidegate_response_head(200, head, size) != 0) return 1;
    /* A call for each line would do as well, and cost a hundred times as many calls. */
    char chunk[4096];
    size_t used = 0;
    for (unsigned long i = 0; i < lines; i++) {
        used += (size_t)snprintf(chunk + used, sizeof chunk - used, "%lu\n", i);
        if (used > sizeof chunk - 24 || i + 1 == lines) {
            if (write_all(body, chunk, used) != 0) return 1;
            used = 0;
        }
    }
    return tidegate_finish(body, NULL, 0) == 0 ? 0 : 1;
}

static int32_t answer(const tidegate_request_head_t *head) {
    bool get = is(head, head->method, "GET") || is(head, head->method, "HEAD");
    bool post = is(head, head->method, "POST");
    if (is(head, head->target, "/")) {
        if (get) return greet("World", 5);
        if (post) return greet_by_body(head->request_body);
        return respond(405, "GET or POST\n", 12);
    }
    char target[32] = "";
    if (head->target.len < sizeof target) memcpy(target, (const char *)head + head->target.offset, head->target.len);
    unsigned long lines;
    int end = 0;
    if (get && sscanf(target, "/count/%lu%n", &lines, &end) == 1 && target[end] == '\0' && lines <= LINES_MAX) {
        return count(head->response_body, lines);
    }
    static const char lost[] = "nothing is here";
    tidegate_log(TIDEGATE_LOG_WARN, lost, sizeof lost - 1);
    return respond(404, "not here\n", 9);
}

TIDEGATE_EXPORT("tidegate_handle") int32_t handle(void) {
    tidegate_request_head_t *head = request_head();
    int32_t result = answer(head);
    free(head);
    return result;
}
