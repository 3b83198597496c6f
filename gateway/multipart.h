/*
 * multipart.h - the picture inside a multipart/form-data body (RFC 7578, RFC 2046).
 *
 * Streams: bytes in, the bytes of the field "file" out and then those of the field
 * "mask", if there is one; nothing buffered but a part's headers. Any other field or
 * order, and a second field of a name, is an error that names it. A part's own type and
 * file name are ignored: the content decides. Bytes come from a peer and are hostile.
 * Pure, no allocation.
 */
#ifndef GATEWAY_MULTIPART_H
#define GATEWAY_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GATEWAY_BOUNDARY_BYTES_MAX    70 /* RFC 2046, section 5.1.1 */
#define GATEWAY_PART_HEADER_BYTES_MAX 4096

struct gateway_multipart {
    unsigned state;
    char delimiter[4 + GATEWAY_BOUNDARY_BYTES_MAX + 1]; /* CR LF - - boundary */
    size_t delimiter_size;
    size_t matched; /* bytes of the delimiter seen at the end of the last feed */
    char header[GATEWAY_PART_HEADER_BYTES_MAX + 1];
    size_t header_size;
    bool has_file, in_mask; /* in_mask: what the sink is given is the mask's */
    char detail[160]; /* why it failed, one sentence, printable ASCII without quotes */
};

/* Takes a run of a field's bytes; an error ends the feed and is returned by it. */
typedef int gateway_multipart_sink(void *arg, const uint8_t *bytes, size_t size);

/* From the whole Content-Type. 0, or -EINVAL with `detail`: no boundary, or a bad one. */
int gateway_multipart_init(struct gateway_multipart *multipart, const char *content_type);

/* The next bytes of the body, in runs of any size. 0; -EINVAL with `detail`; or what the
 * sink returned. After an error it is not to be fed again. */
int gateway_multipart_feed(struct gateway_multipart *multipart, const uint8_t *bytes,
                           size_t size, gateway_multipart_sink *sink, void *arg);

/* The body is over. 0, or -EINVAL with `detail`: cut off, or without a field "file". */
int gateway_multipart_finish(struct gateway_multipart *multipart);

#endif
