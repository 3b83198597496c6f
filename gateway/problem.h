/*
 * problem.h - how an error is told: a problem document (RFC 9457). Pure, thread-safe.
 */
#ifndef GATEWAY_PROBLEM_H
#define GATEWAY_PROBLEM_H

#include "proto/status.h"

#include <stddef.h>
#include <stdint.h>

#define GATEWAY_PROBLEM_BYTES_MAX 2048

struct gateway_problem {
    enum proto_status status;
    const char *detail; /* one sentence; bytes of a peer are allowed, they are escaped */
    const char *request_id;
    uint64_t limit, actual; /* shown unless both are 0 */
};

/*
 * Write the JSON document to `out`; returns its length, below `capacity`. A detail that
 * does not fit is cut; `capacity` is at least 512.
 */
size_t gateway_problem_write(const struct gateway_problem *problem, char *out,
                             size_t capacity);

#endif
