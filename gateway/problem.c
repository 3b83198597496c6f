#include "gateway/problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AFTER_DETAIL_BYTES 160 /* limit, actual, request_id, braces */

/* The bytes of one character of `text` as JSON wants it; at most 6 and a NUL. What is not
 * ASCII becomes '?': a peer's bytes need not be UTF-8, JSON must be. */
static size_t escape(unsigned char c, char out[8])
{
    if (c == '"' || c == '\\')
        return (size_t)snprintf(out, 8, "\\%c", c);
    if (c < ' ' || c == 0x7f)
        return (size_t)snprintf(out, 8, "\\u%04x", c);
    out[0] = c < 0x7f ? (char)c : '?';
    out[1] = '\0';
    return 1;
}

static size_t put_escaped(char *out, size_t capacity, const char *text)
{
    size_t size = 0;
    char one[8];

    for (; *text != '\0'; text++) {
        size_t more = escape((unsigned char)*text, one);
        if (size + more >= capacity)
            break;
        memcpy(out + size, one, more);
        size += more;
    }
    return size;
}

size_t gateway_problem_write(const struct gateway_problem *problem, char *out,
                             size_t capacity)
{
    const char *code = proto_status_code(problem->status);
    size_t size = (size_t)snprintf(
        out, capacity,
        "{\"type\":\"urn:siftmesh:problem:%s\",\"title\":\"%s\",\"status\":%d,"
        "\"code\":\"%s\",\"detail\":\"",
        code, proto_status_title(problem->status), proto_status_http(problem->status),
        code);

    size +=
        put_escaped(out + size, capacity - size - AFTER_DETAIL_BYTES, problem->detail);
    size += (size_t)snprintf(out + size, capacity - size, "\",\"request_id\":\"%.32s\"",
                             problem->request_id);
    if (problem->limit != 0 || problem->actual != 0)
        size += (size_t)snprintf(out + size, capacity - size,
                                 ",\"limit\":%" PRIu64 ",\"actual\":%" PRIu64,
                                 problem->limit, problem->actual);
    size += (size_t)snprintf(out + size, capacity - size, "}\n");
    return size;
}
