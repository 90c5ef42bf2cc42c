/* A handler: tidegate calls `handle` once for each request, in a sandbox of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tidegate.h"

/* Packs one header into what a response's head is. Its size; 0 if cap is too small. */
static size_t pack_header(void *out, size_t cap, const char *name, const char *value) {
    uint32_t name_len = (uint32_t)strlen(name), value_len = (uint32_t)strlen(value);
    uint32_t text = sizeof(tidegate_fields_t) + sizeof(tidegate_field_t);
    uint32_t size = text + name_len + value_len;
    if (size > cap) return 0;
    tidegate_fields_t list = {size, TIDEGATE_VERSION, sizeof list, 1, 0};
    tidegate_field_t field = {{text, name_len}, {text + name_len, value_len}};
    memcpy(out, &list, sizeof list);
    memcpy((char *)out + sizeof list, &field, sizeof field);
    memcpy((char *)out + text, name, name_len);
    memcpy((char *)out + text + name_len, value, value_len);
    return size;
}

/* A whole response in plain text. 0, or 1 if it was refused. */
static int32_t respond_text(uint32_t status, const char *body, size_t len) {
    char head[128];
    size_t size = pack_header(head, sizeof head, "content-type", "text/plain; charset=utf-8");
    return tidegate_respond(status, head, size, body, len) == 0 ? 0 : 1;
}

TIDEGATE_EXPORT("tidegate_handle") int32_t handle(void) {
    /* The head is packed into our memory; how large it is depends on the client. */
    int32_t size = tidegate_request_head(NULL, 0);
    if (size < 0) return 1;
    tidegate_request_head_t *request = malloc((size_t)size);
    if (!request) return 1;
    tidegate_request_head(request, (size_t)size);

    const char *target = (const char *)request + request->target.offset;
    size_t cap = request->target.len + 32;
    char *body = malloc(cap);
    if (!body) return 1;
    int len = snprintf(body, cap, "Hello from %.*s\n", (int)request->target.len, target);
    return respond_text(200, body, (size_t)len);
}
