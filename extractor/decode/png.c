/*
 * png.c - PNG by libpng.
 *
 * The header is read here, not by libpng, so that a picture too large is refused in our
 * words. Interlaced pictures are taken pass by pass and each pixel is put where it
 * belongs: libpng's own way needs all pixels of the file's depth and channels at once, up
 * to 8 bytes each where the grey one has 1 or 2.
 *
 * libpng leaves by longjmp; see jpeg.c for why all is in `struct session`.
 */
#include "extractor/decode/internal.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { SIGNATURE_BYTES = 8, CHUNK_HEAD_BYTES = 8, CRC_BYTES = 4, IHDR_BYTES = 13 };

#define CHUNK_MAX_BYTES 8000000u /* of memory for one chunk that is not picture data */
#define PASSES          7

static const uint8_t signature[SIGNATURE_BYTES] = {0x89, 'P',  'N', 'G',
                                                   '\r', '\n', 26,  '\n'};

struct session {
    png_structp png;
    png_infop head;
    jmp_buf jump;
    const uint8_t *at, *end;
    uint8_t *row; /* of the file's samples; ours */
    unsigned channels;
    const struct decode_info *info;
    const struct vision_image *out;
    struct vision_control *control;
    struct decode_error *error;
};

static bool matches(const uint8_t *bytes, size_t size)
{
    return size >= SIGNATURE_BYTES && memcmp(bytes, signature, SIGNATURE_BYTES) == 0;
}

/* The eXIf chunk may stand before or after the picture data. */
static unsigned orientation(const uint8_t *bytes, size_t size)
{
    size_t at = SIGNATURE_BYTES;
    while (size - at >= CHUNK_HEAD_BYTES + CRC_BYTES) {
        size_t length = decode_be32(bytes + at), left = size - at - CHUNK_HEAD_BYTES;
        const uint8_t *type = bytes + at + 4, *data = type + 4;
        if (length > left - CRC_BYTES)
            break;
        if (memcmp(type, "eXIf", 4) == 0)
            return decode_exif_orientation(data, length);
        at += CHUNK_HEAD_BYTES + length + CRC_BYTES;
    }
    return 1;
}

static int probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error)
{
    static const uint8_t ihdr[8] = {0, 0, 0, IHDR_BYTES, 'I', 'H', 'D', 'R'};
    static const unsigned channels[8] = {1, 0, 3, 3, 2, 0, 4, 0}; /* by colour type */
    const uint8_t *data = bytes + SIGNATURE_BYTES + CHUNK_HEAD_BYTES;

    if (size < SIGNATURE_BYTES + CHUNK_HEAD_BYTES + IHDR_BYTES + CRC_BYTES ||
        memcmp(bytes + SIGNATURE_BYTES, ihdr, sizeof ihdr) != 0)
        return decode_fail(error, DECODE_UNDECODABLE, "The PNG has no header.");
    out->width_px = decode_be32(data);
    out->height_px = decode_be32(data + 4);
    out->channels = channels[data[9] & 7];
    out->depth_bits = data[8] == 16 ? 16 : 8;
    if (out->width_px == 0 || out->height_px == 0 || data[9] > 6 || out->channels == 0)
        return decode_fail(error, DECODE_UNDECODABLE,
                           "The PNG header has no valid size and colour type.");
    out->orientation = orientation(bytes, size);
    return 0;
}

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    struct session *s = png_get_error_ptr(png);
    decode_fail(s->error, DECODE_UNDECODABLE, "The PNG cannot be read: %.100s.", message);
    longjmp(s->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message; /* what libpng can bridge is bridged */
}

static void on_read(png_structp png, png_bytep to, size_t count)
{
    struct session *s = png_get_io_ptr(png);
    if (count > (size_t)(s->end - s->at))
        png_error(png, "the file ends too early");
    memcpy(to, s->at, count);
    s->at += count;
}

/* Put the `count` pixels of s->row into row `y`, from column `x` on, every `step`. */
static void place_row(struct session *s, size_t y, size_t x, size_t step, size_t count)
{
    const unsigned channels = s->channels;
    const bool wide = s->out->depth_bits == 16, colour = channels >= 3;
    uint8_t *to8 = decode_row(s->out, y);
    uint16_t *to16 = decode_row(s->out, y);

    for (size_t i = 0; i < count; i++, x += step) {
        const uint8_t *p = s->row + i * channels * (wide ? 2 : 1);
        if (wide)
            to16[x] = (uint16_t)(colour ? decode_luma(decode_be16(p), decode_be16(p + 2),
                                                      decode_be16(p + 4))
                                        : decode_be16(p));
        else
            to8[x] = (uint8_t)(colour ? decode_luma(p[0], p[1], p[2]) : p[0]);
    }
}

static void read_row(struct session *s, size_t y, size_t x, size_t step, size_t count)
{
    if (decode_row_step(s->control, y)) {
        decode_fail_cancelled(s->error);
        longjmp(s->jump, 1);
    }
    png_read_row(s->png, s->row, NULL);
    place_row(s, y, x, step, count);
}

static void read_pass(struct session *s, int pass)
{
    const uint32_t width = s->info->width_px, height = s->info->height_px;
    const uint32_t columns = PNG_PASS_COLS(width, pass);

    for (uint32_t i = 0; columns > 0 && i < PNG_PASS_ROWS(height, pass); i++)
        read_row(s, PNG_ROW_FROM_PASS_ROW(i, pass), PNG_PASS_START_COL(pass),
                 PNG_PASS_COL_OFFSET(pass), columns);
}

static void read_head(struct session *s)
{
    png_set_read_fn(s->png, s, on_read);
    png_set_user_limits(s->png, s->info->width_px, s->info->height_px);
    png_set_chunk_malloc_max(s->png, CHUNK_MAX_BYTES);
    /* Everything but the picture itself goes by unparsed. */
    png_set_keep_unknown_chunks(s->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(s->png, s->head);

    if (png_get_color_type(s->png, s->head) == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(s->png);
    else if (png_get_bit_depth(s->png, s->head) < 8)
        png_set_expand_gray_1_2_4_to_8(s->png);
    png_read_update_info(s->png, s->head);
}

static int run(struct session *s)
{
    if (setjmp(s->jump))
        return -1;
    read_head(s);
    s->channels = png_get_channels(s->png, s->head);
    if (png_get_bit_depth(s->png, s->head) != s->out->depth_bits)
        png_error(s->png, "the header says two things");
    s->row = malloc(png_get_rowbytes(s->png, s->head));
    if (s->row == NULL)
        return decode_fail_memory(s->error);

    if (png_get_interlace_type(s->png, s->head) == PNG_INTERLACE_NONE) {
        for (size_t y = 0; y < s->info->height_px; y++)
            read_row(s, y, 0, 1, s->info->width_px);
    } else {
        for (int pass = 0; pass < PASSES; pass++)
            read_pass(s, pass);
    }
    return 0;
}

static int decode(const uint8_t *bytes, size_t size, const struct decode_info *info,
                  struct vision_control *control, const struct vision_image *out,
                  struct decode_error *error)
{
    struct session s = {.at = bytes,
                        .end = bytes + size,
                        .info = info,
                        .out = out,
                        .control = control,
                        .error = error};
    int err = -1;
    s.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    s.head = s.png == NULL ? NULL : png_create_info_struct(s.png);
    if (s.head == NULL)
        decode_fail_memory(error);
    else
        err = run(&s);
    png_destroy_read_struct(&s.png, &s.head, NULL);
    free(s.row);
    return err;
}

const struct decode_codec decode_codec_png = {"png", matches, probe, decode};
