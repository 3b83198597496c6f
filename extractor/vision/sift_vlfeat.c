/*
 * sift_vlfeat.c - sift.h by VLFeat: the only file that knows it.
 *
 * The scale space, the orientations and the descriptors are VLFeat's; the extrema are
 * searched by extremum.h, which says why, and tells the response, which VLFeat does not.
 *
 * VLFeat holds one octave at a time, and orientations and descriptors can only be
 * computed while their octave is there. A cap on the number of features concerns all
 * octaves. So each octave adds its features without descriptors to those kept so far, the
 * lot is cut to the cap, and only this octave's survivors are described.
 *
 * VLFeat smooths an octave in one call, which takes seconds where the picture is large.
 * The function that it smooths by is taken from it here, so that `cancel` is heard
 * meanwhile.
 */
#include "extractor/vision/sift.h"
#include "extractor/vision/sift_select.h"

#include "extractor/vision/extremum.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vl/imopv.h>
#include <vl/sift.h>

#define FULL_SCALE    255.0 /* of the floats given to VLFeat, whatever the depth */
#define INPUT_BLUR_PX 0.5
#define OCTAVE_MIN_PX 8    /* shorter side of the last octave: a descriptor spans more */
#define STEP_ROWS     16   /* rows searched between two looks at `cancel` */
#define STEP_FEATURES 32   /* features described between two: under 2 ms */
#define ANGLES_MAX    4    /* VLFeat's bound on orientations of a keypoint */
#define ROOM_MORE     1024 /* and a quarter: equals that are dropped later */
#define TWO_PI        6.283185307179586

struct kept {
    struct vision_feature feature;
    VlSiftKeypoint key;
};

struct work {
    const struct vision_sift_params *params;
    struct vision_control *control;
    VlSiftFilt *filt;
    struct kept *kept;
    size_t count, room;
    size_t most; /* features that may be */
    size_t cap;  /* of them in the result, the others cut off */
};

static bool params_are_valid(const struct vision_sift_params *p)
{
    return p->first_octave >= -1 && p->first_octave <= 4 && p->octave_layers >= 1 &&
           p->octave_layers <= 10 && p->contrast >= 0 && p->contrast <= 1 &&
           p->edge >= 1 && p->edge <= 1e6 && p->sigma >= 0.6 && p->sigma <= 10;
}

/* VLFeat itself begins at -1 or 0: given more it would drop pixels unsmoothed, and write
 * past its buffer where the height is not a multiple. */
static int pyramid_first(const struct vision_sift_params *params)
{
    return params->first_octave < 0 ? -1 : 0;
}

/* Octaves of the pyramid; 0 when the picture is too small for one. */
static int pyramid_octaves(size_t width_px, size_t height_px, int first)
{
    size_t side = width_px < height_px ? width_px : height_px;
    int octaves = 0;
    if (first < 0)
        side *= 2;
    for (; side >= OCTAVE_MIN_PX; side /= 2)
        octaves++;
    return octaves;
}

uint64_t vision_sift_memory_bytes(uint64_t width_px, uint64_t height_px,
                                  const struct vision_sift_params *params)
{
    uint64_t pixels = width_px * height_px, doubled = pyramid_first(params) < 0 ? 4 : 1;
    uint64_t layers = (uint64_t)params->octave_layers;
    /* Planes of the first octave: 1 of scratch, S + 3 of blur, S + 2 of DoG and as many
     * pairs of gradients. And the picture in floats. */
    uint64_t planes = 1 + (layers + 3) + 3 * (layers + 2);
    return sizeof(float) * pixels * (doubled * planes + 1);
}

/* VLFeat computes offsets into its planes in int. */
static bool offsets_fit(size_t width_px, size_t height_px,
                        const struct vision_sift_params *params)
{
    uint64_t plane = (uint64_t)width_px * height_px * (pyramid_first(params) < 0 ? 4 : 1);
    return plane * (uint64_t)(2 * params->octave_layers + 2) <= INT_MAX;
}

static void float_row(float *to, const void *from, size_t n, unsigned depth_bits)
{
    const uint8_t *from8 = from;
    const uint16_t *from16 = from;
    for (size_t x = 0; x < n; x++)
        to[x] = depth_bits == 16 ? (float)from16[x] / 257.0f : (float)from8[x];
}

/* The picture in floats, 0 to FULL_SCALE; 16 bits keep their fractions. NULL: no memory.
 */
static float *float_picture(const struct vision_image *image)
{
    float *pixels = malloc(sizeof *pixels * image->width_px * image->height_px);
    for (size_t y = 0; pixels != NULL && y < image->height_px; y++)
        float_row(pixels + y * image->width_px,
                  (const char *)image->pixels + y * image->stride_bytes, image->width_px,
                  image->depth_bits);
    return pixels;
}

static int filt_new(const struct vision_image *image,
                    const struct vision_sift_params *params, int octaves,
                    VlSiftFilt **out)
{
    VlSiftFilt *filt = vl_sift_new((int)image->width_px, (int)image->height_px, octaves,
                                   params->octave_layers, pyramid_first(params));
    if (filt == NULL)
        return -ENOMEM;
    if (filt->temp == NULL || filt->octave == NULL || filt->dog == NULL ||
        filt->grad == NULL) {
        vl_sift_delete(filt);
        return -ENOMEM;
    }

    /* VLFeat's sigma0 belongs to its level 0, one step above the first layer, -1. */
    filt->sigman = INPUT_BLUR_PX;
    filt->sigma0 = params->sigma * filt->sigmak;
    filt->dsigma0 = filt->sigma0 * sqrt(1.0 - 1.0 / (filt->sigmak * filt->sigmak));
    *out = filt;
    return 0;
}

/* VLFeat computes no orientation and no descriptor round some pixels of the rim. */
static bool can_be_described(const VlSiftFilt *filt, const struct vision_extremum *e)
{
    int x = (int)(e->at_x + 0.5), y = (int)(e->at_y + 0.5);
    return x < filt->octave_width && y < filt->octave_height - 1;
}

/* VLFeat's planes are counted from s_min. */
static VlSiftKeypoint keypoint_of(const VlSiftFilt *filt, const struct vision_extremum *e)
{
    const double step = ldexp(1.0, filt->o_cur); /* octave's pixel in the picture's */
    const double level = e->at_plane + filt->s_min;
    return (VlSiftKeypoint){
        .o = filt->o_cur,
        .ix = e->x,
        .iy = e->y,
        .is = e->plane + filt->s_min,
        .x = (float)(e->at_x * step),
        .y = (float)(e->at_y * step),
        .s = (float)level,
        .sigma = (float)(filt->sigma0 * pow(2.0, level / filt->S) * step),
    };
}

static float angle_normal(double radians)
{
    double angle = fmod(radians, TWO_PI);
    if (angle < 0)
        angle += TWO_PI;
    float rounded = (float)angle;
    return rounded < (float)TWO_PI ? rounded : 0.0f;
}

static int ascending(float a, float b)
{
    return (a > b) - (a < b);
}

static int kept_order(const void *left, const void *right)
{
    const struct vision_feature *a = &((const struct kept *)left)->feature;
    const struct vision_feature *b = &((const struct kept *)right)->feature;
    int order = ascending(b->response, a->response);
    if (order == 0)
        order = ascending(a->scale, b->scale);
    if (order == 0)
        order = ascending(a->y, b->y);
    if (order == 0)
        order = ascending(a->x, b->x);
    if (order == 0)
        order = ascending(a->orientation, b->orientation);
    return order;
}

/* Sort, drop equals - two extrema may be refined to the same one - and cut to the cap. */
static void work_select(struct work *w)
{
    size_t count = 0;
    if (w->count == 0)
        return;

    qsort(w->kept, w->count, sizeof w->kept[0], kept_order);
    for (size_t i = 1; i < w->count; i++)
        if (kept_order(&w->kept[count], &w->kept[i]) != 0)
            w->kept[++count] = w->kept[i];
    count++;
    w->count = count < w->cap ? count : w->cap;
}

/* Room for the features of one more keypoint. The array has its final size at once:
 * memory that is not written to is none. -E2BIG: there are too many to be kept. */
static int work_make_room(struct work *w)
{
    if (w->kept == NULL)
        w->kept = malloc((w->room + ANGLES_MAX) * sizeof *w->kept);
    if (w->kept == NULL)
        return -ENOMEM;
    if (w->count < w->room)
        return 0;
    if (vision_step(w->control))
        return -ECANCELED;
    work_select(w);
    return w->count > w->most ? -E2BIG : 0;
}

static int keypoint_add(struct work *w, const struct vision_extremum *e)
{
    const VlSiftKeypoint key = keypoint_of(w->filt, e);
    double angles[ANGLES_MAX] = {0};
    int count = 1;

    if (!can_be_described(w->filt, e))
        return 0;
    if (!w->params->upright)
        count = vl_sift_calc_keypoint_orientations(w->filt, angles, &key);
    int err = work_make_room(w);
    if (err < 0)
        return err;

    for (int i = 0; i < count; i++) {
        struct kept *kept = &w->kept[w->count++];
        kept->key = key;
        kept->feature =
            (struct vision_feature){.x = key.x,
                                    .y = key.y,
                                    .scale = key.sigma,
                                    .orientation = angle_normal(angles[i]),
                                    .response = (float)(fabs(e->value) / FULL_SCALE)};
    }
    return 0;
}

static void quantise(uint8_t out[VISION_DESCRIPTOR_BYTES],
                     const float in[VISION_DESCRIPTOR_BYTES], enum vision_norm norm)
{
    static const uint8_t lowe[8] = {0, 7, 6, 5, 4, 3, 2, 1};
    float sum = 0;
    for (int i = 0; i < VISION_DESCRIPTOR_BYTES; i++)
        sum += in[i];

    for (int i = 0; i < VISION_DESCRIPTOR_BYTES; i++) {
        float v = in[(i & ~7) + lowe[i & 7]];
        if (norm == VISION_NORM_ROOT)
            v = sum > 0 ? sqrtf(v / sum) : 0;
        v = roundf(512.0f * v);
        out[i] = v < 255.0f ? (uint8_t)v : 255;
    }
}

static int describe_octave(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        struct kept *kept = &w->kept[i];
        float descriptor[VISION_DESCRIPTOR_BYTES] = {0};

        if (kept->key.o != w->filt->o_cur)
            continue;
        if (i % STEP_FEATURES == 0 && vision_step(w->control))
            return -ECANCELED;
        vl_sift_calc_keypoint_descriptor(w->filt, descriptor, &kept->key,
                                         kept->feature.orientation);
        quantise(kept->feature.descriptor, descriptor, w->params->norm);
    }
    return 0;
}

static void subtract(float *restrict to, const float *restrict more,
                     const float *restrict less, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = more[i] - less[i];
}

/* Into VLFeat's own buffer, which only vl_sift_detect would use. */
static struct vision_dog octave_dog(VlSiftFilt *filt)
{
    const size_t plane = (size_t)filt->octave_width * (size_t)filt->octave_height;
    const int planes = filt->s_max - filt->s_min;
    subtract(filt->dog, filt->octave + plane, filt->octave, plane * (size_t)planes);
    return (struct vision_dog){filt->dog, filt->octave_width, filt->octave_height,
                               planes};
}

static int row_run(struct work *w, const struct vision_dog *dog, int y, int plane)
{
    const double contrast = FULL_SCALE * w->params->contrast / w->params->octave_layers;
    struct vision_extremum e;

    /* OpenCV's: a raw extremum may be weaker by half, the refined one must reach it. */
    for (int x = 1; x < dog->width_px - 1; x++) {
        if (!vision_extremum_test(dog, x, y, plane, 0.5 * contrast) ||
            !vision_extremum_refine(dog, x, y, plane, contrast, w->params->edge, &e))
            continue;
        int err = keypoint_add(w, &e);
        if (err < 0)
            return err;
    }
    return 0;
}

static int octave_run(struct work *w)
{
    if (w->filt->o_cur < w->params->first_octave)
        return 0;

    const struct vision_dog dog = octave_dog(w->filt);
    for (int plane = 1; plane < dog.planes - 1; plane++) {
        for (int y = 1; y < dog.height_px - 1; y++) {
            if (y % STEP_ROWS == 0 && vision_step(w->control))
                return -ECANCELED;
            int err = row_run(w, &dog, y, plane);
            if (err < 0)
                return err;
        }
    }
    work_select(w);
    return describe_octave(w);
}

/* ---- smoothing ---- */

#define STEP_PX        (1u << 20) /* smoothed between two looks at `cancel`: some 10 ms */
#define STRIP_ALIGN_PX 16 /* of a strip's width: VLFeat's vectors begin as before */

/* Of the one computation of this thread. */
static _Thread_local struct vision_control *smoothing;
static _Thread_local bool smoothing_given_up;

/*
 * In place of VLFeat's own, which its library calls by name: convolve columns, in strips
 * that are each a call of the original. Columns do not touch each other, so the result
 * has the same bytes. Once cancelled it does nothing: the picture is given up anyway.
 */
void vl_imconvcol_vf(float *dst, vl_size dst_stride, float const *src, vl_size src_width,
                     vl_size src_height, vl_size src_stride, float const *filt,
                     vl_index filt_begin, vl_index filt_end, int step, unsigned int flags)
{
    static void (*original)(float *, vl_size, float const *, vl_size, vl_size, vl_size,
                            float const *, vl_index, vl_index, int, unsigned int);
    vl_size strip = STEP_PX / (src_height + 1) / STRIP_ALIGN_PX * STRIP_ALIGN_PX;

    if (original == NULL)
        *(void **)&original = dlsym(RTLD_NEXT, "vl_imconvcol_vf");
    if (strip == 0)
        strip = STRIP_ALIGN_PX;
    for (vl_size x = 0; x < src_width; x += strip) {
        vl_size width = src_width - x < strip ? src_width - x : strip;
        smoothing_given_up = smoothing_given_up || vision_step(smoothing);
        if (smoothing_given_up)
            return;
        original(dst + ((flags & VL_TRANSPOSE) ? x * dst_stride : x), dst_stride, src + x,
                 width, src_height, src_stride, filt, filt_begin, filt_end, step, flags);
    }
}

static int pyramid_run(struct work *w, float *pixels)
{
    int err = 0;

    smoothing = w->control;
    smoothing_given_up = false;
    int end = vl_sift_process_first_octave(w->filt, pixels);
    while (end == VL_ERR_OK && err == 0) {
        err = vision_step(w->control) ? -ECANCELED : octave_run(w);
        if (err == 0)
            end = vl_sift_process_next_octave(w->filt);
    }
    smoothing = NULL;
    if (smoothing_given_up)
        err = -ECANCELED;
    return err;
}

static int features_out(const struct work *w, const struct vision_image *image,
                        struct vision_features *out)
{
    const struct vision_sift_choice choice = {w->params->mask, w->params->max_features,
                                              w->params->spread};
    struct vision_feature *items =
        malloc(sizeof *items * (w->count + 1)); /* never of 0 */
    if (items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < w->count; i++)
        items[i] = w->kept[i].feature;
    struct vision_features features = {items, w->count};
    int err = vision_sift_select(&features, image->width_px, image->height_px, &choice);
    if (err < 0)
        vision_features_free(&features);
    else
        *out = features;
    return err;
}

static struct work work_for(const struct vision_sift_params *params,
                            struct vision_control *control)
{
    const uint32_t most = params->features_max, cap = params->max_features;
    struct work w = {.params = params, .control = control};

    w.most =
        most > 0 && most < VISION_SIFT_FEATURES_MAX ? most : VISION_SIFT_FEATURES_MAX;
    w.room = w.most + w.most / 4 + ROOM_MORE;
    /* With a mask or spread all have to be there to be chosen from. */
    bool cuts = cap > 0 && params->mask == NULL && !params->spread;
    w.cap = cuts && cap < w.most ? cap : w.room;
    return w;
}

int vision_sift(const struct vision_image *image, const struct vision_sift_params *params,
                struct vision_control *control, struct vision_features *out)
{
    if (!params_are_valid(params))
        return -EINVAL;
    if (!offsets_fit(image->width_px, image->height_px, params))
        return -EFBIG;

    struct work w = work_for(params, control);
    float *pixels = NULL;
    int err = 0;
    int octaves =
        pyramid_octaves(image->width_px, image->height_px, pyramid_first(params));
    if (octaves > 0) {
        pixels = float_picture(image);
        err = pixels == NULL ? -ENOMEM : filt_new(image, params, octaves, &w.filt);
    }
    if (err == 0 && octaves > 0)
        err = pyramid_run(&w, pixels);
    if (err == 0 && w.count > w.most)
        err = -E2BIG;
    if (err == 0)
        err = features_out(&w, image, out);
    if (err == -E2BIG)
        *out = (struct vision_features){NULL, w.count};

    if (w.filt != NULL)
        vl_sift_delete(w.filt);
    free(pixels);
    free(w.kept);
    return err;
}
