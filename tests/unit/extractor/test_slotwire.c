#include "extractor/slotwire.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
    assert_int_equal(extractor_payload_map(fd, 0, &mapped), -EPROTO);
    assert_int_equal(extractor_payload_map(fd, EXTRACTOR_PAYLOAD_BYTES_MAX + 1, &mapped),
                     -EPROTO);
    close(fd);
}

static void a_room_takes_its_size_and_not_a_byte_more(void **state)
{
    static uint8_t bytes[10000];
    struct stat now;
    int fd = extractor_payload_room(sizeof bytes - 1);
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &now), 0);
    assert_int_equal(now.st_blocks, 0); /* no memory before it is used */
    assert_int_equal(extractor_payload_fill(fd, bytes, sizeof bytes), -EPERM);
    assert_int_equal(ftruncate(fd, sizeof bytes), -1);
    assert_int_equal(extractor_payload_seal(fd, sizeof bytes), -EPROTO);
    extractor_payload_empty(fd);
    assert_int_equal(fstat(fd, &now), 0);
    assert_int_equal(now.st_size, 0);
    assert_int_equal(now.st_blocks, 0);
    close(fd);
}

static void a_sealed_room_is_what_was_written(void **state)
{
    static const uint8_t bytes[5000] = {1, 2, 3};
    void *mapped;
    int fd = extractor_payload_room(1 << 20);
    (void)state;

    assert_int_equal(extractor_payload_fill(fd, bytes, sizeof bytes), 0);
    assert_int_equal(extractor_payload_seal(fd, sizeof bytes), 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 1), -1);
    assert_int_equal(extractor_payload_map(fd, sizeof bytes, &mapped), 0);
    assert_memory_equal(mapped, bytes, sizeof bytes);
    munmap(mapped, sizeof bytes);
    close(fd);
}

static void what_a_slot_could_still_change_or_is_no_room_is_not_sealed(void **state)
{
    int fd = extractor_payload_room(8192), pipes[2];
    void *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)state;

    assert_true(own != MAP_FAILED);
    assert_int_equal(extractor_payload_seal(fd, 4096), -EPROTO);
    munmap(own, 4096);
    close(fd);
    fd = extractor_payload_room(8192); /* cut by its slot before the supervisor cuts it */
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_int_equal(extractor_payload_seal(fd, 4096), -EPROTO);
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(extractor_payload_seal(pipes[0], 4096), -EPROTO);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(extractor_payload_seal(-1, 4096), -EPROTO);
}

static int open_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Send `in` with the first `count` of `fds`. */
static void send_with(int sock, const struct extractor_slotwire *in, const int *fds,
                      size_t count)
{
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec part = {bytes, extractor_slotwire_encode(in, bytes)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    }
    assert_true(sendmsg(sock, &header, 0) > 0);
}

static void a_slot_takes_two_descriptors_with_a_job_and_none_else(void **state)
{
    struct extractor_slotwire out;
    int pair[2], fds[EXTRACTOR_FDS];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    const int four[] = {pair[0], pair[1], pair[0], pair[1]};
    int before = open_fds();
    for (int kind = EXTRACTOR_SLOT_HELLO; kind <= EXTRACTOR_SLOT_ERROR; kind++)
        for (size_t count = 0; count <= 4; count++) {
            struct extractor_slotwire in = sample(kind);
            bool right = count == (kind == EXTRACTOR_SLOT_JOB ? EXTRACTOR_FDS : 0);

            send_with(pair[0], &in, four, count);
            assert_int_equal(extractor_slotwire_recv(pair[1], &out, fds),
                             right ? 0 : -EPROTO);
            for (size_t i = 0; i < EXTRACTOR_FDS; i++) {
                assert_int_equal(fds[i] >= 0, right && count > 0);
                if (fds[i] >= 0) {
                    assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
                    close(fds[i]);
                }
            }
            assert_int_equal(open_fds(), before); /* the refused ones were closed */
        }
    assert_int_equal(extractor_slotwire_recv(pair[1], &out, fds), -EAGAIN);
    close(pair[0]);
    assert_int_equal(extractor_slotwire_recv(pair[1], &out, fds), -EPIPE);
    close(pair[1]);
}

static void the_supervisor_is_given_no_descriptor(void **state)
{
    struct extractor_slotwire out;
    int pair[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    int before = open_fds();
    for (size_t count = 0; count <= 2; count++) {
        struct extractor_slotwire in = sample(EXTRACTOR_SLOT_DONE);
        send_with(pair[0], &in, pair, count);
        assert_int_equal(extractor_slotwire_recv(pair[1], &out, NULL),
                         count == 0 ? 0 : -EPROTO);
        assert_int_equal(open_fds(), before);
    }
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
        cmocka_unit_test(a_room_takes_its_size_and_not_a_byte_more),
        cmocka_unit_test(a_sealed_room_is_what_was_written),
        cmocka_unit_test(what_a_slot_could_still_change_or_is_no_room_is_not_sealed),
        cmocka_unit_test(a_slot_takes_two_descriptors_with_a_job_and_none_else),
        cmocka_unit_test(the_supervisor_is_given_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
