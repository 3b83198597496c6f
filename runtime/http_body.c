/*
 * http_body.c - where a body ends.
 *
 * llhttp 8.1 could say so too, but takes a chunk that does not end with CRLF (outside its
 * strict mode), an LF for the last empty line, and size lines and trailers of any length.
 * Framing that two readers understand differently is how requests are smuggled, so it is
 * read here, byte by byte; the fuzz target holds it against llhttp.
 */
#include "runtime/http_internal.h"

enum {
    BODY_LENGTH,     /* plain bytes, `left` of them */
    BODY_SIZE_FIRST, /* a chunk's size needs one digit */
    BODY_SIZE,
    BODY_EXTENSION, /* after ';': ignored (RFC 9112, 7.1.1) */
    BODY_SIZE_LF,
    BODY_DATA,
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER_START,
    BODY_TRAILER, /* thrown away: no trailer means anything here */
    BODY_TRAILER_LF,
    BODY_END_LF,
    BODY_END,
    BODY_BROKEN
};

/* A chunk's size has no more digits than a 63-bit number. */
#define SIZE_DIGITS_MAX 15u

void http_body_begin(struct http_body *body, const struct http_head *head)
{
    *body = (struct http_body){.state = head->chunked ? BODY_SIZE_FIRST : BODY_LENGTH,
                               .left = head->length};
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static unsigned on_size_digit(struct http_body *body, uint8_t byte)
{
    int digit = hex_digit(byte);

    if (digit < 0 || body->framing > SIZE_DIGITS_MAX)
        return BODY_BROKEN;
    body->left = body->left * 16 + (unsigned)digit;
    return BODY_SIZE;
}

static unsigned on_size_byte(struct http_body *body, uint8_t byte)
{
    if (byte == '\r')
        return BODY_SIZE_LF;
    return byte == ';' ? BODY_EXTENSION : on_size_digit(body, byte);
}

/* The size line is complete. */
static unsigned on_size(struct http_body *body)
{
    body->framing = 0;
    return body->left == 0 ? BODY_TRAILER_START : BODY_DATA;
}

static unsigned on_trailer_start(uint8_t byte)
{
    if (byte == '\r')
        return BODY_END_LF;
    return http_is_text(byte) && byte != ' ' && byte != '\t' ? BODY_TRAILER : BODY_BROKEN;
}

static unsigned expect_byte(uint8_t byte, uint8_t expected, unsigned next)
{
    return byte == expected ? next : BODY_BROKEN;
}

/* The state after one byte of framing. */
static unsigned on_framing(struct http_body *body, uint8_t byte)
{
    switch (body->state) {
    case BODY_SIZE_FIRST:
        return on_size_digit(body, byte);
    case BODY_SIZE:
        return on_size_byte(body, byte);
    case BODY_EXTENSION:
        if (http_is_text(byte))
            return BODY_EXTENSION;
        return expect_byte(byte, '\r', BODY_SIZE_LF);
    case BODY_SIZE_LF:
        return byte == '\n' ? on_size(body) : BODY_BROKEN;
    case BODY_DATA_CR:
        return expect_byte(byte, '\r', BODY_DATA_LF);
    case BODY_DATA_LF:
        body->framing = 0;
        return expect_byte(byte, '\n', BODY_SIZE_FIRST);
    case BODY_TRAILER_START:
        return on_trailer_start(byte);
    case BODY_TRAILER:
        return http_is_text(byte) ? BODY_TRAILER
                                  : expect_byte(byte, '\r', BODY_TRAILER_LF);
    case BODY_TRAILER_LF:
        return expect_byte(byte, '\n', BODY_TRAILER_START);
    case BODY_END_LF:
        return expect_byte(byte, '\n', BODY_END);
    default:
        return BODY_BROKEN;
    }
}

static enum http_body_event broken(struct http_body *body, struct http_refusal *why,
                                   const char *detail)
{
    body->state = BODY_BROKEN;
    *why = (struct http_refusal){PROTO_STATUS_BAD_REQUEST, detail, 0, 0};
    return HTTP_BODY_BROKEN;
}

static bool is_framing_too_long(const struct http_body *body)
{
    bool is_trailer = body->state >= BODY_TRAILER_START;

    return body->framing >
           (is_trailer ? HTTP_TRAILER_BYTES_MAX : HTTP_CHUNK_LINE_BYTES_MAX);
}

/* Bytes of the body itself. */
static enum http_body_event take_data(struct http_body *body, size_t size, size_t *used,
                                      size_t *piece)
{
    size_t take = size < body->left ? size : (size_t)body->left;

    *used += take;
    *piece = take;
    body->left -= take;
    body->received += take;
    if (body->left == 0)
        body->state = body->state == BODY_DATA ? BODY_DATA_CR : BODY_END;
    return HTTP_BODY_PIECE;
}

enum http_body_event http_body_next(struct http_body *body, uint64_t bytes_max,
                                    const uint8_t *bytes, size_t size, size_t *used,
                                    size_t *piece, struct http_refusal *why)
{
    *used = *piece = 0;
    for (;;) {
        if (body->state == BODY_END)
            return HTTP_BODY_DONE;
        if (*used == size)
            return HTTP_BODY_MORE;
        if (body->state == BODY_LENGTH || body->state == BODY_DATA)
            return take_data(body, size - *used, used, piece);

        body->framing++;
        body->state = on_framing(body, bytes[*used]);
        (*used)++;
        if (body->state == BODY_BROKEN)
            return broken(body, why, "the chunked body is malformed");
        if (is_framing_too_long(body))
            return broken(body, why, "a chunk's size line or the trailers are too long");
        if (body->state == BODY_DATA && body->left > bytes_max - body->received) {
            uint64_t actual = body->received + body->left;
            broken(body, why, "the body is too large");
            why->status = PROTO_STATUS_TOO_LARGE;
            why->limit = bytes_max;
            why->actual = actual;
            return HTTP_BODY_BROKEN;
        }
    }
}
