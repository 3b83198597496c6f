/* proto_envelope_decode(): what decodes comes back byte for byte, flags and all. */
#include "proto/envelope.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_envelope envelope;
    uint8_t again[PROTO_ENVELOPE_BYTES];
    uint8_t *copy = malloc(size); /* ends where the input does: an overread is seen */

    if (size > 0)
        memcpy(copy, data, size);
    if (proto_envelope_decode(copy, size, &envelope) == 0) {
        proto_envelope_encode(&envelope, again);
        if (memcmp(again, copy, sizeof again) != 0)
            abort();
        if (strcmp(proto_verb_name(envelope.verb), "?") == 0)
            abort();
    }
    free(copy);
    return 0;
}
