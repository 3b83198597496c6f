/*
 * envelope.h - the fixed binary header that begins every SMP/1 message.
 *
 * 64 bytes, little-endian; layout in docs/PROTOCOL.md section 2 and envelope.c. Times
 * are relative (budget_ms): hosts share no clock. Pure, thread-safe.
 */
#ifndef PROTO_ENVELOPE_H
#define PROTO_ENVELOPE_H

#include "proto/status.h"

#include <stddef.h>
#include <stdint.h>

#define PROTO_ENVELOPE_BYTES 64
#define PROTO_VERSION        1
#define PROTO_ID_BYTES       16

/* In CANCEL: only where no worker was given the request yet; else it goes on. */
#define PROTO_FLAG_FRESH 1u

enum proto_verb {
#define VERB(name, number, body, sender, help) PROTO_##name = number,
#include "proto/verbs.tbl"
    PROTO_VERB_END
};

enum proto_priority {
    PROTO_PRIORITY_HIGH,
    PROTO_PRIORITY_NORMAL,
    PROTO_PRIORITY_BATCH,
    PROTO_PRIORITIES
};

/*
 * How much of `limit`, a bound that all priorities share and of which `used` is taken,
 * a request of `priority` may fill: the last eighth is for high alone, the one before it
 * not for batch. Else what can wait would keep out what cannot. All of it where nothing
 * is taken: what is large is not refused for ever.
 */
static inline uint64_t proto_priority_limit(uint64_t limit, uint64_t used,
                                            unsigned priority)
{
    return used == 0 ? limit : limit - limit / 8 * priority;
}

struct proto_id {
    uint8_t bytes[PROTO_ID_BYTES];
};

struct proto_envelope {
    uint8_t verb;            /* enum proto_verb */
    uint8_t priority;        /* enum proto_priority */
    uint8_t attempt;         /* from 1 in JOB and its answers; else 0 */
    uint16_t flags;          /* PROTO_FLAG_*; a receiver ignores unknown ones */
    uint16_t status;         /* enum proto_status in FINAL, REJECT, DONE, FAIL; else 0 */
    uint32_t budget_ms;      /* time left for the request; 0: none stated */
    uint64_t cost_bytes;     /* memory the work is expected to need, estimated */
    uint64_t epoch;          /* of the broker, from WELCOME on; 0 before */
    struct proto_id request; /* unique in its session; all zero: not about a request */
    struct proto_id trace;   /* follows the request through every process and log */
};

void proto_envelope_encode(const struct proto_envelope *envelope,
                           uint8_t out[PROTO_ENVELOPE_BYTES]);

/*
 * Read a header from a peer. 0; -EPROTO for a wrong size or magic, an unknown verb,
 * status or priority; -EPROTONOSUPPORT for another version. Where the size and the magic
 * are right, an error leaves `out->verb` and `out->request` to answer with, and the rest
 * zero; else `out` is as it was.
 */
int proto_envelope_decode(const void *bytes, size_t size, struct proto_envelope *out);

/* "SUBMIT"; "?" for a number outside the table. */
const char *proto_verb_name(unsigned verb);

/* 32 hexadecimal digits and a NUL. */
void proto_id_hex(const struct proto_id *id, char out[2 * PROTO_ID_BYTES + 1]);

#endif
