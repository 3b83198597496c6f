/*
 * JSON, COLMAP's text and Lowe's text. The time goes into the 128 numbers of each
 * descriptor: a table of all bytes' texts writes one with a copy of 4 bytes, about 60
 * times faster than printf. Keypoints cost about as much as their descriptors
 * (number.h).
 */
#include "proto/key.h"
#include "proto/number.h"
#include "proto/render_parts.h"

#include <openssl/evp.h>
#include <string.h>

#define PI 3.14159265358979323846

void proto_byte_texts_init(struct proto_byte_texts *texts, char separator)
{
    for (unsigned i = 0; i < 256; i++) {
        char *at = texts->text[i];
        *at++ = separator;
        if (i >= 100)
            *at++ = (char)('0' + i / 100);
        if (i >= 10)
            *at++ = (char)('0' + i / 10 % 10);
        *at++ = (char)('0' + i % 10);
        texts->length[i] = (uint8_t)(at - texts->text[i]);
    }
}

uint8_t *proto_byte_texts_put(const struct proto_byte_texts *texts, uint8_t *at,
                              const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(at, texts->text[bytes[i]], 4);
        at += texts->length[bytes[i]];
    }
    return at;
}

/* Write `count` floats with `separator` before each. Returns the end. */
static uint8_t *put_floats(uint8_t *at, const float *floats, size_t count, char separator)
{
    for (size_t i = 0; i < count; i++) {
        *at++ = (uint8_t)separator;
        at += proto_number_float(floats[i], (char *)at);
    }
    return at;
}

/* ---- JSON ---- */

/* "name":"digits" */
static void json_hex(struct proto_output *out, const char *name,
                     const uint8_t digest[PROTO_DIGEST_BYTES])
{
    char hex[PROTO_HEX_BYTES];

    proto_hex(digest, hex);
    proto_output_text(out, "\"");
    proto_output_text(out, name);
    proto_output_text(out, "\":\"");
    proto_output_text(out, hex);
    proto_output_text(out, "\"");
}

static void json_head(const struct proto_blob *blob, struct proto_output *out)
{
    char params[PROTO_PARAMS_JSON_BYTES_MAX + 1];

    proto_output_text(out, "{");
    json_hex(out, "key", blob->key);
    proto_output_text(out, ",\"image\":{\"width\":");
    proto_output_uint(out, blob->width_px);
    proto_output_text(out, ",\"height\":");
    proto_output_uint(out, blob->height_px);
    proto_output_text(out, ",");
    json_hex(out, "sha256", blob->image_sha256);
    proto_output_text(out, "},\"params\":");
    (void)proto_params_json(&blob->params, params, sizeof params); /* always fits */
    proto_output_text(out, params);
    proto_output_text(out, ",\"count\":");
    proto_output_uint(out, blob->count);
}

static void json_keypoints(const struct proto_blob *blob, struct proto_output *out)
{
    proto_output_text(out, ",\"keypoints\":[");
    for (uint32_t i = 0; i < blob->count; i++) {
        float keypoint[PROTO_KEYPOINT_FLOATS];
        uint8_t *at = proto_output_reserve(out, PROTO_KEYPOINT_TEXT_BYTES);
        if (at == NULL)
            return;
        if (i > 0)
            *at++ = ',';
        uint8_t *row = at;
        proto_blob_keypoint(blob, i, keypoint);
        at = put_floats(at, keypoint, PROTO_KEYPOINT_FLOATS, ',');
        *row = '['; /* in place of the first comma */
        *at++ = ']';
        out->size = (size_t)(at - out->data);
    }
    proto_output_text(out, "]");
}

static void json_descriptors(const struct proto_blob *blob, struct proto_output *out)
{
    struct proto_byte_texts texts;

    proto_byte_texts_init(&texts, ',');
    proto_output_text(out, ",\"descriptors\":[");
    for (uint32_t i = 0; i < blob->count; i++) {
        const uint8_t *bytes = blob->descriptors + (size_t)i * PROTO_DESCRIPTOR_BYTES;
        uint8_t *at = proto_output_reserve(out, PROTO_DESCRIPTOR_TEXT_BYTES + 2);
        if (at == NULL)
            return;
        if (i > 0)
            *at++ = ',';
        uint8_t *row = at;
        at = proto_byte_texts_put(&texts, at, bytes, PROTO_DESCRIPTOR_BYTES);
        *row = '[';
        *at++ = ']';
        out->size = (size_t)(at - out->data);
    }
    proto_output_text(out, "]");
}

static void json_base64(const struct proto_blob *blob, struct proto_output *out)
{
    _Static_assert((uint64_t)PROTO_BLOB_FEATURES_MAX * PROTO_DESCRIPTOR_BYTES / 3 * 4 <
                       INT32_MAX,
                   "EVP_EncodeBlock counts in int");
    const size_t bytes = (size_t)blob->count * PROTO_DESCRIPTOR_BYTES;

    proto_output_text(out, ",\"descriptors\":\"");
    uint8_t *at = proto_output_reserve(out, (bytes + 2) / 3 * 4 + 1); /* and its NUL */
    if (at == NULL)
        return;
    out->size += (size_t)EVP_EncodeBlock(at, blob->descriptors, (int)bytes);
    proto_output_text(out, "\"");
}

void proto_render_json(const struct proto_blob *blob, enum proto_descriptors descriptors,
                       struct proto_output *out)
{
    json_head(blob, out);
    json_keypoints(blob, out);
    if (descriptors == PROTO_DESCRIPTORS_ARRAY)
        json_descriptors(blob, out);
    else if (descriptors == PROTO_DESCRIPTORS_BASE64)
        json_base64(blob, out);
    proto_output_text(out, "}");
}

/* ---- COLMAP and Lowe ----
 *
 * Both want the directions of a descriptor in the order of Lowe's program. That is the
 * blob's order already (blob.h); what comes from VLFeat is turned by the extractor, so
 * nothing is turned here. */

static void text_head(const struct proto_blob *blob, struct proto_output *out)
{
    proto_output_uint(out, blob->count);
    proto_output_text(out, " 128\n");
}

/* The origin is the first pixel's upper left corner, its centre at 0.5, 0.5. */
void proto_render_colmap(const struct proto_blob *blob, struct proto_output *out)
{
    struct proto_byte_texts texts;

    proto_byte_texts_init(&texts, ' ');
    text_head(blob, out);
    for (uint32_t i = 0; i < blob->count; i++) {
        const uint8_t *bytes = blob->descriptors + (size_t)i * PROTO_DESCRIPTOR_BYTES;
        float keypoint[PROTO_KEYPOINT_FLOATS];
        uint8_t *row = proto_output_reserve(out, PROTO_KEYPOINT_TEXT_BYTES +
                                                     PROTO_DESCRIPTOR_TEXT_BYTES);
        if (row == NULL)
            return;
        proto_blob_keypoint(blob, i, keypoint);
        keypoint[0] += 0.5f;
        keypoint[1] += 0.5f;
        /* The separator before the first number is the line's end before it. */
        uint8_t *at = put_floats(row - 1, keypoint, 4, ' ');
        row[-1] = '\n';
        at = proto_byte_texts_put(&texts, at, bytes, PROTO_DESCRIPTOR_BYTES);
        *at++ = '\n';
        out->size = (size_t)(at - out->data);
    }
}

/* Lowe's angles turn the other way, from x away from y, and lie in (-pi, pi]. (Seen in
 * the features that his program and OpenCV find in one picture: angles differ in sign,
 * descriptors agree as they are.) */
static float lowe_angle(float orientation)
{
    double angle = -(double)orientation;

    while (angle <= -PI && angle > -8 * PI) /* a peer's may be anything */
        angle += 2 * PI;
    return (float)angle + 0.0f; /* no "-0" */
}

void proto_render_lowe(const struct proto_blob *blob, struct proto_output *out)
{
    enum { PER_LINE = 20 };
    struct proto_byte_texts texts;

    proto_byte_texts_init(&texts, ' ');
    text_head(blob, out);
    for (uint32_t i = 0; i < blob->count; i++) {
        const uint8_t *bytes = blob->descriptors + (size_t)i * PROTO_DESCRIPTOR_BYTES;
        float k[PROTO_KEYPOINT_FLOATS];
        uint8_t *row = proto_output_reserve(
            out, PROTO_KEYPOINT_TEXT_BYTES + PROTO_DESCRIPTOR_TEXT_BYTES +
                     PROTO_DESCRIPTOR_BYTES / PER_LINE + 2);
        if (row == NULL)
            return;
        proto_blob_keypoint(blob, i, k);
        const float place[4] = {k[1], k[0], k[2], lowe_angle(k[3])};
        uint8_t *at = put_floats(row - 1, place, 4, ' ');
        row[-1] = '\n';
        *at++ = '\n';
        for (size_t done = 0; done < PROTO_DESCRIPTOR_BYTES; done += PER_LINE) {
            size_t left = PROTO_DESCRIPTOR_BYTES - done;
            at = proto_byte_texts_put(&texts, at, bytes + done,
                                      left < PER_LINE ? left : PER_LINE);
            *at++ = '\n';
        }
        out->size = (size_t)(at - out->data);
    }
}
