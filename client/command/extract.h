/*
 * extract.h - one photo to the mesh and its features back, however often that takes.
 */
#ifndef CLIENT_COMMAND_EXTRACT_H
#define CLIENT_COMMAND_EXTRACT_H

#include "client/command/command.h"

struct extract_way {
    const char *http;                /* a gateway's URL; NULL: by ZeroMQ */
    const struct command_mesh *mesh; /* found; for ZeroMQ */
    const struct proto_params *params;
    const char *query; /* the same as a query string, for HTTP */
    int timeout_ms;    /* of one photo, with all its attempts */
};

struct extract_answer {
    uint8_t *blob; /* malloc'd; NULL unless EX_OK */
    size_t size;
    char why[512]; /* a sentence unless EX_OK */
    bool gone;     /* nothing answered at all: the next photo would fare as this one */
};

/*
 * Sends the photo until it has an end: a mesh that is full, draining or restarted is
 * asked again after its Retry-After, EXTRACT_TRIES_MAX times and `timeout_ms` at most.
 * `*mesh` is this thread's handle, NULL before the first photo. An exit code of
 * sysexits.h.
 */
#define EXTRACT_TRIES_MAX 20
int extract_send(const struct extract_way *way, struct siftmesh **mesh,
                 const uint8_t *image, size_t size, struct extract_answer *out);

#endif
