/*
 * gateway_multipart_feed(): the same form cut in two ways gives the same file and the
 * same verdict. The first byte chooses the cuts, the first line is the boundary.
 */
#include "gateway/multipart.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sunk {
    uint8_t *bytes;
    size_t size, capacity;
};

static int sink(void *arg, const uint8_t *bytes, size_t size)
{
    struct sunk *sunk = arg;

    if (size > sunk->capacity - sunk->size)
        abort(); /* more came out than went in */
    memcpy(sunk->bytes + sunk->size, bytes, size);
    sunk->size += size;
    return 0;
}

static int parse(const char *type, const uint8_t *body, size_t size, size_t run,
                 struct sunk *sunk)
{
    struct gateway_multipart multipart;
    int err = gateway_multipart_init(&multipart, type);

    for (size_t at = 0; at < size && err == 0; at += run) {
        size_t now = size - at < run ? size - at : run;
        uint8_t *copy = malloc(now);
        memcpy(copy, body + at, now);
        err = gateway_multipart_feed(&multipart, copy, now, sink, sunk);
        free(copy);
    }
    if (err == 0)
        err = gateway_multipart_finish(&multipart);
    if (err < 0 && multipart.detail[0] == '\0')
        abort();
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char type[160];
    const uint8_t *line = size < 2 ? NULL : memchr(data + 1, '\n', size - 1);

    if (line == NULL)
        return 0;
    snprintf(type, sizeof type, "multipart/form-data; boundary=%.*s",
             (int)(line - data - 1 > 100 ? 100 : line - data - 1), data + 1);
    const uint8_t *body = line + 1;
    size_t body_size = size - (size_t)(body - data);
    struct sunk one = {malloc(body_size + 1), 0, body_size};
    struct sunk two = {malloc(body_size + 1), 0, body_size};
    int first = parse(type, body, body_size, 1 + data[0] % 64, &one);
    int second = parse(type, body, body_size, body_size > 0 ? body_size : 1, &two);
    if (first != second || one.size != two.size ||
        memcmp(one.bytes, two.bytes, one.size) != 0)
        abort();
    free(one.bytes);
    free(two.bytes);
    return 0;
}
