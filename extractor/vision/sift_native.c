/*
 * sift_native.c - SIFT that streams: a picture goes in row by row, features come out.
 *
 * A scale space as others keep it is 6 Gaussian and 5 difference planes for each octave:
 * 2.8 GB for 12 megapixels doubled, every byte of which goes to memory and back. Here no
 * plane exists. Rows of the picture enter the first octave in bands of a few. Each level
 * is a ring of rows and follows the one before it at a distance of its blur's radius;
 * every second row of the level that has twice the first one's blur enters the next
 * octave, which does the same at half the width (sift_stream.c). So all octaves run at
 * once, and the working set is some rows of each: a few per cent of a plane, which is
 * why it stays in the cache, and it grows with the width alone.
 *
 * Differences are formed in the search for extrema and never stored. An extremum's place
 * is refined at once (sift_refine.c), since the few rows round it are in the rings.
 *
 * Describing a keypoint needs up to 57 rows below it and above it, of the level of its
 * scale. Two ways were at hand: stream the picture a second time when all keypoints are
 * known, or keep the rings of those levels so high (some 150 rows of three levels) and
 * let keypoints wait in a queue until their rows have come. The second costs some cache,
 * the first doubles the blurring, by far the larger part. A mask, a cap on the number of
 * features and their spread choose keypoints, before anything is described. What a mask
 * hides is dropped where it is found. With a cap who is wanted is known only at the end;
 * the best so far (sift_best.c) give a bound that a keypoint must reach, when it is
 * found and again when its turn has come. It never turns a wanted one away, and for n
 * wanted of m found in no special order it describes n (1 + ln(m / n)) of them, which
 * costs less than a second pass: 2000 of 100,000 make 10,000 descriptors, 10 ms, beside
 * 200 ms of blurring. At the end everything is sorted into one total order and cut.
 *
 * The picture is doubled as OpenCV does it, at half pixels: sample i lies at i / 2 - 1/4,
 * and all samples are blurred alike. OpenCV forgets the quarter; here it is taken off,
 * and what lies in the outermost quarter, outside the picture, is dropped.
 */
#include "extractor/vision/sift_native.h"

#include "extractor/vision/sift_points.h"
#include "extractor/vision/sift_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ARENA_ALIGN      64
#define LARGE_PAGE_BYTES ((size_t)2 << 20) /* x86's, and most of aarch64's */

static bool params_are_valid(const struct vision_sift_params *p)
{
    return p->first_octave >= -1 && p->first_octave <= 4 && p->octave_layers >= 1 &&
           p->octave_layers <= SIFT_LAYERS_MAX && p->contrast >= 0 && p->contrast <= 1 &&
           p->edge >= 1 && p->edge <= 1e6 && p->sigma >= 0.6 && p->sigma <= 10;
}

struct work {
    struct sift_stream stream;
    struct sift_points points;
};

static size_t arena_bytes(struct sift_stream *s)
{
    return vision_sift_stream_lay_out(s, NULL) +
           vision_sift_points_lay_out(NULL, s, NULL);
}

/* ---- the whole ---- */

static int work_run(struct work *w, const struct vision_image *image, char *arena)
{
    size_t used = vision_sift_stream_lay_out(&w->stream, arena);
    vision_sift_points_lay_out(&w->points, &w->stream, arena + used);
    w->stream.on_hit = vision_sift_points_on_hit;
    w->stream.on_rows = vision_sift_points_on_rows;
    w->stream.arg = &w->points;
    return vision_sift_stream_run(&w->stream, image);
}

/*
 * In large pages where whole ones fit and the system has them: the faults of small ones
 * were a tenth of the time for 640x480 in a new process, and the rows of a keypoint's
 * patch had a page each to be looked up.
 */
static char *arena_new(size_t bytes)
{
    const size_t whole = bytes / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
    const size_t align = whole > 0 ? LARGE_PAGE_BYTES : ARENA_ALIGN;
    void *arena;

    if (posix_memalign(&arena, align, bytes) != 0)
        return NULL;
    if (whole > 0)
        (void)madvise(arena, whole, MADV_HUGEPAGE); /* advice: it goes without, too */
    return arena;
}

static int work_in_arena(struct work *w, const struct vision_image *image)
{
    char *arena = arena_new(arena_bytes(&w->stream));
    if (arena == NULL)
        return -ENOMEM;
    int err = work_run(w, image, arena);
    free(arena);
    return err;
}

int vision_sift_native(const struct vision_kernels *k, const struct vision_image *image,
                       const struct vision_sift_params *params,
                       struct vision_control *control, struct vision_features *out)
{
    if (!params_are_valid(params))
        return -EINVAL;
    struct work *w = malloc(sizeof *w);
    if (w == NULL)
        return -ENOMEM;

    vision_sift_stream_init(&w->stream, image->width_px, image->height_px, params);
    w->stream.k = &k->sift;
    w->stream.control = control;
    int err = vision_sift_points_init(&w->points, params, &w->stream);
    if (err == 0 && w->stream.octaves > 0)
        err = work_in_arena(w, image);
    if (err == 0 && w->points.over > 0) {
        *out = (struct vision_features){NULL, w->points.over};
        err = -E2BIG;
    }
    if (err == 0)
        err = vision_sift_points_rank(&w->points);
    if (err == 0)
        *out = vision_sift_points_take(&w->points);
    vision_sift_points_free(&w->points);
    free(w);
    return err;
}

uint64_t vision_sift_native_memory_bytes(uint64_t width_px, uint64_t height_px,
                                         const struct vision_sift_params *params)
{
    struct sift_stream s;
    vision_sift_stream_init(&s, (size_t)width_px, (size_t)height_px, params);
    return sizeof(struct work) + arena_bytes(&s);
}
