/*
 * check_kernels [NAME [SEED [COUNT]]] - run COUNT (400) cases of the check NAME (all)
 * from SEED (1) on, at every CPU level that this machine has, each by itself. Exits with
 * 77 when it has none beyond scalar.
 */
#include "tests/kernels/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARDED_MAX_BYTES  (64u << 20)
#define FAILURES_SHOWN_MAX 10
#define SKIPPED            77

uint64_t check_rand(struct check *c)
{
    uint64_t z = c->state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

size_t check_below(struct check *c, size_t n)
{
    return (size_t)(check_rand(c) % n);
}

static size_t pages_of(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

void *check_guarded(struct check *c, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = pages_of(bytes);
    char *base = bytes > GUARDED_MAX_BYTES ? MAP_FAILED
                                           : mmap(NULL, inner + 2 * page, PROT_NONE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED || mprotect(base + page, inner, PROT_READ | PROT_WRITE) < 0) {
        fprintf(stderr, "check_kernels: no memory for %zu bytes\n", bytes);
        exit(EXIT_FAILURE);
    }
    char *memory = base + page + inner - bytes;
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t noise = check_rand(c);
        memcpy(memory + i, &noise, bytes - i < 8 ? bytes - i : 8);
    }
    return memory;
}

void check_release(void *memory, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = pages_of(bytes);

    munmap((char *)memory + bytes - inner - page, inner + 2 * page);
}

bool check_same(struct check *c, const void *want, const void *got, size_t bytes,
                const char *what)
{
    const unsigned char *a = want, *b = got;
    size_t i = 0;

    while (i < bytes && a[i] == b[i])
        i++;
    if (i == bytes)
        return true;
    if (c->failed++ < FAILURES_SHOWN_MAX)
        fprintf(stderr, "%s %s seed %llu: %s: byte %zu of %s is %u, must be %u\n",
                c->name, c->level, (unsigned long long)c->seed, c->about, i, what, b[i],
                a[i]);
    return false;
}

static const struct {
    const char *name;
    check_fn *run;
} checks[] = {{"nlm_u8", check_nlm_u8},
              {"nlm_u16", check_nlm_u16},
              {"sift_lines", check_sift_lines},
              {"sift_extrema", check_sift_extrema},
              {"sift_keypoint", check_sift_keypoint}};

/* The number of cases that failed. */
static unsigned run_check(const char *name, check_fn *run, const char *level,
                          unsigned cpu, uint64_t seed, uint64_t count)
{
    struct vision_kernels plain, fast;
    struct check c = {.name = name, .level = level};

    vision_kernels_init(&plain, 0);
    vision_kernels_init(&fast, cpu);
    for (uint64_t i = 0; i < count; i++) {
        c.seed = c.state = seed + i;
        run(&c, &plain, &fast);
    }
    printf("%s %s: %u of %llu cases differ\n", name, level, c.failed,
           (unsigned long long)count);
    return c.failed;
}

int main(int argc, char **argv)
{
    static const char *const levels[] = {"avx2", "avx512", "neon"};
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : argc > 2 ? 1 : 400;
    unsigned ran = 0, failed = 0;

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        unsigned cpu;
        if (vision_cpu_parse(levels[i], &cpu) < 0 || (cpu & ~vision_cpu_detect()) != 0) {
            printf("%s: not on this machine\n", levels[i]);
            continue;
        }
        for (size_t j = 0; j < sizeof checks / sizeof checks[0]; j++) {
            if (argc > 1 && strcmp(argv[1], checks[j].name) != 0)
                continue;
            failed +=
                run_check(checks[j].name, checks[j].run, levels[i], cpu, seed, count);
            ran++;
        }
    }
    if (failed > 0)
        return EXIT_FAILURE;
    return ran > 0 ? EXIT_SUCCESS : SKIPPED;
}
