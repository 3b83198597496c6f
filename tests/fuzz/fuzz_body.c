/*
 * proto_body_decode() with the fields of a verb, which the first byte chooses: what
 * decodes is encoded and decodes to the same body.
 */
#include "proto/body.h"
#include "proto/envelope.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

union any_body {
#define BODY(name)
#define STR(body, field, limit)
#define UINT(body, field)
#define BYTES(body, field, limit)
#define END(name) struct proto_##name name;
#include "proto/bodies.tbl"
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct proto_field *fields, const union any_body *body)
{
    uint8_t bytes[PROTO_BODY_BYTES_MAX];
    union any_body back;

    int length = proto_body_encode(fields, body, bytes, sizeof bytes);
    if (length < 0)
        abort();
    memset(&back, 0, sizeof back);
    if (proto_body_decode(fields, bytes, (size_t)length, &back) < 0)
        abort();
    if (memcmp(&back, body, sizeof back) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct proto_field *fields = proto_verb_fields(data[0] % PROTO_VERB_END);
    if (fields == NULL)
        return 0;

    union any_body body;
    uint8_t *copy = malloc(size - 1);
    if (size > 1)
        memcpy(copy, data + 1, size - 1);
    memset(&body, 0, sizeof body);
    if (proto_body_decode(fields, copy, size - 1, &body) == 0)
        check_round_trip(fields, &body);
    free(copy);
    return 0;
}
