/*
 * purge.h - what the body `purge` may say. Pure, thread-safe.
 */
#ifndef PROTO_PURGE_H
#define PROTO_PURGE_H

#include "proto/body.h"

/* NULL, or why the body is no purge: a static sentence. It names one of key, prefix, tag
 * and older_s; none of them means all. */
const char *proto_purge_check(const struct proto_purge *purge);

#endif
