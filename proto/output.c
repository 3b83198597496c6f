#include "proto/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 4096 /* bytes */

uint8_t *proto_output_reserve(struct proto_output *output, size_t size)
{
    if (output->failed)
        return NULL;
    if (size > output->capacity - output->size) {
        size_t capacity = output->size + size;
        /* Exact at first, for who knows the whole size; then by half. */
        if (output->data != NULL)
            capacity += capacity / 2;
        if (capacity < CAPACITY_MIN)
            capacity = CAPACITY_MIN;
        uint8_t *data = realloc(output->data, capacity);
        if (data == NULL) {
            output->failed = true;
            return NULL;
        }
        output->data = data;
        output->capacity = capacity;
    }
    return output->data + output->size;
}

void proto_output_put(struct proto_output *output, const void *bytes, size_t size)
{
    uint8_t *at = proto_output_reserve(output, size);

    if (at == NULL || size == 0)
        return;
    memcpy(at, bytes, size);
    output->size += size;
}

void proto_output_text(struct proto_output *output, const char *text)
{
    proto_output_put(output, text, strlen(text));
}

void proto_output_uint(struct proto_output *output, uint64_t number)
{
    char text[24];

    proto_output_put(output, text,
                     (size_t)snprintf(text, sizeof text, "%" PRIu64, number));
}
