/*
 * output.h - a buffer that grows while a renderer writes into it.
 *
 * Not bounded by itself: what is written follows from a blob, whose size is. A failed
 * allocation sticks, so that writers need not look at each step.
 */
#ifndef PROTO_OUTPUT_H
#define PROTO_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proto_output {
    uint8_t *data; /* malloc'd; whoever takes the result frees it */
    size_t size, capacity;
    bool failed; /* out of memory; what is written from then on is lost */
};

/*
 * Make room for `size` bytes more. Returns where they begin, or NULL when out of memory.
 * The caller writes there and then adds what it wrote to output->size.
 */
uint8_t *proto_output_reserve(struct proto_output *output, size_t size);

void proto_output_put(struct proto_output *output, const void *bytes, size_t size);
void proto_output_text(struct proto_output *output, const char *text);
void proto_output_uint(struct proto_output *output, uint64_t number);

#endif
