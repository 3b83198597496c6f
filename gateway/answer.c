#include "gateway/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const descriptors_suffix[] = {"", "-base64", "-none"};

size_t gateway_answer_offers(const char *offers[PROTO_FORMAT_COUNT])
{
    for (unsigned i = 0; i < PROTO_FORMAT_COUNT; i++)
        offers[i] = proto_format_media((enum proto_format)i);
    return PROTO_FORMAT_COUNT;
}

/* ---- the hot cache -------------------------------------------------------------- */

/* Key, format, descriptors. The result itself, blob or PNG, is under BIN. */
struct hot_key {
    uint8_t bytes[PROTO_DIGEST_BYTES + 2];
};

static struct gateway_variant normal_variant(const struct gateway_variant *variant)
{
    struct gateway_variant normal = {.format = PROTO_FORMAT_BIN};

    if (!variant->png)
        normal.format = variant->format;
    if (normal.format == PROTO_FORMAT_JSON)
        normal.descriptors = variant->descriptors;
    return normal;
}

static struct hot_key hot_key(const uint8_t key[PROTO_DIGEST_BYTES],
                              const struct gateway_variant *variant)
{
    struct gateway_variant normal = normal_variant(variant);
    struct hot_key hot;

    memcpy(hot.bytes, key, PROTO_DIGEST_BYTES);
    hot.bytes[PROTO_DIGEST_BYTES] = (uint8_t)normal.format;
    hot.bytes[PROTO_DIGEST_BYTES + 1] = (uint8_t)normal.descriptors;
    return hot;
}

static void keep(struct gateway *gateway, const struct hot_key *key,
                 struct hotcache_value *value, uint64_t now_us)
{
    /* What is too large for it is counted there and rendered again next time. */
    (void)hotcache_put(gateway->hot, key->bytes, sizeof key->bytes, value,
                       gateway->options->hot_ttl_ms * 1000, now_us);
}

static void forget(struct gateway *gateway, const uint8_t key[PROTO_DIGEST_BYTES])
{
    struct gateway_variant variant = {0};

    for (unsigned format = 0; format < PROTO_FORMAT_COUNT; format++)
        for (unsigned d = 0; d <= PROTO_DESCRIPTORS_NONE; d++) {
            variant.format = (enum proto_format)format;
            variant.descriptors = (enum proto_descriptors)d;
            struct hot_key hot = hot_key(key, &variant);
            (void)hotcache_remove(gateway->hot, hot.bytes, sizeof hot.bytes);
        }
}

void gateway_answer_purge(struct gateway *gateway, const struct mesh_msg *msg)
{
    struct proto_purge purge;

    if (proto_body_decode(proto_purge_fields, msg->body, msg->body_bytes, &purge) < 0)
        return;
    gateway->metrics->purges++;
    if (purge.key_bytes == PROTO_DIGEST_BYTES)
        forget(gateway, purge.key);
    else
        hotcache_clear(gateway->hot);
}

/* ---- renderings ----------------------------------------------------------------- */

static int render(struct gateway *gateway, const struct hotcache_value *result,
                  const struct gateway_variant *variant, struct gateway_asking *asking,
                  struct hotcache_value **out)
{
    uint8_t *bytes;
    size_t size;
    int err = gateway_outgoing_may_render(gateway, asking, result, variant->format,
                                          variant->descriptors);

    if (err == 0)
        err = proto_render(result->bytes, result->size, variant->format,
                           variant->descriptors, &bytes, &size);
    if (err < 0)
        return err;
    *out = hotcache_value_new(bytes, size);
    if (*out == NULL) {
        free(bytes);
        return -ENOMEM;
    }
    gateway->metrics->renderings++;
    return 0;
}

/* Whether a result is of the kind that the variant shows: a GET by key cannot know. */
static bool is_of_kind(const struct hotcache_value *result,
                       const struct gateway_variant *variant)
{
    static const uint8_t magic[4] = {'S', 'M', 'F', 'B'};
    bool is_blob =
        result->size >= sizeof magic && memcmp(result->bytes, magic, sizeof magic) == 0;

    return is_blob != variant->png;
}

/* The reference passed on, or dropped and NULL. */
static struct hotcache_value *of_kind(struct hotcache_value *result,
                                      const struct gateway_variant *variant)
{
    if (result == NULL || is_of_kind(result, variant))
        return result;
    hotcache_value_unref(result);
    return NULL;
}

struct hotcache_value *gateway_answer_find(struct gateway *gateway,
                                           const uint8_t key[PROTO_DIGEST_BYTES],
                                           const struct gateway_variant *variant,
                                           struct gateway_asking *asking, uint64_t now_us,
                                           int *err)
{
    static const struct gateway_variant plain = {.format = PROTO_FORMAT_BIN};
    struct gateway_variant normal = normal_variant(variant);
    struct hot_key wanted = hot_key(key, &normal), raw = hot_key(key, &plain);
    struct hotcache_value *rendered = NULL;
    struct hotcache_value *found =
        hotcache_get(gateway->hot, wanted.bytes, sizeof wanted.bytes, now_us);

    *err = -ENOENT;
    if (normal.format == PROTO_FORMAT_BIN)
        return of_kind(found, variant);
    if (found != NULL)
        return found;
    found = hotcache_get(gateway->hot, raw.bytes, sizeof raw.bytes, now_us);
    found = of_kind(found, variant);
    if (found == NULL)
        return NULL;
    *err = render(gateway, found, &normal, asking, &rendered);
    if (*err == 0)
        keep(gateway, &wanted, rendered, now_us);
    hotcache_value_unref(found);
    return rendered;
}

/* A place in gateway_result.rendered. */
static unsigned slot_of(const struct gateway_variant *normal)
{
    return normal->format == PROTO_FORMAT_JSON ? (unsigned)normal->descriptors
                                               : 2 + (unsigned)normal->format;
}

int gateway_answer_render(struct gateway *gateway, const uint8_t key[PROTO_DIGEST_BYTES],
                          const struct gateway_variant *variant,
                          struct gateway_result *result, struct gateway_asking *asking,
                          uint64_t now_us, struct hotcache_value **out)
{
    _Static_assert(2 + PROTO_FORMAT_COUNT <=
                       sizeof result->rendered / sizeof result->rendered[0],
                   "a place for each variant");
    struct gateway_variant normal = normal_variant(variant);
    struct hotcache_value **made = &result->rendered[slot_of(&normal)];
    struct hot_key hot = hot_key(key, &normal);

    if (!is_of_kind(result->value, variant))
        return -EPROTO;
    if (*made == NULL) {
        static const struct gateway_variant plain = {.format = PROTO_FORMAT_BIN};
        struct hot_key raw = hot_key(key, &plain);
        keep(gateway, &raw, result->value, now_us);
        if (normal.format == PROTO_FORMAT_BIN) {
            *made = hotcache_value_ref(result->value);
        } else {
            int err = render(gateway, result->value, &normal, asking, made);
            if (err < 0)
                return err;
            keep(gateway, &hot, *made, now_us);
        }
    }
    *out = hotcache_value_ref(*made);
    return 0;
}

/* ---- entity tags ---------------------------------------------------------------- */

void gateway_answer_etag(const uint8_t key[PROTO_DIGEST_BYTES],
                         const struct gateway_variant *variant,
                         char out[GATEWAY_ETAG_BYTES])
{
    char *at = out;

    *at++ = '"';
    proto_hex(key, at);
    at += PROTO_HEX_BYTES - 1;
    *at++ = '-';
    at = stpcpy(at, variant->png ? "png" : proto_format_name(variant->format));
    if (!variant->png && variant->format == PROTO_FORMAT_JSON)
        at = stpcpy(at, descriptors_suffix[variant->descriptors]);
    stpcpy(at, "\"");
}

bool gateway_answer_etag_matches(const char *if_none_match, const char *etag)
{
    size_t size = strlen(etag);

    for (const char *at = if_none_match; *at != '\0';) {
        at += strspn(at, " \t,");
        if (strncmp(at, "W/", 2) == 0)
            at += 2;
        if (strncmp(at, etag, size) == 0 &&
            (at[size] == '\0' || strchr(" \t,", at[size])))
            return true;
        at += strcspn(at, ",");
    }
    return false;
}

/* ---- headers -------------------------------------------------------------------- */

/* By hand: this is on the way of every hit, and snprintf of three decimals is not cheap.
 */
static char *put_ms(char *out, uint64_t us)
{
    char digits[24];
    size_t count = 0;
    uint64_t ms = us / 1000;
    unsigned rest = (unsigned)(us % 1000);

    do {
        digits[count++] = (char)('0' + ms % 10);
        ms /= 10;
    } while (ms > 0);
    while (count > 0)
        *out++ = digits[--count];
    *out++ = '.';
    *out++ = (char)('0' + rest / 100);
    *out++ = (char)('0' + rest / 10 % 10);
    *out++ = (char)('0' + rest % 10);
    return out;
}

static char *put_stage(char *out, const char *name, uint64_t us)
{
    return put_ms(stpcpy(stpcpy(out, name), ";dur="), us);
}

static char *put_server_timing(char *out, const struct gateway_answer *answer)
{
    const struct gateway_result *result = answer->result;

    out = put_stage(stpcpy(out, "\r\nServer-Timing: "), "recv", answer->recv_us);
    if (result != NULL && result->computed) {
        out = put_stage(out, ", queue", result->queue_us);
        out = put_stage(out, ", decode", result->decode_us);
        out = put_stage(out, ", denoise", result->denoise_us);
        out = put_stage(out, ", sift", result->sift_us);
    }
    return out;
}

void gateway_answer_headers(const struct gateway_answer *answer, const char *request_id,
                            char out[GATEWAY_HEADERS_BYTES_MAX])
{
    const struct gateway_variant *variant = answer->variant;
    char etag[GATEWAY_ETAG_BYTES];

    gateway_answer_etag(answer->key, variant, etag);
    out = stpcpy(out, "Content-Type: ");
    out = stpcpy(out, variant->png ? "image/png" : proto_format_media(variant->format));
    out = stpcpy(stpcpy(out, "\r\nETag: "), etag);
    out = stpcpy(stpcpy(out, "\r\nX-Cache: "), gateway_source_name(answer->source));
    out = put_server_timing(out, answer);
    out = stpcpy(stpcpy(out, "\r\nX-Request-Id: "), request_id);
    if (answer->by_key)
        out = stpcpy(out, "\r\nCache-Control: private, immutable, max-age=31536000");
    stpcpy(out, "\r\n" HTTP_NO_SNIFF "Vary: Accept\r\n");
}
