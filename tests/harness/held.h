/*
 * held.h - what this process really holds, beside what it counts: messages that came
 * through a ZeroMQ connection, as pieces of its receive buffer, and the resident set.
 * Header only.
 */
#ifndef TESTS_HARNESS_HELD_H
#define TESTS_HARNESS_HELD_H

#include "tests/harness/harness.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HELD_MEASURED false /* a sanitizer keeps what was freed */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HELD_MEASURED false
#endif
#endif
#ifndef HELD_MEASURED
#define HELD_MEASURED true
#endif

struct held_wire {
    void *zmq, *from, *to;
    char folder[32], address[64];
};

static inline void held_open(struct held_wire *wire)
{
    int wait_ms = 20000, linger = 0;

    strcpy(wire->folder, "/tmp/heldXXXXXX");
    assert_non_null(mkdtemp(wire->folder));
    snprintf(wire->address, sizeof wire->address, "ipc://%s/wire", wire->folder);
    wire->zmq = zmq_ctx_new();
    wire->from = zmq_socket(wire->zmq, ZMQ_PUSH);
    wire->to = zmq_socket(wire->zmq, ZMQ_PULL);
    zmq_setsockopt(wire->to, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    zmq_setsockopt(wire->from, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(wire->to, wire->address), 0);
    assert_int_equal(zmq_connect(wire->from, wire->address), 0);
}

static inline void held_close(struct held_wire *wire)
{
    char path[64];

    zmq_close(wire->from);
    zmq_close(wire->to);
    zmq_ctx_term(wire->zmq);
    snprintf(path, sizeof path, "%s/wire", wire->folder);
    unlink(path);
    rmdir(wire->folder);
}

/* The bytes as a message that came from outside; the caller closes `out`. */
static inline void held_pass(struct held_wire *wire, const void *bytes, size_t size,
                             zmq_msg_t *out)
{
    assert_int_equal(zmq_send(wire->from, bytes, size, 0), (int)size);
    zmq_msg_init(out);
    assert_int_equal(zmq_msg_recv(out, wire->to, 0), (int)size);
}

static inline uint64_t held_rss_bytes(void)
{
    unsigned long pages = 0;
    FILE *statm;

    malloc_trim(0);
    statm = fopen("/proc/self/statm", "r");
    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%*u %lu", &pages), 1);
    fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Within one and a half times, either way; a megabyte is anybody's. */
static inline void held_is_counted(uint64_t rss_before, uint64_t counted, size_t size)
{
    uint64_t rss = held_rss_bytes(), grown = rss > rss_before ? rss - rss_before : 0;

    print_message("values of %zu bytes: %llu KiB counted, %llu KiB held\n", size,
                  (unsigned long long)counted / 1024, (unsigned long long)grown / 1024);
    if (!HELD_MEASURED)
        return;
    assert_true(grown < counted * 3 / 2 + (1u << 20));
    assert_true(counted < grown * 3 / 2 + (1u << 20));
}

/* Sizes in bytes and how many of each: tiny, medium, large, some 20 MB in all each. */
static const struct {
    size_t size;
    unsigned count;
} held_cases[] = {{200, 30000}, {3000, 6000}, {8000, 2500}, {9000, 2000}, {300000, 70}};

#define HELD_CASES (sizeof held_cases / sizeof held_cases[0])

#endif
