#include "tests/unit/extractor/decode/check.h"

enum { SIDE_MAX = 19 };

/* Random rows in PNG's own packing, and what one pixel of them must become. */
struct picture {
    struct png_wish wish;
    unsigned w, h, channels;
    size_t stride;
    uint8_t rows[SIDE_MAX * SIDE_MAX * 8];
};

static const png_color palette[4] = {
    {255, 0, 0}, {0, 200, 0}, {10, 20, 250}, {77, 77, 77}};

static void picture_make(struct picture *p, int type, int depth, int interlaced,
                         unsigned w, unsigned h, uint64_t seed)
{
    static const unsigned channels[] = {1, 0, 3, 1, 2, 0, 4};
    *p =
        (struct picture){.wish = {.depth = depth, .type = type, .interlaced = interlaced},
                         .w = w,
                         .h = h,
                         .channels = channels[type]};
    if (type == PNG_COLOR_TYPE_PALETTE) {
        p->wish.palette = palette;
        p->wish.colours = depth == 1 ? 2 : 4;
    }
    p->stride = (w * p->channels * (unsigned)depth + 7) / 8;
    for (size_t i = 0; i < p->stride * h; i++)
        p->rows[i] = (uint8_t)scene_rand(&seed);
    if (type == PNG_COLOR_TYPE_PALETTE && depth > 2) /* no index past the palette */
        for (size_t i = 0; i < p->stride * h; i++)
            p->rows[i] &= depth == 4 ? 0x33 : 0x03;
}

static unsigned sample(const struct picture *p, unsigned x, unsigned y, unsigned channel)
{
    const unsigned depth = (unsigned)p->wish.depth;
    const uint8_t *row = p->rows + y * p->stride;
    unsigned i = x * p->channels + channel;
    if (depth == 16)
        return (unsigned)row[2 * i] << 8 | row[2 * i + 1];
    unsigned bit = i * depth;
    return row[bit / 8] >> (8 - depth - bit % 8) & ((1u << depth) - 1);
}

static unsigned expected(const struct picture *p, unsigned x, unsigned y)
{
    unsigned v = sample(p, x, y, 0);
    switch (p->wish.type) {
    case PNG_COLOR_TYPE_PALETTE:
        return luma_of(palette[v].red, palette[v].green, palette[v].blue);
    case PNG_COLOR_TYPE_RGB:
    case PNG_COLOR_TYPE_RGB_ALPHA:
        return luma_of(v, sample(p, x, y, 1), sample(p, x, y, 2));
    default:
        return p->wish.depth < 8 ? v * 255 / ((1u << p->wish.depth) - 1) : v;
    }
}

static void every_colour_type_depth_and_interlacing_is_exact(void **state)
{
    (void)state;
    static const int kinds[][2] = {{0, 1}, {0, 2},  {0, 4},  {0, 8}, {0, 16},
                                   {2, 8}, {2, 16}, {3, 1},  {3, 2}, {3, 4},
                                   {3, 8}, {4, 8},  {4, 16}, {6, 8}, {6, 16}};
    for (size_t i = 0; i < 2 * sizeof kinds / sizeof kinds[0]; i++) {
        for (unsigned w = 1; w <= SIDE_MAX; w += 3) {
            struct picture p;
            unsigned h = 1 + (w * 7 + (unsigned)i) % SIDE_MAX;
            picture_make(&p, kinds[i / 2][0], kinds[i / 2][1], i % 2, w, h, i + w);
            struct bytes file = png_bytes(p.rows, w, h, &p.wish);
            struct vision_image image = decoded(file);

            assert_int_equal(image.width_px, w);
            assert_int_equal(image.height_px, h);
            assert_int_equal(image.depth_bits, p.wish.depth == 16 ? 16 : 8);
            for (unsigned y = 0; y < h; y++)
                for (unsigned x = 0; x < w; x++)
                    assert_int_equal(scene_get(&image, x, y), expected(&p, x, y));
            decode_image_free(&image);
            free(file.data);
        }
    }
}

static struct bytes small_png(int interlaced)
{
    struct picture p;
    picture_make(&p, PNG_COLOR_TYPE_RGB, 8, interlaced, 17, 11, 5);
    return png_bytes(p.rows, 17, 11, &p.wish);
}

/* A chunk of `type` before the picture data. */
static void add_chunk(struct bytes *file, const char *type, const void *data, size_t size)
{
    uint8_t *chunk = malloc(size + 12);
    put_be32(chunk, (uint32_t)size);
    memcpy(chunk + 4, type, 4);
    memcpy(chunk + 8, data, size);
    put_be32(chunk + 8 + size, crc_of(chunk + 4, size + 4));
    bytes_insert(file, 8 + 25, chunk, size + 12);
    free(chunk);
}

static void transparency_and_strange_chunks_change_nothing(void **state)
{
    (void)state;
    struct bytes plain = small_png(0), dressed = small_png(0);
    add_chunk(&dressed, "tRNS", "\0\1\0\2\0\3", 6);
    add_chunk(&dressed, "gAMA", "\0\0\1\1", 4);
    add_chunk(&dressed, "zTXt", "k\0\0garbage", 10);
    add_chunk(&dressed, "quUx", "anything", 8);
    struct vision_image a = decoded(plain), b = decoded(dressed);
    assert_memory_equal(a.pixels, b.pixels, 17 * 11);
    decode_image_free(&a);
    decode_image_free(&b);
    free(plain.data);
    free(dressed.data);
}

static void the_orientation_of_an_exif_chunk_counts(void **state)
{
    (void)state;
    uint8_t exif[EXIF_BYTES];
    struct bytes file = small_png(0);
    exif_block(exif, 6, 1);
    add_chunk(&file, "eXIf", exif, sizeof exif);

    struct decode_info info;
    struct decode_error error;
    assert_int_equal(decode_probe(file.data, file.size, &info, &error), 0);
    assert_int_equal(info.orientation, 6);
    struct vision_image image = decoded(file);
    assert_int_equal(image.width_px, 11);
    assert_int_equal(image.height_px, 17);
    decode_image_free(&image);
    free(file.data);
}

/* Set the size in the header and mend its checksum. */
static void set_size(struct bytes *file, uint32_t w, uint32_t h)
{
    put_be32(file->data + 16, w);
    put_be32(file->data + 20, h);
    put_be32(file->data + 29, crc_of(file->data + 12, 17));
}

static void a_size_out_of_bounds_is_refused_from_the_header(void **state)
{
    (void)state;
    struct bytes file = small_png(0);
    set_size(&file, 8001, 8000);
    struct decode_error error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, DECODE_PIXELS_MAX);
    assert_int_equal(error.actual, 64008000);

    set_size(&file, 1, 65536);
    error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, DECODE_SIDE_MAX_PX);
    assert_int_equal(error.actual, 65536);

    set_size(&file, 0, 11);
    assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
    set_size(&file, 0xFFFFFFFF, 0xFFFFFFFF);
    assert_int_equal(refused(file).kind, DECODE_TOO_MANY_PIXELS);
    free(file.data);
}

static void a_wrong_checksum_or_an_early_end_is_undecodable(void **state)
{
    (void)state;
    for (int interlaced = 0; interlaced <= 1; interlaced++) {
        struct bytes file = small_png(interlaced);
        struct bytes cut = bytes_copy(file.data, file.size * 2 / 3);
        assert_int_equal(refused(cut).kind, DECODE_UNDECODABLE);
        file.data[file.size - 12 - 1] ^= 1; /* the last byte of IDAT's checksum */
        assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
        free(cut.data);
        free(file.data);
    }
}

static void cut_and_damaged_files_do_no_harm(void **state)
{
    (void)state;
    uint8_t exif[EXIF_BYTES];
    exif_block(exif, 5, 1);
    for (int i = 0; i < 8; i++) {
        struct picture p;
        picture_make(&p,
                     (i & 3) == 3   ? 6
                     : (i & 3) == 1 ? 3
                                    : 2,
                     8, i & 4, 19, 13, (uint64_t)i);
        struct bytes file = png_bytes(p.rows, 19, 13, &p.wish);
        add_chunk(&file, "eXIf", exif, sizeof exif);
        cut_everywhere(file, 1);
        damage_everywhere(file, 300, (uint64_t)i + 1);
        free(file.data);
    }
}

static void a_cancelled_decode_says_so(void **state)
{
    (void)state;
    struct vision_control control = {.cancel = 1};
    const struct decode_options options = {.pixels_max = 1000000, .control = &control};
    struct decode_error error;
    struct vision_image image;
    struct bytes file = small_png(1);
    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), -1);
    assert_int_equal(error.kind, DECODE_CANCELLED);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_colour_type_depth_and_interlacing_is_exact),
        cmocka_unit_test(transparency_and_strange_chunks_change_nothing),
        cmocka_unit_test(the_orientation_of_an_exif_chunk_counts),
        cmocka_unit_test(a_size_out_of_bounds_is_refused_from_the_header),
        cmocka_unit_test(a_wrong_checksum_or_an_early_end_is_undecodable),
        cmocka_unit_test(cut_and_damaged_files_do_no_harm),
        cmocka_unit_test(a_cancelled_decode_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
