#include "extractor/slotwire.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct extractor_slotwire sample(enum extractor_slotwire_kind kind)
{
    struct extractor_slotwire m = {.kind = kind, .serial = 0x0102030405060708};

    if (kind == EXTRACTOR_SLOT_HELLO)
        m.pid = 4711, m.filter_errno = 22;
    if (kind == EXTRACTOR_SLOT_JOB) {
        m.job = (struct extractor_job){.kind = PROTO_KIND_DENOISE,
                                       .image_bytes = 70000,
                                       .pixels_max = 64u << 20,
                                       .memory_max = 3ull << 30};
        memset(m.job.image_sha256, 0x5a, sizeof m.job.image_sha256);
        memset(m.job.key, 0xa5, sizeof m.job.key);
        proto_params_init(&m.job.params);
        m.job.params.h = 12.5;
    }
    if (kind == EXTRACTOR_SLOT_DONE)
        m.result = (struct extractor_result){NULL, 150000, 1000, 640, 480, 1, 2, 3};
    if (kind == EXTRACTOR_SLOT_ERROR) {
        m.error = (struct extractor_error){
            .status = PROTO_STATUS_TOO_MANY_PIXELS, .limit = 64, .actual = 65};
        memset(m.error.detail, 'x', sizeof m.error.detail - 1);
    }
    return m;
}

static void every_kind_comes_back_as_it_was(void **state)
{
    (void)state;
    for (int kind = EXTRACTOR_SLOT_HELLO; kind <= EXTRACTOR_SLOT_ERROR; kind++) {
        struct extractor_slotwire in = sample(kind), out;
        uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX], again[EXTRACTOR_SLOTWIRE_BYTES_MAX];
        size_t size = extractor_slotwire_encode(&in, bytes);

        assert_int_equal(extractor_slotwire_decode(bytes, size, &out), 0);
        assert_int_equal(out.kind, kind);
        assert_int_equal(out.serial, in.serial);
        assert_int_equal(out.pid, in.pid);
        assert_int_equal(out.filter_errno, in.filter_errno);
        assert_int_equal(out.job.kind, in.job.kind);
        assert_int_equal(out.job.memory_max, in.job.memory_max);
        assert_int_equal(out.result.sift_us, in.result.sift_us);
        assert_string_equal(out.error.detail, in.error.detail);
        assert_int_equal(extractor_slotwire_encode(&out, again), size);
        assert_memory_equal(again, bytes, size);
    }
}

/* `size` bytes that end where a page without access begins. */
static uint8_t *at_the_edge(const uint8_t *bytes, size_t size, uint8_t *pages)
{
    uint8_t *copy = pages + 4096 - size;

    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

static uint8_t *guarded_pages(void)
{
    uint8_t *pages =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
    return pages;
}

static void no_packet_of_another_length_is_taken(void **state)
{
    uint8_t *pages = guarded_pages();
    (void)state;

    for (int kind = EXTRACTOR_SLOT_HELLO; kind <= EXTRACTOR_SLOT_ERROR; kind++) {
        struct extractor_slotwire in = sample(kind), out;
        uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX + 8] = {0};
        size_t size = extractor_slotwire_encode(&in, bytes);

        for (size_t cut = 0; cut <= size + 8; cut++) {
            if (cut == size)
                continue;
            uint8_t *copy = at_the_edge(bytes, cut, pages);
            assert_int_equal(extractor_slotwire_decode(copy, cut, &out), -EPROTO);
            if (cut < 8)
                continue;
            copy[6] = (uint8_t)cut; /* and when it says that it is that long */
            copy[7] = (uint8_t)(cut >> 8);
            assert_int_equal(extractor_slotwire_decode(copy, cut, &out), -EPROTO);
        }
    }
    munmap(pages, 8192);
}

static void garbage_is_refused_or_read_as_something_that_encodes_again(void **state)
{
    uint8_t *pages = guarded_pages();
    uint32_t seed = 12345;
    unsigned taken = 0;
    (void)state;

    for (int round = 0; round < 200000; round++) {
        struct extractor_slotwire in = sample(
                                      (enum extractor_slotwire_kind)(1 + round % 5)),
                                  out;
        uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX], again[EXTRACTOR_SLOTWIRE_BYTES_MAX];
        size_t size = extractor_slotwire_encode(&in, bytes);

        for (int flips = 0; flips < 3; flips++) {
            seed = seed * 1664525 + 1013904223;
            bytes[(seed >> 8) % size] ^= (uint8_t)(seed >> 24);
        }
        uint8_t *copy = at_the_edge(bytes, size, pages);
        if (extractor_slotwire_decode(copy, size, &out) < 0)
            continue;
        taken++;
        assert_in_range(out.kind, EXTRACTOR_SLOT_HELLO, EXTRACTOR_SLOT_ERROR);
        if (out.kind == EXTRACTOR_SLOT_ERROR)
            assert_true(proto_status_is_known(out.error.status) &&
                        out.error.status != PROTO_STATUS_OK);
        assert_true(extractor_slotwire_encode(&out, again) <= size);
    }
    assert_true(taken > 1000); /* else the rounds tried nothing */
    munmap(pages, 8192);
}

static void a_payload_is_what_was_put_in(void **state)
{
    static uint8_t bytes[150001];
    void *mapped;
    (void)state;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    int fd = extractor_payload_make(bytes, sizeof bytes);
    assert_true(fd >= 0);
    assert_int_equal(extractor_payload_map(fd, sizeof bytes, &mapped), 0);
    assert_memory_equal(mapped, bytes, sizeof bytes);
    munmap(mapped, sizeof bytes);

    assert_int_equal(ftruncate(fd, 0), -1); /* nobody can cut it under our feet */
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(extractor_payload_map(fd, sizeof bytes - 1, &mapped), -EPROTO);
    assert_int_equal(extractor_payload_map(fd, sizeof bytes + 1, &mapped), -EPROTO);
    close(fd);
}

static void what_could_change_or_is_no_memfd_is_no_payload(void **state)
{
    void *mapped;
    int pipes[2], open_one = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    (void)state;

    assert_int_equal(ftruncate(open_one, 4096), 0);
    assert_int_equal(extractor_payload_map(open_one, 4096, &mapped), -EPROTO);
    assert_int_equal(fcntl(open_one, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(extractor_payload_map(open_one, 4096, &mapped), -EPROTO);
    close(open_one);

    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(extractor_payload_map(pipes[0], 4096, &mapped), -EPROTO);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(extractor_payload_map(-1, 4096, &mapped), -EPROTO);

    int empty = extractor_payload_make("", 0);
    assert_int_equal(extractor_payload_map(empty, 0, &mapped), -EPROTO);
    close(empty);
}

static int open_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void
a_descriptor_comes_with_the_kinds_that_have_one_and_with_no_other(void **state)
{
    struct extractor_slotwire out;
    int pair[2], fd = -7;
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    int before = open_fds();
    for (int kind = EXTRACTOR_SLOT_HELLO; kind <= EXTRACTOR_SLOT_ERROR; kind++) {
        struct extractor_slotwire in = sample(kind);
        bool carries = kind == EXTRACTOR_SLOT_JOB || kind == EXTRACTOR_SLOT_DONE;

        assert_int_equal(extractor_slotwire_send(pair[0], &in, -1), 0);
        assert_int_equal(extractor_slotwire_recv(pair[1], &out, &fd),
                         carries ? -EPROTO : 0);
        assert_int_equal(extractor_slotwire_send(pair[0], &in, pair[0]), 0);
        assert_int_equal(extractor_slotwire_recv(pair[1], &out, &fd),
                         carries ? 0 : -EPROTO);
        if (carries) {
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
            close(fd);
        }
        assert_int_equal(open_fds(), before); /* the refused ones were closed */
    }
    assert_int_equal(extractor_slotwire_recv(pair[1], &out, &fd), -EAGAIN);
    close(pair[0]);
    assert_int_equal(extractor_slotwire_recv(pair[1], &out, &fd), -EPIPE);
    close(pair[1]);
}

static void of_two_descriptors_none_is_left_open(void **state)
{
    struct extractor_slotwire in = sample(EXTRACTOR_SLOT_DONE), out;
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec part = {bytes, extractor_slotwire_encode(&in, bytes)};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    int pair[2], fd = -7;
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(rights), pair, sizeof pair);
    int before = open_fds();
    assert_true(sendmsg(pair[0], &header, 0) > 0);
    assert_int_equal(extractor_slotwire_recv(pair[1], &out, &fd), -EPROTO);
    assert_int_equal(open_fds(), before);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_comes_back_as_it_was),
        cmocka_unit_test(no_packet_of_another_length_is_taken),
        cmocka_unit_test(garbage_is_refused_or_read_as_something_that_encodes_again),
        cmocka_unit_test(a_payload_is_what_was_put_in),
        cmocka_unit_test(what_could_change_or_is_no_memfd_is_no_payload),
        cmocka_unit_test(
            a_descriptor_comes_with_the_kinds_that_have_one_and_with_no_other),
        cmocka_unit_test(of_two_descriptors_none_is_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
