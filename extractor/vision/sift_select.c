/*
 * sift_select.c - a mask, and features well spread over the picture.
 *
 * Chosen by response alone, all features may come from one textured corner. With `spread`
 * the picture is cut into square cells, about a quarter as many as features are wanted.
 * Each feature has a rank in its cell, by response. First every cell gives its best one,
 * then its second best, and so on until there are enough; in the round that is not
 * completed the strongest go first. Cells with nothing to give leave their share to the
 * others. It is one pass and knows no threshold; adaptive suppression (Brown et al.,
 * 2005; Bailo et al., 2018) spreads more evenly, by a search over radii.
 */
#include "extractor/vision/sift_select.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define FEATURES_A_CELL 4

/* ---- mask ---- */

static bool is_set(const struct vision_image *mask, size_t x, size_t y)
{
    const char *row = (const char *)mask->pixels + y * mask->stride_bytes;
    return mask->depth_bits == 16 ? ((const uint16_t *)(const void *)row)[x] != 0
                                  : ((const uint8_t *)row)[x] != 0;
}

/* The pixel that holds `at`; features lie within half a pixel of the picture. */
static size_t pixel_of(float at, size_t size_px)
{
    float rounded = floorf(at + 0.5f);
    if (!(rounded > 0))
        return 0;
    return rounded < (float)size_px ? (size_t)rounded : size_px - 1;
}

bool vision_sift_is_unmasked(const struct vision_image *mask, float x, float y)
{
    return is_set(mask, pixel_of(x, mask->width_px), pixel_of(y, mask->height_px));
}

static void drop_masked(struct vision_features *features, const struct vision_image *mask)
{
    size_t kept = 0;

    for (size_t i = 0; i < features->count; i++) {
        const struct vision_feature *f = &features->items[i];
        if (vision_sift_is_unmasked(mask, f->x, f->y))
            features->items[kept++] = *f;
    }
    features->count = kept;
}

/* ---- spread ---- */

struct vision_sift_cells vision_sift_cells_for(size_t width_px, size_t height_px,
                                               size_t wanted)
{
    double area = (double)width_px * (double)height_px * FEATURES_A_CELL;
    size_t side = (size_t)ceil(sqrt(area / (double)wanted));
    if (side < 1)
        side = 1;
    return (struct vision_sift_cells){width_px, height_px, side,
                                      (width_px + side - 1) / side,
                                      (height_px + side - 1) / side};
}

size_t vision_sift_cell_at(const struct vision_sift_cells *cells, float x, float y)
{
    return pixel_of(y, cells->height_px) / cells->side_px * cells->columns +
           pixel_of(x, cells->width_px) / cells->side_px;
}

/* The rank of each feature in its cell, and how many features have each rank. */
static void rank_all(const struct vision_features *features,
                     const struct vision_sift_cells *cells, uint32_t *in_cell,
                     uint32_t *rank, uint32_t *with_rank)
{
    for (size_t i = 0; i < features->count; i++) {
        const struct vision_feature *f = &features->items[i];
        size_t cell = vision_sift_cell_at(cells, f->x, f->y);
        rank[i] = in_cell[cell]++;
        with_rank[rank[i]]++;
    }
}

static void keep_ranks(struct vision_features *features, size_t wanted,
                       const uint32_t *rank, const uint32_t *with_rank)
{
    size_t whole = 0, room = wanted, kept = 0;

    while (with_rank[whole] <= room && with_rank[whole] > 0)
        room -= with_rank[whole++];
    for (size_t i = 0; i < features->count; i++) {
        if (rank[i] > whole || (rank[i] == whole && room == 0))
            continue;
        room -= rank[i] == whole;
        features->items[kept++] = features->items[i];
    }
    features->count = kept;
}

static int spread(struct vision_features *features, size_t width_px, size_t height_px,
                  size_t wanted)
{
    const struct vision_sift_cells cells =
        vision_sift_cells_for(width_px, height_px, wanted);
    uint32_t *in_cell = calloc(cells.columns * cells.rows, sizeof in_cell[0]);
    uint32_t *rank = malloc(features->count * sizeof rank[0]);
    uint32_t *with_rank = calloc(features->count + 1, sizeof with_rank[0]);
    int err = -ENOMEM;

    if (in_cell != NULL && rank != NULL && with_rank != NULL) {
        rank_all(features, &cells, in_cell, rank, with_rank);
        keep_ranks(features, wanted, rank, with_rank);
        err = 0;
    }
    free(in_cell);
    free(rank);
    free(with_rank);
    return err;
}

int vision_sift_select(struct vision_features *features, size_t width_px,
                       size_t height_px, const struct vision_sift_choice *choice)
{
    if (choice->mask != NULL)
        drop_masked(features, choice->mask);
    if (choice->max_features == 0 || features->count <= choice->max_features)
        return 0;
    if (choice->spread)
        return spread(features, width_px, height_px, choice->max_features);
    features->count = choice->max_features;
    return 0;
}

void vision_features_free(struct vision_features *features)
{
    free(features->items);
    *features = (struct vision_features){0};
}
