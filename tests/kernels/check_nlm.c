#include "tests/kernels/check.h"

#include <stdio.h>
#include <string.h>

/* Vectors have 8 or 16 lanes of columns; the widest strip and its margins are 768. */
static size_t some_width(struct check *c, unsigned search_px)
{
    static const size_t around[] = {8, 16, 32, 64, 128};

    switch (check_below(c, 8)) {
    case 0:
        return 768 - search_px - 1 + check_below(c, 5); /* one strip or two */
    case 1:
    case 2:
        return around[check_below(c, 5)] - 2 + check_below(c, 5);
    default:
        return 1 + check_below(c, 72);
    }
}

/* A band has up to 64 rows. */
static size_t some_height(struct check *c, size_t w)
{
    return w <= 80 && check_below(c, 4) == 0 ? 60 + check_below(c, 80)
                                             : 1 + check_below(c, 24);
}

static struct vision_nlm_params some_params(struct check *c)
{
    static const double strengths[] = {10, 1e-20, 13.6, 13.92, 25, 80, 255};
    struct vision_nlm_params params = {0};

    params.template_px = 1 + 2 * (unsigned)check_below(c, check_below(c, 2) ? 5 : 11);
    params.search_px = 1 + 2 * (unsigned)check_below(c, 18);
    params.h = check_below(c, 2) ? strengths[check_below(c, 7)]
                                 : 0.05 + 0.001 * (double)check_below(c, 15000);
    return params;
}

/* Noise has hardly a weight that is not 0; few levels, or few changes, have many. */
static void shape_noise(struct check *c, uint8_t *bytes, size_t count)
{
    const size_t shape = check_below(c, 4), levels = 2 + check_below(c, 60);

    for (size_t i = 0; i < count; i++) {
        if (shape == 1)
            bytes[i] = (uint8_t)(90 + bytes[i] % levels);
        else if (shape == 2)
            bytes[i] = bytes[i] < 128 ? 0 : 255;
        else if (shape == 3)
            bytes[i] = (uint8_t)(i / levels + bytes[i] % 16);
    }
}

struct picture {
    struct vision_image image;
    size_t bytes;
};

/* Ends with its last pixel. */
static struct picture some_picture(struct check *c, size_t w, size_t h, unsigned depth)
{
    const size_t stride = (w + check_below(c, 9)) * depth / 8;
    struct picture p = {{NULL, w, h, stride, depth}, stride * (h - 1) + w * depth / 8};

    p.image.pixels = check_guarded(c, p.bytes);
    return p;
}

static void check_nlm(struct check *c, vision_nlm_fn *plain, vision_nlm_fn *fast,
                      unsigned depth)
{
    const struct vision_nlm_params params = some_params(c);
    const size_t w = some_width(c, params.search_px), h = some_height(c, w);
    const size_t scratch_bytes = vision_nlm_scratch_bytes();
    struct picture src = some_picture(c, w, h, depth);
    struct picture want = some_picture(c, w, h, depth), got = want;

    snprintf(c->about, sizeof c->about, "%zux%zu h %.17g template %u search %u", w, h,
             params.h, params.template_px, params.search_px);
    if (depth == 8)
        shape_noise(c, src.image.pixels, src.bytes);

    /* Row padding is the canary: it must stay what it was. */
    got.image.pixels = check_guarded(c, got.bytes);
    memcpy(got.image.pixels, want.image.pixels, got.bytes);
    void *scratch = check_guarded(c, scratch_bytes);
    int errors = plain(&want.image, &src.image, &params, scratch, NULL);
    errors |= fast(&got.image, &src.image, &params, scratch, NULL);

    check_same(c, &(int){0}, &errors, sizeof errors, "the results");
    check_same(c, want.image.pixels, got.image.pixels, want.bytes, "the picture");
    check_release(scratch, scratch_bytes);
    check_release(src.image.pixels, src.bytes);
    check_release(want.image.pixels, want.bytes);
    check_release(got.image.pixels, got.bytes);
}

void check_nlm_u8(struct check *c, const struct vision_kernels *plain,
                  const struct vision_kernels *fast)
{
    check_nlm(c, plain->nlm_u8, fast->nlm_u8, 8);
}

void check_nlm_u16(struct check *c, const struct vision_kernels *plain,
                   const struct vision_kernels *fast)
{
    if (fast->nlm_u16 != plain->nlm_u16)
        check_nlm(c, plain->nlm_u16, fast->nlm_u16, 16);
}
