/*
 * nlm_tool.c - non-local means at any CPU level, for who wants to compare or to time it.
 *
 * Reads requests from standard input until its end: struct request, then the rows of the
 * picture without padding. Answers each with struct answer, `repeats` processor times in
 * ns (u64, one a run) and, unless `error` is set, the rows of the result. All in the
 * machine's byte order. bench/kernels.py and tests/integration/test_kernels.py speak
 * this. It trusts who started it; it is not part of the product.
 */
#include "extractor/vision/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct request {
    char level[8]; /* as in vision_cpu_parse() */
    uint32_t width_px, height_px, depth_bits, template_px, search_px, repeats;
    double h;
};

struct answer {
    int32_t error; /* 0; -ENOTSUP: not on this machine; or the kernel's */
    uint32_t repeats;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *must_allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

    if (memory == NULL) {
        fprintf(stderr, "nlm_tool: no memory for %zu bytes\n", bytes);
        exit(EXIT_FAILURE);
    }
    return memory;
}

static void must_write(const void *bytes, size_t count)
{
    if (fwrite(bytes, 1, count, stdout) != count)
        exit(EXIT_FAILURE);
}

static int run(const struct request *r, const struct vision_image *src,
               const struct vision_image *dst, uint64_t *times)
{
    const struct vision_nlm_params params = {r->h, r->template_px, r->search_px};
    void *scratch = must_allocate(vision_nlm_scratch_bytes());
    struct vision_kernels kernels;
    unsigned cpu;
    int err = vision_cpu_parse(r->level, &cpu);

    if (err == 0 && strcmp(r->level, "auto") == 0)
        cpu = vision_cpu_detect();
    if (err == 0 && (cpu & ~vision_cpu_detect()) != 0)
        err = -ENOTSUP;
    if (err == 0)
        vision_kernels_init(&kernels, cpu);
    for (uint32_t i = 0; i < r->repeats && err == 0; i++) {
        const uint64_t begin = now_ns();
        err = vision_nlm(&kernels, dst, src, &params, scratch, NULL);
        times[i] = now_ns() - begin;
    }
    free(scratch);
    return err;
}

int main(void)
{
    struct request r;

    while (fread(&r, sizeof r, 1, stdin) == 1) {
        const size_t stride = (size_t)r.width_px * r.depth_bits / 8;
        const size_t bytes = stride * r.height_px;
        struct vision_image src = {must_allocate(bytes), r.width_px, r.height_px, stride,
                                   r.depth_bits};
        struct vision_image dst = src;
        uint64_t *times = calloc(r.repeats + 1, sizeof times[0]);

        dst.pixels = must_allocate(bytes);
        if (times == NULL || fread(src.pixels, 1, bytes, stdin) != bytes)
            return EXIT_FAILURE;
        struct answer answer = {run(&r, &src, &dst, times), r.repeats};
        must_write(&answer, sizeof answer);
        must_write(times, r.repeats * sizeof times[0]);
        must_write(dst.pixels, answer.error == 0 ? bytes : 0);
        fflush(stdout);
        free(times);
        free(src.pixels);
        free(dst.pixels);
    }
    return EXIT_SUCCESS;
}
