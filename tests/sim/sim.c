/*
 * sim - run the broker's core through seeded failures.
 *
 *     sim [--seeds N] [--seed S] [--events N] [--verbose]
 *
 * Seeds are 1 to N, or S alone. The first violated invariant ends the run with status 1
 * and prints the seed, which replays exactly the same way.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t running_seed;
static bool verbose;

void sim_seed(struct sim_random *random, uint64_t seed)
{
    random->state = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
    if (random->state == 0)
        random->state = 1;
    for (int i = 0; i < 4; i++)
        (void)sim_next(random);
}

uint64_t sim_next(struct sim_random *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * 0x2545f4914f6cdd1dull;
}

uint64_t sim_range(struct sim_random *random, uint64_t low, uint64_t high)
{
    return low + sim_next(random) % (high - low + 1);
}

bool sim_chance(struct sim_random *random, unsigned permille)
{
    return sim_range(random, 0, 999) < permille;
}

void sim_fail(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "sim: seed %" PRIu64 ": ", running_seed);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nreplay: sim --seed %" PRIu64 " --verbose\n", running_seed);
    exit(1);
}

void sim_trace(const char *format, ...)
{
    va_list args;

    if (!verbose)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void print(const struct sim_totals *totals, uint64_t seeds)
{
    printf("%" PRIu64 " seeds, %" PRIu64 " events, %" PRIu64 " checks, %" PRIu64
           " requests: %" PRIu64 " refused, %" PRIu64 " dispatches, %" PRIu64
           " second attempts, %" PRIu64 " without budget, %" PRIu64
           " quarantines, %" PRIu64 " sent newest first, %" PRIu64
           " refused as too late, %" PRIu64 " refused as too costly, %" PRIu64
           " restarts of the broker, %" PRIu64 " submitted again, %" PRIu64
           " given up, %" PRIu64 " frames of clients lost, %" PRIu64
           " sent to kept places, %" PRIu64
           " in the turn of a batch job that waited, %" PRIu64
           " times a client read slowly\n",
           seeds, totals->events, totals->checks, totals->requests, totals->refusals,
           totals->dispatches, totals->second_attempts, totals->unretried,
           totals->quarantined, totals->newest_first, totals->late_refusals,
           totals->costly, totals->restarts, totals->resubmitted, totals->given_up,
           totals->frames_lost, totals->kept_places, totals->overtaken, totals->held);
    for (unsigned i = 0; i < PROTO_STATUS_COUNT; i++)
        if (totals->by_status[i] > 0)
            printf("  %-18s %" PRIu64 "\n", proto_status_code(i), totals->by_status[i]);
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "sim: '%s' is not a number\n", text);
        exit(64);
    }
    return value;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 100, first = 1, events = 2000;
    struct sim_totals totals = {0};

    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && more) {
            seeds = number(argv[++i]);
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            first = number(argv[++i]);
            seeds = 1;
        } else if (strcmp(argv[i], "--events") == 0 && more) {
            events = number(argv[++i]);
        } else {
            fprintf(stderr,
                    "usage: sim [--seeds N] [--seed S] [--events N] [--verbose]\n");
            return 64;
        }
    }
    for (uint64_t i = 0; i < seeds; i++) {
        running_seed = first + i;
        sim_run(running_seed, events, &totals);
    }
    print(&totals, seeds);
    return 0;
}
