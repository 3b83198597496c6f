#include "extractor/decode/internal.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* Level 3 with one filter: a denoised photograph comes out 5 % larger than at level 6
 * with all filters tried, in a fraction of the time. */
#define ZLIB_LEVEL 3
#define OUTPUT_MIN 4096u
#define OUTPUT_MAX (1ul << 31) /* more than any picture in bounds */
#define IS_LITTLE  (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

struct session {
    png_structp png;
    png_infop head;
    jmp_buf jump;
    uint8_t *bytes;
    size_t size, capacity;
    int err;
};

static _Noreturn void leave(struct session *s, int err)
{
    s->err = err;
    longjmp(s->jump, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp message)
{
    (void)message; /* memory is all that can lack */
    leave(png_get_error_ptr(png), -ENOMEM);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_write(png_structp png, png_bytep from, size_t count)
{
    struct session *s = png_get_io_ptr(png);
    if (count > s->capacity - s->size) {
        size_t capacity = 2 * (s->size + count) + OUTPUT_MIN;
        uint8_t *bytes = capacity > OUTPUT_MAX ? NULL : realloc(s->bytes, capacity);
        if (bytes == NULL)
            leave(s, -ENOMEM);
        s->bytes = bytes;
        s->capacity = capacity;
    }
    memcpy(s->bytes + s->size, from, count);
    s->size += count;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void run(struct session *s, const struct vision_image *image,
                struct vision_control *control)
{
    if (setjmp(s->jump))
        return;
    png_set_write_fn(s->png, s, on_write, on_flush);
    png_set_compression_level(s->png, ZLIB_LEVEL);
    png_set_filter(s->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
    png_set_IHDR(s->png, s->head, (png_uint_32)image->width_px,
                 (png_uint_32)image->height_px, (int)image->depth_bits,
                 PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(s->png, s->head);
    if (image->depth_bits == 16 && IS_LITTLE)
        png_set_swap(s->png);
    for (size_t y = 0; y < image->height_px; y++) {
        if (decode_row_step(control, y))
            leave(s, -ECANCELED);
        png_write_row(s->png, decode_row(image, y));
    }
    png_write_end(s->png, s->head);
}

int decode_png_write(const struct vision_image *image, struct vision_control *control,
                     uint8_t **bytes, size_t *size)
{
    struct session s = {0};
    s.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    s.head = s.png == NULL ? NULL : png_create_info_struct(s.png);
    if (s.head == NULL)
        s.err = -ENOMEM;
    else
        run(&s, image, control);
    png_destroy_write_struct(&s.png, &s.head);
    if (s.err < 0) {
        free(s.bytes);
        return s.err;
    }
    *bytes = s.bytes;
    *size = s.size;
    return 0;
}
