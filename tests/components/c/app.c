// The routes that tests/components.rs asks of a component of every language, here on what `wit-bindgen c` makes of
// wasi:http. Calls return false when the other side of a `result` came back.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

typedef struct {
    wasi_http_types_own_outgoing_body_t body;
    wasi_io_streams_own_output_stream_t stream;
} sink_t;

static void fail(wasi_io_streams_stream_error_t *error) { wasi_io_streams_stream_error_free(error); }

static wasi_http_types_own_fields_t fields(const char *name, const char *value) {
    wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
    wasi_http_types_field_name_t field = {(uint8_t *)name, strlen(name)};
    wasi_http_types_field_value_t text = {(uint8_t *)value, strlen(value)};
    wasi_http_types_header_error_t error;
    if (!wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &field, &text, &error)) abort();
    return fields;
}

// Sends the head; the sink takes the body. The headers are the response's from now on.
static sink_t start(wasi_http_types_own_response_outparam_t out, uint16_t status, wasi_http_types_own_fields_t headers) {
    sink_t sink;
    wasi_http_types_own_outgoing_response_t response = wasi_http_types_constructor_outgoing_response(headers);
    wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(response);
    if (!wasi_http_types_method_outgoing_response_set_status_code(borrowed, status)) abort();
    if (!wasi_http_types_method_outgoing_response_body(borrowed, &sink.body)) abort();
    wasi_http_types_borrow_outgoing_body_t body = wasi_http_types_borrow_outgoing_body(sink.body);
    if (!wasi_http_types_method_outgoing_body_write(body, &sink.stream)) abort();
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);
    return sink;
}

// Writes as much as there is a permit for, and waits for the next one. False once the client is gone.
static bool send(sink_t *sink, const uint8_t *bytes, size_t len) {
    wasi_io_streams_borrow_output_stream_t stream = wasi_io_streams_borrow_output_stream(sink->stream);
    wasi_io_streams_stream_error_t error;
    while (len > 0) {
        uint64_t permit;
        if (!wasi_io_streams_method_output_stream_check_write(stream, &permit, &error)) return fail(&error), false;
        if (permit == 0) {
            wasi_io_poll_own_pollable_t ready = wasi_io_streams_method_output_stream_subscribe(stream);
            wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
            wasi_io_poll_pollable_drop_own(ready);
            continue;
        }
        app_list_u8_t piece = {(uint8_t *)bytes, permit < len ? (size_t)permit : len};
        if (!wasi_io_streams_method_output_stream_write(stream, &piece, &error)) return fail(&error), false;
        bytes += piece.len;
        len -= piece.len;
    }
    return true;
}

static bool flush(sink_t *sink) {
    wasi_io_streams_stream_error_t error;
    wasi_io_streams_borrow_output_stream_t stream = wasi_io_streams_borrow_output_stream(sink->stream);
    if (!wasi_io_streams_method_output_stream_blocking_flush(stream, &error)) return fail(&error), false;
    return true;
}

// A clean end. The stream goes first: it is a child of the body.
static void finish(sink_t sink, wasi_http_types_own_trailers_t *trailers) {
    wasi_http_types_error_code_t error;
    wasi_io_streams_output_stream_drop_own(sink.stream);
    if (!wasi_http_types_static_outgoing_body_finish(sink.body, trailers, &error)) {
        wasi_http_types_error_code_free(&error);
    }
}

static void answer(wasi_http_types_own_response_outparam_t out, uint16_t status, const char *kind, const char *body) {
    sink_t sink = start(out, status, fields("content-type", kind));
    send(&sink, (const uint8_t *)body, strlen(body));
    finish(sink, NULL);
}

static void nap(uint64_t ms) {
    wasi_io_poll_own_pollable_t timer = wasi_clocks_monotonic_clock_subscribe_duration(ms * 1000000);
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(timer));
    wasi_io_poll_pollable_drop_own(timer);
}

// The number behind `name=` in the query; zero without one.
static uint64_t number(const char *query, const char *name) {
    size_t len = strlen(name);
    for (; query; query = strchr(query, '&')) {
        query += *query == '&';
        if (strncmp(query, name, len) == 0 && query[len] == '=') return strtoull(query + len + 1, NULL, 10);
    }
    return 0;
}

typedef struct {
    wasi_http_types_own_incoming_body_t body;
    wasi_io_streams_own_input_stream_t stream;
} source_t;

static source_t consume(wasi_http_types_borrow_incoming_request_t request) {
    source_t source;
    if (!wasi_http_types_method_incoming_request_consume(request, &source.body)) abort();
    wasi_http_types_borrow_incoming_body_t body = wasi_http_types_borrow_incoming_body(source.body);
    if (!wasi_http_types_method_incoming_body_stream(body, &source.stream)) abort();
    return source;
}

static void drop(source_t source) {
    wasi_io_streams_input_stream_drop_own(source.stream);
    wasi_http_types_incoming_body_drop_own(source.body);
}

// The body goes through as it comes, and never through the memory of this component.
static void echo(wasi_http_types_borrow_incoming_request_t request, wasi_http_types_own_response_outparam_t out) {
    wasi_http_types_field_name_t name = {(uint8_t *)"content-type", strlen("content-type")};
    wasi_http_types_list_field_value_t values;
    wasi_http_types_own_headers_t given = wasi_http_types_method_incoming_request_headers(request);
    wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(given), &name, &values);
    wasi_http_types_own_fields_t headers = wasi_http_types_constructor_fields();
    wasi_http_types_header_error_t header_error;
    if (!wasi_http_types_method_fields_set(wasi_http_types_borrow_fields(headers), &name, &values, &header_error)) abort();
    wasi_http_types_list_field_value_free(&values);
    wasi_http_types_fields_drop_own(given);

    source_t source = consume(request);
    sink_t sink = start(out, 200, headers);
    wasi_io_streams_borrow_output_stream_t to = wasi_io_streams_borrow_output_stream(sink.stream);
    wasi_io_streams_borrow_input_stream_t from = wasi_io_streams_borrow_input_stream(source.stream);
    wasi_io_streams_stream_error_t error;
    uint64_t moved;
    while (wasi_io_streams_method_output_stream_blocking_splice(to, from, 64 << 10, &moved, &error)) {
    }
    bool ended = error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED;
    fail(&error);
    drop(source);
    if (ended) {
        finish(sink, NULL);
    } else {
        // Dropped without `finish`: the body is cut, and nobody takes it for a whole one.
        wasi_io_streams_output_stream_drop_own(sink.stream);
        wasi_http_types_outgoing_body_drop_own(sink.body);
    }
}

static void lines(wasi_http_types_own_response_outparam_t out, uint64_t n, uint64_t ms) {
    sink_t sink = start(out, 200, fields("content-type", "text/plain"));
    for (uint64_t line = 1; line <= n; line++) {
        char text[40];
        nap(ms);
        int len = snprintf(text, sizeof text, "line %llu\n", (unsigned long long)line);
        if (!send(&sink, (const uint8_t *)text, (size_t)len) || !flush(&sink)) break;
    }
    finish(sink, NULL);
}

static void trailers(wasi_http_types_own_response_outparam_t out) {
    sink_t sink = start(out, 200, fields("trailer", "x-bytes"));
    send(&sink, (const uint8_t *)"body\n", 5);
    wasi_http_types_own_trailers_t trailers = fields("x-bytes", "5");
    finish(sink, &trailers);
}

// Enough of a parser for {"numbers":[1,2,3]}.
static void json(wasi_http_types_borrow_incoming_request_t request, wasi_http_types_own_response_outparam_t out) {
    char body[4096], text[80];
    size_t len = 0;
    source_t source = consume(request);
    app_list_u8_t piece;
    wasi_io_streams_stream_error_t error;
    wasi_io_streams_borrow_input_stream_t from = wasi_io_streams_borrow_input_stream(source.stream);
    while (len < sizeof body - 1 &&
           wasi_io_streams_method_input_stream_blocking_read(from, sizeof body - 1 - len, &piece, &error)) {
        memcpy(body + len, piece.ptr, piece.len);
        len += piece.len;
        app_list_u8_free(&piece);
    }
    body[len] = 0;
    drop(source);

    long long sum = 0;
    int count = 0;
    char *at = strstr(body, "\"numbers\":[");
    char *end = at ? at + strlen("\"numbers\":") : NULL;
    while (end && *end != ']') {
        char *from_here = end + 1;
        sum += strtoll(from_here, &end, 10);
        count++;
        if (end == from_here || (*end != ',' && *end != ']')) end = NULL;
    }
    if (!end) {
        answer(out, 400, "text/plain", "no numbers\n");
        return;
    }
    snprintf(text, sizeof text, "{\"sum\":%lld,\"count\":%d}", sum, count);
    answer(out, 200, "application/json", text);
}

// Byte i is i % 256. `send` waits for a permit before each piece.
static void big(wasi_http_types_own_response_outparam_t out, uint64_t left) {
    static uint8_t pattern[64 << 10];
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (uint8_t)i;
    sink_t sink = start(out, 200, fields("content-type", "application/octet-stream"));
    while (left > 0) {
        size_t len = left < sizeof pattern ? (size_t)left : sizeof pattern;
        if (!send(&sink, pattern, len)) break;
        left -= len;
    }
    finish(sink, NULL);
}

static void hoard(void) {
    for (;;) {
        // Volatile, or the compiler leaves out memory that nobody reads.
        volatile uint8_t *more = malloc(1 << 20);
        if (!more) abort();
        *more = 1;
    }
}

static void route(const char *path, const char *query, wasi_http_types_borrow_incoming_request_t request,
                  wasi_http_types_own_response_outparam_t out) {
    if (strcmp(path, "/") == 0) {
        answer(out, 200, "text/plain", "hello from C\n");
    } else if (strcmp(path, "/echo") == 0) {
        echo(request, out);
    } else if (strcmp(path, "/stream") == 0) {
        lines(out, number(query, "n"), number(query, "ms"));
    } else if (strcmp(path, "/wait") == 0) {
        nap(number(query, "ms"));
        answer(out, 200, "text/plain", "waited\n");
    } else if (strcmp(path, "/trailers") == 0) {
        trailers(out);
    } else if (strcmp(path, "/json") == 0) {
        json(request, out);
    } else if (strcmp(path, "/env") == 0) {
        const char *greeting = getenv("GREETING");
        answer(out, 200, "text/plain", greeting ? greeting : "");
    } else if (strcmp(path, "/log") == 0) {
        printf("to standard output\n");
        fflush(stdout);
        fprintf(stderr, "to standard error\n");
        answer(out, 200, "text/plain", "logged\n");
    } else if (strcmp(path, "/crash") == 0) {
        abort();
    } else if (strcmp(path, "/big") == 0) {
        big(out, number(query, "bytes"));
    } else if (strcmp(path, "/spin") == 0) {
        for (volatile uint64_t n = 0;; n++) {
        }
    } else if (strcmp(path, "/hoard") == 0) {
        hoard();
    } else {
        answer(out, 404, "text/plain", "");
    }
}

void exports_wasi_http_incoming_handler_handle(exports_wasi_http_incoming_handler_own_incoming_request_t request,
                                               exports_wasi_http_incoming_handler_own_response_outparam_t out) {
    wasi_http_types_borrow_incoming_request_t borrowed = wasi_http_types_borrow_incoming_request(request);
    app_string_t target;
    char path[1024] = "/";
    if (wasi_http_types_method_incoming_request_path_with_query(borrowed, &target)) {
        snprintf(path, sizeof path, "%.*s", (int)target.len, (const char *)target.ptr);
        app_string_free(&target);
    }
    char *query = strchr(path, '?');
    if (query) *query++ = 0;
    route(path, query, borrowed, out);
    wasi_http_types_incoming_request_drop_own(request);
}
