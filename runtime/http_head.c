/*
 * http_head.c - collect a request's head, and find wrong bytes while it comes in.
 *
 * Line ends, controls, folding and bounds are judged byte by byte, so a client that
 * speaks TLS or ends its lines with a bare LF is told so at its first wrong byte instead
 * of at the deadline. What a complete head means is http_parse.c's.
 */
#include "runtime/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES_FIRST 2048u

enum scan {
    SCAN_START,    /* nothing yet; one empty line is skipped (RFC 9112, 2.2) */
    SCAN_START_LF, /* the LF of that line */
    SCAN_FIRST,    /* after it: nothing more is skipped */
    SCAN_TEXT,     /* in a line */
    SCAN_LF,       /* after a line's CR */
    SCAN_LINE,     /* at the start of a line */
    SCAN_END_LF,   /* after the CR of the empty line */
    SCAN_DONE,
    SCAN_BROKEN
};

int http_head_init(struct http_head *head, const struct http_limits *limits)
{
    *head = (struct http_head){0};
    head->lines = calloc(limits->headers_max + 1, sizeof head->lines[0]);
    return head->lines == NULL ? -ENOMEM : 0;
}

void http_head_free(struct http_head *head)
{
    free(head->bytes);
    free(head->lines);
    free(head->joined);
    *head = (struct http_head){0};
}

void http_head_reset(struct http_head *head)
{
    free(head->joined);
    *head = (struct http_head){
        .bytes = head->bytes, .capacity = head->capacity, .lines = head->lines};
}

static enum http_head_result broken(struct http_head *head, struct http_refusal *why,
                                    const char *detail)
{
    head->scan = SCAN_BROKEN;
    *why = (struct http_refusal){PROTO_STATUS_BAD_REQUEST, detail, 0, 0};
    return HTTP_HEAD_BROKEN;
}

/* Room for `more` bytes, growing to head_bytes_max at most; the caller has checked it. */
static int reserve(struct http_head *head, size_t more)
{
    size_t capacity = head->capacity == 0 ? HEAD_BYTES_FIRST : head->capacity;

    if (head->size + more <= head->capacity)
        return 0;
    while (capacity < head->size + more)
        capacity *= 2;
    char *bytes = realloc(head->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    head->bytes = bytes;
    head->capacity = capacity;
    return 0;
}

static enum http_head_result append(struct http_head *head,
                                    const struct http_limits *limits,
                                    const uint8_t *bytes, size_t size,
                                    struct http_refusal *why)
{
    if (head->size + size > limits->head_bytes_max) {
        head->scan = SCAN_BROKEN;
        *why = (struct http_refusal){PROTO_STATUS_HEAD_TOO_LARGE,
                                     "the request line and headers are too long",
                                     limits->head_bytes_max, head->size + size};
        return HTTP_HEAD_BROKEN;
    }
    if (size > 0 && reserve(head, size) < 0) {
        head->scan = SCAN_BROKEN;
        *why = (struct http_refusal){PROTO_STATUS_FULL, "out of memory", 0, 0};
        return HTTP_HEAD_BROKEN;
    }
    if (size > 0)
        memcpy(head->bytes + head->size, bytes, size);
    head->size += size;
    return HTTP_HEAD_MORE;
}

/* What is wrong with a byte that is no text. */
static const char *bad_byte(uint8_t byte)
{
    if (byte == '\n')
        return "a line ends with a bare LF";
    if (byte == '\r')
        return "a bare CR";
    if (byte == 0)
        return "a NUL in the head";
    return "a control byte in the head";
}

/* The first byte of a line: the state it leads to, or SCAN_BROKEN. */
static enum scan scan_line_start(enum scan state, uint8_t byte)
{
    if (byte == '\r')
        return state == SCAN_LINE    ? SCAN_END_LF
               : state == SCAN_START ? SCAN_START_LF
                                     : SCAN_BROKEN;
    if (byte == ' ' || byte == '\t' || !http_is_text(byte))
        return SCAN_BROKEN;
    return SCAN_TEXT;
}

/* One byte outside a line's text. */
static enum scan scan_byte(enum scan state, uint8_t byte)
{
    switch (state) {
    case SCAN_START:
    case SCAN_FIRST:
    case SCAN_LINE:
        return scan_line_start(state, byte);
    case SCAN_START_LF:
        return byte == '\n' ? SCAN_FIRST : SCAN_BROKEN;
    case SCAN_LF:
        return byte == '\n' ? SCAN_LINE : SCAN_BROKEN;
    case SCAN_END_LF:
        return byte == '\n' ? SCAN_DONE : SCAN_BROKEN;
    default: /* SCAN_TEXT */
        return byte == '\r' ? SCAN_LF : SCAN_BROKEN;
    }
}

static const char *scan_complaint(enum scan state, uint8_t byte)
{
    if (state == SCAN_LF || state == SCAN_END_LF || state == SCAN_START_LF)
        return "a bare CR";
    if (byte == ' ' || byte == '\t')
        return state == SCAN_LINE ? "a folded header line" : "a space before the method";
    if (byte == '\r')
        return "more than one empty line before the request";
    return bad_byte(byte);
}

/* Walk over `bytes`; the number that the head takes. */
static size_t scan(struct http_head *head, const uint8_t *bytes, size_t size,
                   const char **complaint)
{
    enum scan state = (enum scan)head->scan;
    size_t i = 0;

    while (i < size && state != SCAN_DONE) {
        if (state == SCAN_TEXT) {
            while (i < size && http_is_text(bytes[i]))
                i++;
            if (i == size)
                break;
        }
        enum scan next = scan_byte(state, bytes[i]);
        if (next == SCAN_BROKEN) {
            *complaint = scan_complaint(state, bytes[i]);
            break;
        }
        head->line_count += next == SCAN_LINE;
        state = next;
        i++;
    }
    head->scan = state;
    return i;
}

enum http_head_result http_head_feed(struct http_head *head,
                                     const struct http_limits *limits,
                                     const uint8_t *bytes, size_t size, size_t *used,
                                     struct http_refusal *why)
{
    const char *complaint = NULL;
    size_t skip = 0;

    *used = 0;
    if (head->scan == SCAN_BROKEN)
        return broken(head, why, "more after a broken head");
    /* The skipped empty line is not stored: walk it byte by byte. */
    while (skip < size && head->size == 0 && head->scan < SCAN_TEXT &&
           (bytes[skip] == '\r' || bytes[skip] == '\n')) {
        if (scan(head, bytes + skip, 1, &complaint) == 0)
            return broken(head, why, complaint);
        skip++;
    }
    size_t taken = scan(head, bytes + skip, size - skip, &complaint);
    if (complaint != NULL)
        return broken(head, why, complaint);
    *used = skip + taken;
    if (append(head, limits, bytes + skip, taken, why) == HTTP_HEAD_BROKEN)
        return HTTP_HEAD_BROKEN;
    if (head->line_count > (size_t)limits->headers_max + 1) {
        head->scan = SCAN_BROKEN;
        *why = (struct http_refusal){PROTO_STATUS_HEAD_TOO_LARGE, "too many header lines",
                                     limits->headers_max, head->line_count - 1};
        return HTTP_HEAD_BROKEN;
    }
    return head->scan == SCAN_DONE ? HTTP_HEAD_DONE : HTTP_HEAD_MORE;
}

const char *http_head_find(const struct http_head *head, const char *name)
{
    size_t size = strlen(name);

    for (size_t i = 0; i < head->count; i++)
        if (head->lines[i].name_size == size &&
            memcmp(head->lines[i].name, name, size) == 0)
            return head->lines[i].value;
    return NULL;
}
