/*
 * query.h - the query of a request: parameters of the work, and how to show the result.
 *
 * Unknown names, names given twice and names that mean nothing for the route are refused.
 * Pure, thread-safe, no allocation.
 */
#ifndef GATEWAY_QUERY_H
#define GATEWAY_QUERY_H

#include "proto/params.h"
#include "proto/render.h"

#include <stdbool.h>

enum gateway_query_scope {
    GATEWAY_QUERY_FEATURES, /* every parameter, and descriptors */
    GATEWAY_QUERY_DENOISE,  /* h, template, search, orient */
    GATEWAY_QUERY_LOOKUP    /* descriptors */
};

struct gateway_query {
    struct proto_params params; /* defaults where the query is silent */
    enum proto_descriptors descriptors;
    bool has_descriptors;
};

/* 0, or -EINVAL with `error` filled. */
int gateway_query_parse(const char *query, enum gateway_query_scope scope,
                        struct gateway_query *out, struct proto_params_error *error);

#endif
