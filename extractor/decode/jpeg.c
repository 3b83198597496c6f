/*
 * jpeg.c - JPEG by libjpeg-turbo.
 *
 * libjpeg leaves by longjmp. What must survive it lives in `struct session`, which the
 * function with the setjmp gets from its caller, so no automatic variable is at risk.
 *
 * The end of the bytes: the source gives libjpeg an end marker, as its own sources do,
 * and remembers. Whether anything was missing is judged afterwards: files that lack just
 * the two bytes of the marker are common, and whole.
 */
#include "extractor/decode/internal.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#define MEMORY_BASE_BYTES (16l << 20)

struct session {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    size_t size;
    bool ended;        /* the bytes ran out */
    bool data_missing; /* and entropy-coded data with them */
    const struct decode_info *info;
    const struct vision_image *out;
    struct vision_control *control;
    struct decode_error *error;
};

static _Noreturn void leave(struct session *s)
{
    longjmp(s->jump, 1);
}

static void fail_ended(struct session *s)
{
    decode_fail(s->error, DECODE_UNDECODABLE,
                "The JPEG ends after %zu bytes, before its picture does.", s->size);
}

/* libjpeg has its own bound, below DECODE_SIDE_MAX_PX, and tests it in the header. */
static void fail_side(struct session *s)
{
    uint64_t width = s->cinfo.image_width, height = s->cinfo.image_height;
    uint64_t side = width > height ? width : height;
    decode_fail(s->error, DECODE_TOO_MANY_PIXELS,
                "A side of the JPEG has %" PRIu64 " pixels, at most %ld are decoded.",
                side, JPEG_MAX_DIMENSION);
    s->error->limit = JPEG_MAX_DIMENSION;
    s->error->actual = side;
}

static _Noreturn void on_error(j_common_ptr cinfo)
{
    struct session *s = cinfo->client_data;
    char text[JMSG_LENGTH_MAX];
    cinfo->err->format_message(cinfo, text);
    if (cinfo->err->msg_code == JERR_OUT_OF_MEMORY)
        decode_fail_memory(s->error);
    else if (cinfo->err->msg_code == JERR_IMAGE_TOO_BIG)
        fail_side(s);
    else if (s->ended)
        fail_ended(s);
    else
        decode_fail(s->error, DECODE_UNDECODABLE, "The JPEG cannot be read: %.100s.",
                    text);
    leave(s);
}

static void on_message(j_common_ptr cinfo, int level)
{
    struct session *s = cinfo->client_data;
    if (level < 0 && cinfo->err->msg_code == JWRN_HIT_MARKER && s->ended)
        s->data_missing = true;
}

static void on_output(j_common_ptr cinfo)
{
    (void)cinfo; /* libjpeg would print to stderr */
}

static void on_progress(j_common_ptr common)
{
    struct session *s = common->client_data;
    if (s->cinfo.input_scan_number > (int)DECODE_JPEG_SCANS_MAX) {
        decode_fail(s->error, DECODE_UNDECODABLE, "The JPEG has more than %u scans.",
                    DECODE_JPEG_SCANS_MAX);
        s->error->limit = DECODE_JPEG_SCANS_MAX;
        s->error->actual = (uint64_t)s->cinfo.input_scan_number;
        leave(s);
    }
    if (vision_step(s->control)) {
        decode_fail_cancelled(s->error);
        leave(s);
    }
}

static void source_nothing(j_decompress_ptr cinfo)
{
    (void)cinfo;
}

static boolean source_fill(j_decompress_ptr cinfo)
{
    static const JOCTET end[2] = {0xFF, JPEG_EOI};
    struct session *s = cinfo->client_data;
    s->ended = true;
    s->source.next_input_byte = end;
    s->source.bytes_in_buffer = sizeof end;
    return TRUE;
}

static void source_skip(j_decompress_ptr cinfo, long count)
{
    struct session *s = cinfo->client_data;
    if (count <= 0)
        return;
    if ((size_t)count >= s->source.bytes_in_buffer) {
        source_fill(cinfo);
    } else {
        s->source.next_input_byte += count;
        s->source.bytes_in_buffer -= (size_t)count;
    }
}

static void session_open(struct session *s, const uint8_t *bytes, size_t size)
{
    s->size = size;
    s->cinfo.err = jpeg_std_error(&s->errors);
    s->cinfo.client_data = s;
    s->errors.error_exit = on_error;
    s->errors.emit_message = on_message;
    s->errors.output_message = on_output;
    s->source = (struct jpeg_source_mgr){.next_input_byte = bytes,
                                         .bytes_in_buffer = size,
                                         .init_source = source_nothing,
                                         .fill_input_buffer = source_fill,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = source_nothing};
    s->progress.progress_monitor = on_progress;
}

/* Only after setjmp: may leave. */
static void session_start(struct session *s)
{
    jpeg_create_decompress(&s->cinfo); /* clears all but err and client_data */
    s->cinfo.src = &s->source;
    s->cinfo.progress = &s->progress;
    s->cinfo.mem->max_memory_to_use = MEMORY_BASE_BYTES;
}

static unsigned orientation(const struct jpeg_marker_struct *marker)
{
    for (; marker != NULL; marker = marker->next)
        if (marker->data_length > 6 && memcmp(marker->data, "Exif\0", 6) == 0)
            return decode_exif_orientation(marker->data + 6, marker->data_length - 6);
    return 1;
}

static int run_probe(struct session *s, struct decode_info *out)
{
    if (setjmp(s->jump))
        return -1;
    session_start(s);
    jpeg_save_markers(&s->cinfo, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&s->cinfo, TRUE);
    out->width_px = s->cinfo.image_width;
    out->height_px = s->cinfo.image_height;
    out->channels = (unsigned)s->cinfo.num_components;
    out->depth_bits = 8;
    out->orientation = orientation(s->cinfo.marker_list);
    return 0;
}

static _Noreturn void fail_and_leave(struct session *s, const char *sentence)
{
    decode_fail(s->error, DECODE_UNDECODABLE, "%s", sentence);
    leave(s);
}

static void choose_output(struct session *s)
{
    struct jpeg_decompress_struct *c = &s->cinfo;
    switch (c->jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
    case JCS_RGB:
        c->out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        c->out_color_space = JCS_CMYK;
        break;
    default:
        fail_and_leave(s, "The JPEG has a colour model that is not known.");
    }
    /* A progressive file keeps all coefficients: 2 bytes, up to 4 components, padded. */
    c->mem->max_memory_to_use =
        MEMORY_BASE_BYTES + 8l * (c->image_width + 64l) * (c->image_height + 64l);
}

static void row_of_cmyk(uint8_t *to, const uint8_t *from, size_t n, bool inverted)
{
    const unsigned flip = inverted ? 0 : 255; /* inverted: 255 is no ink */
    for (size_t x = 0; x < n; x++, from += 4) {
        unsigned k = from[3] ^ flip, rgb[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = ((from[c] ^ flip) * k + 127) / 255;
        to[x] = (uint8_t)decode_luma(rgb[0], rgb[1], rgb[2]);
    }
}

static void read_rows(struct session *s)
{
    struct jpeg_decompress_struct *c = &s->cinfo;
    const bool cmyk = c->out_color_space == JCS_CMYK;
    JSAMPROW buffer = NULL;
    if (cmyk)
        buffer = c->mem->alloc_large((j_common_ptr)c, JPOOL_IMAGE, 4ul * c->output_width);

    while (c->output_scanline < c->output_height) {
        uint8_t *to = decode_row(s->out, c->output_scanline);
        JSAMPROW row = cmyk ? buffer : to;
        jpeg_read_scanlines(c, &row, 1);
        if (cmyk)
            row_of_cmyk(to, buffer, c->output_width, c->saw_Adobe_marker);
    }
}

static int run_decode(struct session *s)
{
    struct jpeg_decompress_struct *c = &s->cinfo;
    if (setjmp(s->jump))
        return -1;
    session_start(s);
    jpeg_read_header(c, TRUE);
    choose_output(s);
    if (c->image_width != s->info->width_px || c->image_height != s->info->height_px)
        fail_and_leave(s, "The JPEG header says two things.");
    jpeg_start_decompress(c);
    read_rows(s);
    /* The arithmetic decoder does not tell when it runs dry. */
    if (s->data_missing || (s->ended && (jpeg_has_multiple_scans(c) || c->arith_code))) {
        fail_ended(s);
        return -1;
    }
    return 0;
}

static bool matches(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

static int probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error)
{
    struct session s = {.error = error};
    session_open(&s, bytes, size);
    int err = run_probe(&s, out);
    jpeg_destroy_decompress(&s.cinfo);
    return err;
}

static int decode(const uint8_t *bytes, size_t size, const struct decode_info *info,
                  struct vision_control *control, const struct vision_image *out,
                  struct decode_error *error)
{
    struct session s = {.info = info, .control = control, .out = out, .error = error};
    session_open(&s, bytes, size);
    int err = run_decode(&s);
    jpeg_destroy_decompress(&s.cinfo);
    return err;
}

const struct decode_codec decode_codec_jpeg = {"jpeg", matches, probe, decode};
