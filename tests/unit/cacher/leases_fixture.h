/*
 * leases_fixture.h - leases with small tables, and what they told whom.
 */
#ifndef TESTS_CACHER_LEASES_FIXTURE_H
#define TESTS_CACHER_LEASES_FIXTURE_H

#include "cacher/leases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND   1000000u
#define LOG_MAX  64
#define FIRST    1000
#define LEASE_US (20 * SECOND)

struct told {
    uint64_t request;
    enum cacher_answer answer;
    uint64_t lease;
};

struct fixture {
    struct cacher_leases *leases;
    struct told told[LOG_MAX];
    unsigned count;
};

static inline void tell(const struct cacher_ticket *ticket, enum cacher_answer answer,
                        uint64_t lease, void *arg)
{
    struct fixture *f = arg;
    struct told told = {.answer = answer, .lease = lease};
    assert_true(f->count < LOG_MAX);
    memcpy(&told.request, ticket->request.bytes, sizeof told.request);
    f->told[f->count++] = told;
}

static inline void open_with(struct fixture *f, uint32_t leases, uint32_t parked,
                             uint32_t key)
{
    struct cacher_leases_limits limits = {.leases_max = leases,
                                          .parked_max = parked,
                                          .parked_key_max = key,
                                          .lease_us = LEASE_US,
                                          .first = FIRST,
                                          .seed = 42};
    *f = (struct fixture){0};
    f->leases = cacher_leases_new(&limits, tell, f);
    assert_non_null(f->leases);
}

static inline const uint8_t *key(uint8_t number)
{
    static uint8_t bytes[PROTO_DIGEST_BYTES];
    memset(bytes, 0, sizeof bytes);
    bytes[31] = number;
    return bytes;
}

static inline struct cacher_ticket ticket(uint64_t request, uint64_t until_us)
{
    struct cacher_ticket made = {.attempt = 1, .until_us = until_us};
    memcpy(made.request.bytes, &request, sizeof request);
    return made;
}

static inline enum cacher_turn get(struct fixture *f, uint8_t k, uint64_t request,
                                   uint64_t until_us, uint64_t now_us, uint64_t *lease)
{
    struct cacher_ticket made = ticket(request, until_us);
    return cacher_leases_get(f->leases, key(k), &made, false, now_us, lease);
}

/* Key `k`: one lease, and `n` parked with the requests 1 to n. */
static inline uint64_t lease_and_park(struct fixture *f, uint8_t k, unsigned n,
                                      uint64_t now_us)
{
    uint64_t lease = 0;
    assert_int_equal(get(f, k, 1000, UINT64_MAX, now_us, &lease), CACHER_TURN_LEASE);
    for (unsigned i = 1; i <= n; i++)
        assert_int_equal(get(f, k, i, UINT64_MAX, now_us + i, NULL), CACHER_TURN_PARKED);
    return lease;
}

static inline void assert_told(const struct fixture *f, unsigned i, uint64_t request,
                               enum cacher_answer answer, uint64_t lease)
{
    assert_true(i < f->count);
    assert_int_equal(f->told[i].request, request);
    assert_int_equal(f->told[i].answer, answer);
    assert_int_equal(f->told[i].lease, lease);
}

#endif
