/*
 * golden.h - what the tests of proto share: golden vectors, noise, exact-size copies.
 */
#ifndef TESTS_UNIT_PROTO_GOLDEN_H
#define TESTS_UNIT_PROTO_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Read tests/golden/<name>.hex: two digits a byte, lines that begin with # skipped. */
static inline size_t golden_load(const char *name, uint8_t *out, size_t capacity)
{
    const char *source = getenv("SIFTMESH_SOURCE");
    char path[4096], line[256];
    size_t size = 0;

    snprintf(path, sizeof path, "%s/tests/golden/%s.hex", source ? source : ".", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail_msg("no %s: run from the source's root, or set SIFTMESH_SOURCE", path);
    while (fgets(line, sizeof line, file) != NULL) {
        for (char *at = line; *line != '#' && *at != '\n' && *at != '\0'; at += 2) {
            unsigned byte;
            assert_int_equal(sscanf(at, "%2x", &byte), 1);
            assert_true(size < capacity);
            out[size++] = (uint8_t)byte;
        }
    }
    fclose(file);
    return size;
}

/* Read tests/golden/<name> as it is. */
static inline size_t golden_read(const char *name, uint8_t *out, size_t capacity)
{
    const char *source = getenv("SIFTMESH_SOURCE");
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/golden/%s", source ? source : ".", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail_msg("no %s: run from the source's root, or set SIFTMESH_SOURCE", path);
    size_t size = fread(out, 1, capacity, file);
    assert_true(size < capacity);
    fclose(file);
    return size;
}

/* xorshift64*: the same noise in every run. */
static inline uint64_t golden_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline void golden_noise(uint64_t *state, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(golden_random(state) >> 56);
}

/* A copy in an allocation of just that size, so that a sanitizer sees an overread. */
static inline uint8_t *golden_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

#endif
