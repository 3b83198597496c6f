#include "extractor/vision/sift_best.h"

#include <errno.h>
#include <stdlib.h>

#define GROW_FIRST 8 /* responses: a cell of a grid has four on average */

/* ---- a heap ---- */

static void sink(float *heap, size_t n, size_t i)
{
    for (;;) {
        size_t least = 2 * i + 1;
        if (least + 1 < n && heap[least + 1] < heap[least])
            least++;
        if (least >= n || heap[i] <= heap[least])
            return;
        float t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static void rise(float *heap, size_t i)
{
    while (i > 0 && heap[i] < heap[(i - 1) / 2]) {
        float t = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

static void drop_least(struct sift_heap *heap)
{
    heap->items[0] = heap->items[--heap->count];
    sink(heap->items, heap->count, 0);
}

static int push(struct sift_heap *heap, float response)
{
    if (heap->count == heap->capacity) {
        size_t wanted = heap->capacity < GROW_FIRST ? GROW_FIRST : 2 * heap->capacity;
        float *grown = realloc(heap->items, wanted * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        heap->items = grown;
        heap->capacity = wanted;
    }
    heap->items[heap->count] = response;
    rise(heap->items, heap->count++);
    return 0;
}

/* ---- all cells ---- */

int vision_sift_best_init(struct sift_best *best, size_t width_px, size_t height_px,
                          size_t limit, bool spread)
{
    *best = (struct sift_best){.limit = limit, .spread = spread, .whole = limit};
    best->cells = vision_sift_cells_for(width_px, height_px, spread ? limit : 1);
    best->heaps = calloc(best->cells.columns * best->cells.rows, sizeof *best->heaps);
    if (spread)
        best->with_rank = calloc(limit + 1, sizeof *best->with_rank);
    return best->heaps == NULL || (spread && best->with_rank == NULL) ? -ENOMEM : 0;
}

void vision_sift_best_free(struct sift_best *best)
{
    for (size_t i = 0; best->heaps != NULL && i < best->cells.columns * best->cells.rows;
         i++)
        free(best->heaps[i].items);
    free(best->heaps);
    free(best->with_rank);
    *best = (struct sift_best){0};
}

/* How many of a cell may be chosen. */
static size_t most_of_cell(const struct sift_best *best)
{
    return best->spread ? best->whole + 1 : best->limit;
}

static struct sift_heap *heap_at(struct sift_best *best, float x, float y)
{
    struct sift_heap *heap = &best->heaps[vision_sift_cell_at(&best->cells, x, y)];

    while (heap->count > most_of_cell(best)) /* fewer since it was filled */
        drop_least(heap);
    return heap;
}

bool vision_sift_best_beats(struct sift_best *best, float x, float y, float response)
{
    const struct sift_heap *heap = heap_at(best, x, y);
    return heap->count == most_of_cell(best) && response < heap->items[0];
}

/* One more cell has more than `rank` keypoints: rounds may no longer fit. */
static void count_rank(struct sift_best *best, size_t rank)
{
    best->with_rank[rank]++;
    best->within += rank < best->whole;
    while (best->within > best->limit)
        best->within -= best->with_rank[--best->whole];
}

int vision_sift_best_add(struct sift_best *best, float x, float y, float response)
{
    struct sift_heap *heap = heap_at(best, x, y);

    if (heap->count == most_of_cell(best)) {
        heap->items[0] = response;
        sink(heap->items, heap->count, 0);
        return 0;
    }
    int err = push(heap, response);
    if (err == 0 && best->spread)
        count_rank(best, heap->count - 1);
    return err;
}
