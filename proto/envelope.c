/*
 * The layout, little-endian:
 *
 *    0  magic "SMP1"       16  request id, 16 bytes
 *    4  u8  version        32  u64 cost_bytes
 *    5  u8  verb           40  trace id, 16 bytes
 *    6  u16 flags          56  u64 epoch
 *    8  u16 status
 *   10  u8  priority
 *   11  u8  attempt
 *   12  u32 budget_ms
 */
#include "proto/envelope.h"

#include "proto/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_VERB = 5,
    AT_FLAGS = 6,
    AT_STATUS = 8,
    AT_PRIORITY = 10,
    AT_ATTEMPT = 11,
    AT_BUDGET = 12,
    AT_REQUEST = 16,
    AT_COST = 32,
    AT_TRACE = 40,
    AT_EPOCH = 56,
};

static const uint8_t magic[4] = {'S', 'M', 'P', '1'};

static const char *const verb_names[PROTO_VERB_END] = {
#define VERB(name, number, body, sender, help) [number] = #name,
#include "proto/verbs.tbl"
};

static bool verb_is_known(unsigned verb)
{
    return verb < PROTO_VERB_END && verb_names[verb] != NULL;
}

const char *proto_verb_name(unsigned verb)
{
    return verb_is_known(verb) ? verb_names[verb] : "?";
}

void proto_envelope_encode(const struct proto_envelope *envelope,
                           uint8_t out[PROTO_ENVELOPE_BYTES])
{
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    out[AT_VERSION] = PROTO_VERSION;
    out[AT_VERB] = envelope->verb;
    proto_put_u16(out + AT_FLAGS, envelope->flags);
    proto_put_u16(out + AT_STATUS, envelope->status);
    out[AT_PRIORITY] = envelope->priority;
    out[AT_ATTEMPT] = envelope->attempt;
    proto_put_u32(out + AT_BUDGET, envelope->budget_ms);
    memcpy(out + AT_REQUEST, envelope->request.bytes, PROTO_ID_BYTES);
    proto_put_u64(out + AT_COST, envelope->cost_bytes);
    memcpy(out + AT_TRACE, envelope->trace.bytes, PROTO_ID_BYTES);
    proto_put_u64(out + AT_EPOCH, envelope->epoch);
}

static struct proto_envelope read_all(const uint8_t *in)
{
    struct proto_envelope envelope = {
        .verb = in[AT_VERB],
        .priority = in[AT_PRIORITY],
        .attempt = in[AT_ATTEMPT],
        .flags = proto_get_u16(in + AT_FLAGS),
        .status = proto_get_u16(in + AT_STATUS),
        .budget_ms = proto_get_u32(in + AT_BUDGET),
        .cost_bytes = proto_get_u64(in + AT_COST),
        .epoch = proto_get_u64(in + AT_EPOCH),
    };
    memcpy(envelope.request.bytes, in + AT_REQUEST, PROTO_ID_BYTES);
    memcpy(envelope.trace.bytes, in + AT_TRACE, PROTO_ID_BYTES);
    return envelope;
}

int proto_envelope_decode(const void *bytes, size_t size, struct proto_envelope *out)
{
    const uint8_t *in = bytes;

    if (size != PROTO_ENVELOPE_BYTES || memcmp(in + AT_MAGIC, magic, sizeof magic) != 0)
        return -EPROTO;

    struct proto_envelope envelope = read_all(in);
    bool known = verb_is_known(envelope.verb) && proto_status_is_known(envelope.status) &&
                 envelope.priority < PROTO_PRIORITIES;
    if (in[AT_VERSION] == PROTO_VERSION && known) {
        *out = envelope;
        return 0;
    }
    /* Magic, version, verb and request keep their places in every version. */
    *out = (struct proto_envelope){.verb = envelope.verb, .request = envelope.request};
    return in[AT_VERSION] == PROTO_VERSION ? -EPROTO : -EPROTONOSUPPORT;
}

void proto_id_hex(const struct proto_id *id, char out[2 * PROTO_ID_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < PROTO_ID_BYTES; i++) {
        out[2 * i] = digits[id->bytes[i] >> 4];
        out[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    out[2 * PROTO_ID_BYTES] = '\0';
}
