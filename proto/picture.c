#include "proto/picture.h"

#include "proto/blob.h"
#include "proto/bytes.h"
#include "proto/mask.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static uint32_t get_be16(const uint8_t *src)
{
    return (uint32_t)src[0] << 8 | src[1];
}

static uint32_t get_be32(const uint8_t *src)
{
    return get_be16(src) << 16 | get_be16(src + 2);
}

/* 0, or -EINVAL where a side is 0. */
static int put(struct proto_picture *out, uint32_t width_px, uint32_t height_px,
               unsigned depth_bits)
{
    if (width_px == 0 || height_px == 0)
        return -EINVAL;
    *out = (struct proto_picture){width_px, height_px, depth_bits};
    return 0;
}

/* ---- JPEG: ITU-T T.81, annex B ---------------------------------------------------- */

enum { JPEG_TEM = 0x01, JPEG_RST0 = 0xd0, JPEG_RST7 = 0xd7, JPEG_SOI = 0xd8 };
enum { JPEG_DHT = 0xc4, JPEG_JPG = 0xc8, JPEG_DAC = 0xcc, JPEG_SOF0 = 0xc0 };
enum { JPEG_SOF15 = 0xcf, JPEG_EOI = 0xd9, JPEG_SOS = 0xda, JPEG_SOF_BYTES = 7 };

static bool is_frame(uint8_t marker)
{
    return marker >= JPEG_SOF0 && marker <= JPEG_SOF15 && marker != JPEG_DHT &&
           marker != JPEG_JPG && marker != JPEG_DAC;
}

static bool stands_alone(uint8_t marker)
{
    return marker == JPEG_TEM || (marker >= JPEG_RST0 && marker <= JPEG_RST7);
}

/* The next marker, past what does not belong there, as libjpeg passes over it; `at` is
 * then behind it. 0: there is none. */
static uint8_t next_marker(const uint8_t **at, const uint8_t *end)
{
    for (;;) {
        const uint8_t *p = memchr(*at, 0xff, (size_t)(end - *at));
        if (p == NULL)
            return 0;
        while (p < end && *p == 0xff)
            p++;
        if (p == end)
            return 0;
        *at = p + 1;
        if (*p != 0)
            return *p;
    }
}

static int probe_jpeg(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    const uint8_t *at = bytes + 2, *end = bytes + size;

    for (unsigned i = 0; i < PROTO_PICTURE_MARKERS_MAX; i++) {
        uint8_t marker = next_marker(&at, end);
        if (marker == 0 || marker == JPEG_SOI || marker == JPEG_EOI || marker == JPEG_SOS)
            return -EINVAL;
        if (stands_alone(marker))
            continue;
        if (end - at < 2)
            return -EINVAL;
        uint32_t length = get_be16(at); /* of itself and what follows */
        if (is_frame(marker))
            return end - at < JPEG_SOF_BYTES
                       ? -EINVAL
                       : put(out, get_be16(at + 5), get_be16(at + 3), 8);
        if (length < 2) /* libjpeg lets it pass */
            length = 2;
        if (length > end - at)
            return -EINVAL;
        at += length;
    }
    return -EINVAL;
}

/* ---- PNG: W3C PNG, section 11.2.2 ------------------------------------------------- */

static const uint8_t png_start[16] = {0x89, 'P', 'N', 'G',  '\r', '\n', 26,  '\n',
                                      0,    0,   0,   0x0d, 'I',  'H',  'D', 'R'};

static int probe_png(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    if (size < sizeof png_start + 9 || memcmp(bytes, png_start, sizeof png_start) != 0)
        return -EINVAL;
    bytes += sizeof png_start;
    return put(out, get_be32(bytes), get_be32(bytes + 4), bytes[8] == 16 ? 16 : 8);
}

/* ---- WebP: RFC 9649, RFC 6386 section 9.1 -------------------------------------------
 */

enum { WEBP_CHUNK = 12, WEBP_HEAD = 8, VP8_BYTES = 10, VP8L_BYTES = 5, VP8X_BYTES = 10 };

static uint32_t get_u24(const uint8_t *src)
{
    return proto_get_u16(src) | (uint32_t)src[2] << 16;
}

static int probe_lossy(const uint8_t *at, size_t size, struct proto_picture *out)
{
    if (size < VP8_BYTES || memcmp(at + 3, "\x9d\x01\x2a", 3) != 0)
        return -EINVAL;
    return put(out, proto_get_u16(at + 6) & 0x3fff, proto_get_u16(at + 8) & 0x3fff, 8);
}

static int probe_lossless(const uint8_t *at, size_t size, struct proto_picture *out)
{
    if (size < VP8L_BYTES || at[0] != 0x2f)
        return -EINVAL;
    uint32_t bits = proto_get_u32(at + 1);
    return put(out, 1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff), 8);
}

static int probe_webp(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    const uint8_t *chunk = bytes + WEBP_CHUNK, *data = chunk + WEBP_HEAD;
    size_t left = size - WEBP_CHUNK;

    if (left >= WEBP_HEAD && memcmp(chunk, "VP8 ", 4) == 0)
        return probe_lossy(data, left - WEBP_HEAD, out);
    if (left >= WEBP_HEAD && memcmp(chunk, "VP8L", 4) == 0)
        return probe_lossless(data, left - WEBP_HEAD, out);
    if (left >= WEBP_HEAD + VP8X_BYTES && memcmp(chunk, "VP8X", 4) == 0)
        return put(out, 1 + get_u24(data + 4), 1 + get_u24(data + 7), 8);
    /* libwebp takes a stream without a chunk, too. */
    return probe_lossless(chunk, left, out) == 0 ? 0 : probe_lossy(chunk, left, out);
}

/* ---- PNM: netpbm's own pages ------------------------------------------------------ */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A decimal number behind white space and comments; `at` is then behind it. 0: none. */
static uint32_t next_number(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    uint64_t value = 0;

    while (p < end && (is_space(*p) || *p == '#'))
        if (*p++ == '#')
            while (p < end && *p != '\n' && *p != '\r')
                p++;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        value = 10 * value + (*p - '0');
        if (value > UINT32_MAX)
            return 0;
    }
    *at = p;
    return (uint32_t)value;
}

static int probe_pnm(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    const uint8_t *at = bytes + 2, *end = bytes + size;
    bool is_bitmap = bytes[1] == '1' || bytes[1] == '4';
    uint32_t width_px = next_number(&at, end);
    uint32_t height_px = next_number(&at, end);
    uint32_t maxval = is_bitmap ? 1 : next_number(&at, end);

    return maxval == 0 ? -EINVAL : put(out, width_px, height_px, maxval > 255 ? 16 : 8);
}

int proto_picture_probe(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return probe_jpeg(bytes, size, out);
    if (size >= 8 && memcmp(bytes, png_start, 8) == 0)
        return probe_png(bytes, size, out);
    if (size >= WEBP_CHUNK && memcmp(bytes, "RIFF", 4) == 0 &&
        memcmp(bytes + 8, "WEBP", 4) == 0)
        return probe_webp(bytes, size, out);
    if (size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6')
        return probe_pnm(bytes, size, out);
    return -EINVAL;
}

/* ---- what it costs ---------------------------------------------------------------- */

#define BASE_BYTES             (1u << 20) /* what any job needs, so small it be */
#define NLM_SCRATCH_BYTES      (4u << 20)
#define DECODER_BYTES_A_PIXEL  8u
#define DECODER_PAD_PX         64u  /* of blocks that are not whole */
#define DECODER_BYTES_A_COLUMN 256u /* rows on their way */
#define FLOAT_BYTES            4u
/* Sides are cut to this, beyond any that a slot looks at, so that no sum overflows. */
#define SIDE_MAX_PX (1u << 24)

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t side_of(uint32_t side_px)
{
    return side_px < SIDE_MAX_PX ? side_px : SIDE_MAX_PX;
}

static uint64_t pixels_of(const struct proto_picture *picture)
{
    return side_of(picture->width_px) * side_of(picture->height_px);
}

/* ---- features ---- */

#define FEATURES_FREE 5000u /* of a picture of any size */
#define DENSITY       0.14  /* of a pixel and layer, at sigma 1, doubled */
#define LAYERS_MORE   4     /* layers above these have the same extrema */
/* A feature is 152 bytes while it is kept and 148 in the result; sorting takes 48 more,
 * and when sorting is due because of max_features there are twice as many. */
#define KEPT_BYTES    300u
#define SORTED_BYTES  200u
#define SORTED_MORE   1028u
#define BEST_BYTES    48u  /* for each of max_features: the responses of the best */
#define WAITING_BYTES 140u /* 28, in an array that grows and is emptied by halves */
#define VLFEAT_BYTES                                                                     \
    480u /* 192 kept and as many to sort, in an array a quarter larger                   \
          */

static double density_of(const struct proto_params *params)
{
    int layers =
        params->octave_layers < LAYERS_MORE ? params->octave_layers : LAYERS_MORE;
    double density = DENSITY * layers / (params->sigma * params->sigma);

    for (int octave = -1; octave < params->first_octave; octave++)
        density /= 4;
    return density;
}

static uint32_t features_in(double pixels, const struct proto_params *params)
{
    double most = FEATURES_FREE + pixels * density_of(params);

    return most < PROTO_BLOB_FEATURES_MAX ? (uint32_t)most : PROTO_BLOB_FEATURES_MAX;
}

uint32_t proto_picture_features_max(const struct proto_picture *picture,
                                    const struct proto_params *params)
{
    return features_in((double)pixels_of(picture), params);
}

/* Those of the rows within 36 sigmas and a band, of all octaves: twice the first one's.
 */
uint32_t proto_picture_waiting_max(const struct proto_picture *picture,
                                   const struct proto_params *params)
{
    double width_px = (double)side_of(picture->width_px);
    double height_px = (double)side_of(picture->height_px);
    double shorter_px = width_px < height_px ? width_px : height_px;
    double longer_px = width_px < height_px ? height_px : width_px;
    double rows_px = 2 * (36 * params->sigma + 32);

    return features_in(longer_px * (rows_px < shorter_px ? rows_px : shorter_px), params);
}

uint64_t proto_picture_features_bytes(const struct proto_picture *picture,
                                      const struct proto_params *params)
{
    uint64_t all = proto_picture_features_max(picture, params);
    uint64_t wanted = (uint64_t)params->max_features;

    if (params->sift == PROTO_SIFT_VLFEAT)
        return all * VLFEAT_BYTES;
    all *= KEPT_BYTES;
    if (wanted == 0 || wanted >= proto_picture_features_max(picture, params))
        return all;
    return (2 * wanted + SORTED_MORE) * SORTED_BYTES + wanted * BEST_BYTES +
           (uint64_t)proto_picture_waiting_max(picture, params) * WAITING_BYTES;
}

/* ---- the whole ---- */

/* Rings of rows, whose number grows with the blurs; what is described, a square. */
static uint64_t native_bytes(const struct proto_picture *picture,
                             const struct proto_params *params)
{
    double sigma = params->sigma, n = params->octave_layers;
    double column = 512 + 256 * n + (1536 + 430 * n) * sigma;
    uint64_t side_px = most(side_of(picture->width_px), side_of(picture->height_px));
    uint64_t columns = params->first_octave < 0 ? 2 * side_px : side_px;

    return columns * (uint64_t)column + (uint64_t)(46000 * sigma * sigma);
}

static uint64_t vlfeat_bytes(const struct proto_picture *picture,
                             const struct proto_params *params)
{
    uint64_t doubled = params->first_octave < 0 ? 4 : 1;
    uint64_t planes = 4 * (uint64_t)params->octave_layers + 10;

    return pixels_of(picture) * FLOAT_BYTES * (1 + doubled * planes);
}

static uint64_t decoder_bytes(const struct proto_picture *picture)
{
    uint64_t columns = side_of(picture->width_px), rows = side_of(picture->height_px);

    return (columns + DECODER_PAD_PX) * (rows + DECODER_PAD_PX) * DECODER_BYTES_A_PIXEL +
           columns * DECODER_BYTES_A_COLUMN;
}

uint64_t proto_picture_job_bytes(const struct proto_picture *picture,
                                 enum proto_kind kind, const struct proto_params *params)
{
    uint64_t plane = pixels_of(picture) * (picture->depth_bits / 8);
    uint64_t stage = decoder_bytes(picture);

    if (kind == PROTO_KIND_DENOISE || params->denoise == PROTO_DENOISE_NLM)
        stage = most(stage, plane + NLM_SCRATCH_BYTES);
    if (kind == PROTO_KIND_FEATURES)
        stage = most(stage, proto_picture_features_bytes(picture, params) +
                                (params->sift == PROTO_SIFT_VLFEAT
                                     ? vlfeat_bytes(picture, params)
                                     : native_bytes(picture, params)));
    return BASE_BYTES + plane + stage;
}

uint64_t proto_picture_cost_bytes(const uint8_t *bytes, size_t size, enum proto_kind kind,
                                  const struct proto_params *params)
{
    struct proto_picture picture;
    size_t picture_bytes = size, mask_bytes = 0;
    bool has_mask = proto_mask_split(bytes, size, &picture_bytes, &mask_bytes);

    if (proto_picture_probe(bytes, picture_bytes, &picture) < 0)
        return BASE_BYTES + size;
    uint64_t cost = proto_picture_job_bytes(&picture, kind, params) + size;
    return has_mask ? cost + 2 * pixels_of(&picture) : cost;
}
