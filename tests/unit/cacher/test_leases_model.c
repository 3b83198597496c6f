/* Random events on small tables: the gauges must always be what a count shows, and
 * each parked get must end exactly once. */
#include "tests/unit/cacher/leases_fixture.h"

struct model {
    struct cacher_leases *leases;
    uint8_t parked[4096]; /* by request */
    unsigned ended;
};

static void model_end(const struct cacher_ticket *t, enum cacher_answer answer,
                      uint64_t lease, void *arg)
{
    struct model *m = arg;
    uint64_t request;
    memcpy(&request, t->request.bytes, sizeof request);
    assert_int_equal(m->parked[request], 1);
    assert_true((answer == CACHER_ANSWER_LEASE && !t->peek) == (lease != 0));
    m->parked[request] = 2;
    m->ended++;
}

static void each_parked_get_ends_exactly_once_whatever_happens(void **state)
{
    (void)state;
    static struct model m;
    struct cacher_leases_limits limits = {5, 40, 12, 50, 1, 7};
    uint64_t seed = 1, last_lease[8] = {0}, now = 0;
    unsigned parked = 0, aborted = 0;

    m = (struct model){0};
    m.leases = cacher_leases_new(&limits, model_end, &m);
    for (uint64_t request = 0; request < 4096; request++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned what = (unsigned)(seed >> 60), k = (unsigned)(seed >> 40) % 8;
        struct cacher_ticket t = ticket(request, now + (seed >> 33) % 100);
        now += (seed >> 50) % 4;
        t.peek = (seed >> 30) % 4 == 0;
        if (what < 10) {
            m.parked[request] = 1;
            enum cacher_turn turn =
                cacher_leases_get(m.leases, key((uint8_t)k), &t, (seed >> 25) % 2 == 0,
                                  now, &last_lease[k]);
            assert_false(t.peek && turn == CACHER_TURN_LEASE);
            m.parked[request] = turn == CACHER_TURN_PARKED || turn == CACHER_TURN_LOOK;
            parked += m.parked[request];
        } else if (what < 12) {
            cacher_leases_fulfil(m.leases, key((uint8_t)k), last_lease[k]);
        } else if (what < 13) {
            cacher_leases_drop(m.leases, key((uint8_t)k), last_lease[k], now);
        } else if (what < 14) {
            t = ticket(request - (seed >> 20) % 16 % (request + 1), 0); /* a recent one */
            aborted += cacher_leases_abort(m.leases, &t.request, 1);
        } else {
            cacher_leases_tick(m.leases, now);
        }
        assert_int_equal(cacher_leases_counters(m.leases)->parked_now,
                         parked - m.ended - aborted);
        assert_true(cacher_leases_counters(m.leases)->leases_now <= 5);
    }
    assert_true(parked > 500); /* it did happen */
    assert_true(aborted > 10);
    cacher_leases_leave(m.leases);
    assert_int_equal(m.ended + aborted, parked);
    cacher_leases_free(m.leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_parked_get_ends_exactly_once_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
