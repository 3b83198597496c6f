/*
 * tags.h - names by which results are purged together: X-Cache-Tag, joined by commas.
 *
 * A tag has 1 to PROTO_TAG_BYTES_MAX of A-Z a-z 0-9 . _ : - and a result at most
 * PROTO_TAGS_MAX. Pure, thread-safe, nothing here allocates; no NUL is needed.
 */
#ifndef PROTO_TAGS_H
#define PROTO_TAGS_H

#include <stdbool.h>
#include <stddef.h>

#define PROTO_TAGS_MAX       8
#define PROTO_TAG_BYTES_MAX  63
#define PROTO_TAGS_BYTES_MAX 511 /* 8 of 63, and the commas */

/* NULL when the tags are well formed, else why not: a static sentence. None is fine. */
const char *proto_tags_check(const char *tags, size_t bytes);
/* Whether `tag` (NUL-ended) is one of them. */
bool proto_tags_have(const char *tags, size_t bytes, const char *tag);
/* The next tag at *tags, of *bytes; *tags and *left move past it. NULL at the end. */
const char *proto_tags_next(const char **tags, size_t *left, size_t *bytes);

#endif
