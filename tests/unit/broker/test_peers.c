#include "broker/peers.h"
#include "tests/harness/harness.h"

static struct mesh_peer named(unsigned n)
{
    struct mesh_peer peer = {0};
    peer.size = (uint8_t)snprintf((char *)peer.bytes, sizeof peer.bytes, "peer-%u", n);
    return peer;
}

static void a_peer_is_found_by_its_id_until_it_is_removed(void **state)
{
    struct broker_peers peers;
    (void)state;

    assert_int_equal(broker_peers_init(&peers, 100, 1, 42), 0);
    for (unsigned n = 0; n < 100; n++) {
        struct mesh_peer id = named(n);
        assert_null(broker_peers_find(&peers, &id));
        assert_int_equal(broker_peers_add(&peers, &id)->index, n);
    }
    struct mesh_peer more = named(100);
    assert_null(broker_peers_add(&peers, &more));
    for (unsigned n = 0; n < 100; n += 3) {
        struct mesh_peer id = named(n);
        broker_peers_remove(&peers, broker_peers_find(&peers, &id));
    }
    for (unsigned n = 0; n < 100; n++) {
        struct mesh_peer id = named(n);
        struct broker_peer *peer = broker_peers_find(&peers, &id);
        assert_int_equal(peer == NULL, n % 3 == 0);
        assert_ptr_equal(broker_peers_at(&peers, n), peer);
    }
    assert_int_equal(broker_peers_add(&peers, &more)->index, 0); /* the lowest free */
    assert_null(broker_peers_at(&peers, BROKER_PEERS_NONE));
    broker_peers_free(&peers);
    broker_peers_free(&peers);
}

static void statistics_are_replaced_and_bounded(void **state)
{
    struct broker_peers peers;
    static char large[BROKER_PEERS_STATS_BYTES + 1];
    struct mesh_peer id = named(1);
    (void)state;

    assert_int_equal(broker_peers_init(&peers, 4, 1, 1), 0);
    struct broker_peer *peer = broker_peers_add(&peers, &id);
    broker_peers_set_stats(peer, "{\"a\":1}", 7);
    broker_peers_set_stats(peer, large, sizeof large); /* too long: the last stays */
    broker_peers_set_stats(peer, "", 0);
    assert_int_equal(peer->stats_bytes, 7);
    assert_memory_equal(peer->stats, "{\"a\":1}", 7);
    broker_peers_set_stats(peer, large, sizeof large - 1);
    assert_int_equal(peer->stats_bytes, BROKER_PEERS_STATS_BYTES);
    broker_peers_free(&peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_is_found_by_its_id_until_it_is_removed),
        cmocka_unit_test(statistics_are_replaced_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
