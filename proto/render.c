#include "proto/render.h"

#include "proto/key.h"
#include "proto/render_parts.h"

#include <errno.h>
#include <msgpack/pack.h>
#include <stdlib.h>
#include <string.h>

struct format {
    const char *name, *media, *suffix;
};

static const struct format formats[PROTO_FORMAT_COUNT] = {
#define FORMAT(name, text, media, suffix) [PROTO_FORMAT_##name] = {text, media, suffix},
    PROTO_FORMATS(FORMAT)
#undef FORMAT
};

const char *proto_format_name(enum proto_format format)
{
    return formats[format].name;
}

const char *proto_format_media(enum proto_format format)
{
    return formats[format].media;
}

const char *proto_format_suffix(enum proto_format format)
{
    return formats[format].suffix;
}

int proto_format_by_name(const char *name, enum proto_format *out)
{
    for (int i = 0; i < PROTO_FORMAT_COUNT; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            *out = (enum proto_format)i;
            return 0;
        }
    }
    return -ENOENT;
}

/* ---- msgpack ---- */

#define HEAD_BYTES 1024 /* about what is not features; only a first guess of the size */

static int write_output(void *data, const char *bytes, size_t size)
{
    struct proto_output *out = data;

    proto_output_put(out, bytes, size);
    return out->failed ? -1 : 0;
}

/* Failures to write stick in the output, so the packer's results are not looked at. */
static void pack_text(msgpack_packer *packer, const char *text)
{
    msgpack_pack_str(packer, strlen(text));
    msgpack_pack_str_body(packer, text, strlen(text));
}

static void pack_hex(msgpack_packer *packer, const uint8_t digest[PROTO_DIGEST_BYTES])
{
    char hex[PROTO_HEX_BYTES];

    proto_hex(digest, hex);
    pack_text(packer, hex);
}

/* Over 4 GiB the format has no length for it; a blob in bounds has 512 MB at most. */
static void pack_bytes(msgpack_packer *packer, const uint8_t *bytes, size_t size)
{
    msgpack_pack_bin(packer, size);
    msgpack_pack_bin_body(packer, bytes, size);
}

static void pack_param(msgpack_packer *packer, const struct proto_param_spec *spec,
                       const struct proto_params *params)
{
    double value = proto_param_value(spec, params);

    pack_text(packer, spec->name);
    if (spec->type == PROTO_PARAM_NUM) {
        msgpack_pack_double(packer, value);
    } else if (spec->type == PROTO_PARAM_INT) {
        msgpack_pack_int64(packer, (int64_t)value);
    } else {
        const char *choice = spec->choices[(size_t)value];
        if (choice[0] >= '0' && choice[0] <= '9') /* a number, as in JSON */
            msgpack_pack_int64(packer, atoi(choice));
        else
            pack_text(packer, choice);
    }
}

static void pack_params(msgpack_packer *packer, const struct proto_params *params)
{
    const struct proto_param_spec *spec = proto_param_specs;

    while (spec->name != NULL)
        spec++;
    msgpack_pack_map(packer, (size_t)(spec - proto_param_specs));
    for (spec = proto_param_specs; spec->name != NULL; spec++)
        pack_param(packer, spec, params);
}

void proto_render_msgpack(const struct proto_blob *blob, struct proto_output *out)
{
    const size_t keypoint_bytes = (size_t)blob->count * PROTO_KEYPOINT_FLOATS * 4;
    const size_t descriptor_bytes = (size_t)blob->count * PROTO_DESCRIPTOR_BYTES;
    msgpack_packer packer;

    proto_output_reserve(out, keypoint_bytes + descriptor_bytes + HEAD_BYTES);
    msgpack_packer_init(&packer, out, write_output);
    msgpack_pack_map(&packer, 6);
    pack_text(&packer, "key");
    pack_hex(&packer, blob->key);
    pack_text(&packer, "image");
    msgpack_pack_map(&packer, 3);
    pack_text(&packer, "width");
    msgpack_pack_uint32(&packer, blob->width_px);
    pack_text(&packer, "height");
    msgpack_pack_uint32(&packer, blob->height_px);
    pack_text(&packer, "sha256");
    pack_hex(&packer, blob->image_sha256);
    pack_text(&packer, "params");
    pack_params(&packer, &blob->params);
    pack_text(&packer, "count");
    msgpack_pack_uint32(&packer, blob->count);
    pack_text(&packer, "keypoints");
    pack_bytes(&packer, blob->keypoints, keypoint_bytes);
    pack_text(&packer, "descriptors");
    pack_bytes(&packer, blob->descriptors, descriptor_bytes);
}

/* ---- sizes ---- */

/* Most bytes beside the features: parameters, digests, the headers of a zip. */
#define OTHER_BYTES_MAX 4096u

struct bounds {
    uint64_t least, most; /* of one feature */
};

/* "0," and "255," are the shortest and the longest of a descriptor's numbers, a digit and
 * its comma those of a keypoint's. */
static struct bounds feature_bounds(enum proto_format format,
                                    enum proto_descriptors descriptors)
{
    const uint64_t binary = PROTO_KEYPOINT_FLOATS * 4 + PROTO_DESCRIPTOR_BYTES;
    const uint64_t floats = 2 * PROTO_KEYPOINT_FLOATS + 1, numbers = 2 * 128 + 1;
    const uint64_t floats_most = PROTO_KEYPOINT_TEXT_BYTES;
    const uint64_t numbers_most = PROTO_DESCRIPTOR_TEXT_BYTES + 2;

    switch (format) {
    case PROTO_FORMAT_JSON:
        if (descriptors == PROTO_DESCRIPTORS_ARRAY)
            return (struct bounds){floats + numbers, floats_most + numbers_most};
        if (descriptors == PROTO_DESCRIPTORS_BASE64)
            return (struct bounds){floats + PROTO_DESCRIPTOR_BYTES * 4 / 3,
                                   floats_most + PROTO_DESCRIPTOR_BYTES * 4 / 3 + 1};
        return (struct bounds){floats, floats_most};
    case PROTO_FORMAT_COLMAP:
    case PROTO_FORMAT_LOWE:
        return (struct bounds){2 * 4 + 2 * 128, floats_most + numbers_most + 8};
    default:
        return (struct bounds){binary, binary};
    }
}

int proto_render_bounds(const uint8_t *bytes, size_t bytes_size, enum proto_format format,
                        enum proto_descriptors descriptors, uint64_t *least,
                        uint64_t *most)
{
    struct bounds each = feature_bounds(format, descriptors);
    struct proto_blob blob;
    int err = proto_blob_decode(bytes, bytes_size, &blob);

    if (err < 0)
        return err;
    *least = blob.count * each.least;
    *most = blob.count * each.most + OTHER_BYTES_MAX;
    return 0;
}

/* ---- all of them ---- */

static void render_as(const struct proto_blob *blob, enum proto_format format,
                      enum proto_descriptors descriptors, struct proto_output *out)
{
    switch (format) {
    case PROTO_FORMAT_JSON:
        proto_render_json(blob, descriptors, out);
        break;
    case PROTO_FORMAT_MSGPACK:
        proto_render_msgpack(blob, out);
        break;
    case PROTO_FORMAT_NPZ:
        proto_render_npz(blob, out);
        break;
    case PROTO_FORMAT_COLMAP:
        proto_render_colmap(blob, out);
        break;
    case PROTO_FORMAT_LOWE:
        proto_render_lowe(blob, out);
        break;
    case PROTO_FORMAT_BIN:
    case PROTO_FORMAT_COUNT:
        break;
    }
}

int proto_render(const uint8_t *bytes, size_t bytes_size, enum proto_format format,
                 enum proto_descriptors descriptors, uint8_t **out, size_t *size)
{
    struct proto_output output = {0};
    struct proto_blob blob;

    int err = proto_blob_decode(bytes, bytes_size, &blob);
    if (err < 0)
        return err;
    if (format == PROTO_FORMAT_BIN)
        proto_output_put(&output, bytes, bytes_size);
    else
        render_as(&blob, format, descriptors, &output);
    if (output.failed) {
        free(output.data);
        return -ENOMEM;
    }
    /* Results are kept for long, so give back the room that is left. */
    uint8_t *fitted = realloc(output.data, output.size);
    *out = fitted != NULL ? fitted : output.data;
    *size = output.size;
    return 0;
}
