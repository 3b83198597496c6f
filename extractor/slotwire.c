#include "extractor/slotwire.h"

#include "proto/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC 0x31544c53u /* "SLT1" */

enum {
    JOB_BYTES = 112 + PROTO_PARAMS_BYTES,
    HELLO_BYTES = 24,
    STARTED_BYTES = EXTRACTOR_SLOTWIRE_HEADER_BYTES,
    DONE_BYTES = 64,
    ERROR_BYTES = 40, /* and the detail */
    DETAIL_BYTES_MAX = sizeof((struct extractor_error *)NULL)->detail - 1
};

_Static_assert(JOB_BYTES <= EXTRACTOR_SLOTWIRE_BYTES_MAX &&
                   ERROR_BYTES + DETAIL_BYTES_MAX <= EXTRACTOR_SLOTWIRE_BYTES_MAX,
               "a packet fits its buffer");

/* What stops the other side from changing or cutting a payload that we have checked. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static size_t encode_job(const struct extractor_job *job, uint8_t *out)
{
    proto_put_u32(out + 16, job->kind);
    proto_put_u32(out + 20, 0);
    proto_put_u64(out + 24, job->image_bytes);
    proto_put_u64(out + 32, job->pixels_max);
    proto_put_u64(out + 40, job->memory_max);
    memcpy(out + 48, job->image_sha256, PROTO_DIGEST_BYTES);
    memcpy(out + 80, job->key, PROTO_DIGEST_BYTES);
    proto_params_encode(&job->params, out + 112);
    return JOB_BYTES;
}

static size_t encode_done(const struct extractor_result *result, uint8_t *out)
{
    proto_put_u64(out + 16, result->size);
    proto_put_u32(out + 24, result->count);
    proto_put_u32(out + 28, result->width_px);
    proto_put_u32(out + 32, result->height_px);
    proto_put_u32(out + 36, 0);
    proto_put_u64(out + 40, result->decode_us);
    proto_put_u64(out + 48, result->denoise_us);
    proto_put_u64(out + 56, result->sift_us);
    return DONE_BYTES;
}

static size_t encode_error(const struct extractor_error *error, uint8_t *out)
{
    size_t length = strnlen(error->detail, DETAIL_BYTES_MAX);

    proto_put_u32(out + 16, error->status);
    proto_put_u32(out + 20, (uint32_t)length);
    proto_put_u64(out + 24, error->limit);
    proto_put_u64(out + 32, error->actual);
    memcpy(out + 40, error->detail, length);
    return ERROR_BYTES + length;
}

static size_t encode_rest(const struct extractor_slotwire *message, uint8_t *out)
{
    switch (message->kind) {
    case EXTRACTOR_SLOT_HELLO:
        proto_put_u32(out + 16, message->pid);
        proto_put_u32(out + 20, message->filter_errno);
        return HELLO_BYTES;
    case EXTRACTOR_SLOT_JOB:
        return encode_job(&message->job, out);
    case EXTRACTOR_SLOT_DONE:
        return encode_done(&message->result, out);
    case EXTRACTOR_SLOT_ERROR:
        return encode_error(&message->error, out);
    case EXTRACTOR_SLOT_STARTED:
        break;
    }
    return STARTED_BYTES;
}

size_t extractor_slotwire_encode(const struct extractor_slotwire *message,
                                 uint8_t out[EXTRACTOR_SLOTWIRE_BYTES_MAX])
{
    size_t size = encode_rest(message, out);

    proto_put_u32(out, MAGIC);
    proto_put_u16(out + 4, (uint16_t)message->kind);
    proto_put_u16(out + 6, (uint16_t)size);
    proto_put_u64(out + 8, message->serial);
    return size;
}

static int decode_job(const uint8_t *bytes, size_t size, struct extractor_job *out)
{
    if (size != JOB_BYTES)
        return -EPROTO;

    uint32_t kind = proto_get_u32(bytes + 16);
    if (kind != PROTO_KIND_FEATURES && kind != PROTO_KIND_DENOISE)
        return -EPROTO;
    out->kind = (enum proto_kind)kind;
    out->image_bytes = proto_get_u64(bytes + 24);
    out->pixels_max = proto_get_u64(bytes + 32);
    out->memory_max = proto_get_u64(bytes + 40);
    memcpy(out->image_sha256, bytes + 48, PROTO_DIGEST_BYTES);
    memcpy(out->key, bytes + 80, PROTO_DIGEST_BYTES);
    return proto_params_decode(bytes + 112, PROTO_PARAMS_BYTES, &out->params);
}

static int decode_done(const uint8_t *bytes, size_t size, struct extractor_result *out)
{
    if (size != DONE_BYTES)
        return -EPROTO;

    out->size = proto_get_u64(bytes + 16);
    out->count = proto_get_u32(bytes + 24);
    out->width_px = proto_get_u32(bytes + 28);
    out->height_px = proto_get_u32(bytes + 32);
    out->decode_us = proto_get_u64(bytes + 40);
    out->denoise_us = proto_get_u64(bytes + 48);
    out->sift_us = proto_get_u64(bytes + 56);
    return 0;
}

static int decode_error(const uint8_t *bytes, size_t size, struct extractor_error *out)
{
    if (size < ERROR_BYTES)
        return -EPROTO;

    uint32_t status = proto_get_u32(bytes + 16), length = proto_get_u32(bytes + 20);
    if (length > DETAIL_BYTES_MAX || size != ERROR_BYTES + length)
        return -EPROTO;
    if (!proto_status_is_known(status) || status == PROTO_STATUS_OK)
        return -EPROTO;
    out->status = (enum proto_status)status;
    out->limit = proto_get_u64(bytes + 24);
    out->actual = proto_get_u64(bytes + 32);
    memcpy(out->detail, bytes + 40, length);
    return 0;
}

static int decode_rest(const uint8_t *bytes, size_t size, struct extractor_slotwire *out)
{
    switch (out->kind) {
    case EXTRACTOR_SLOT_HELLO:
        if (size != HELLO_BYTES)
            return -EPROTO;
        out->pid = proto_get_u32(bytes + 16);
        out->filter_errno = proto_get_u32(bytes + 20);
        return 0;
    case EXTRACTOR_SLOT_JOB:
        return decode_job(bytes, size, &out->job);
    case EXTRACTOR_SLOT_STARTED:
        return size == STARTED_BYTES ? 0 : -EPROTO;
    case EXTRACTOR_SLOT_DONE:
        return decode_done(bytes, size, &out->result);
    case EXTRACTOR_SLOT_ERROR:
        return decode_error(bytes, size, &out->error);
    }
    return -EPROTO;
}

int extractor_slotwire_decode(const void *data, size_t size,
                              struct extractor_slotwire *out)
{
    const uint8_t *bytes = data;
    struct extractor_slotwire message = {0};

    if (size < EXTRACTOR_SLOTWIRE_HEADER_BYTES || proto_get_u32(bytes) != MAGIC ||
        proto_get_u16(bytes + 6) != size)
        return -EPROTO;

    message.kind = (enum extractor_slotwire_kind)proto_get_u16(bytes + 4);
    message.serial = proto_get_u64(bytes + 8);
    if (decode_rest(bytes, size, &message) < 0)
        return -EPROTO;
    *out = message;
    return 0;
}

int extractor_slotwire_send(int sock, const struct extractor_slotwire *message, int fd)
{
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {bytes, extractor_slotwire_encode(message, bytes)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_LEN(sizeof fd);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }

    ssize_t sent;
    do
        sent = sendmsg(sock, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

static int fd_of(struct msghdr *header)
{
    int fd = -1;
    struct cmsghdr *rights = CMSG_FIRSTHDR(header);

    if (rights != NULL && rights->cmsg_level == SOL_SOCKET &&
        rights->cmsg_type == SCM_RIGHTS && rights->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    return fd;
}

static bool carries_fd(enum extractor_slotwire_kind kind)
{
    return kind == EXTRACTOR_SLOT_JOB || kind == EXTRACTOR_SLOT_DONE;
}

int extractor_slotwire_recv(int sock, struct extractor_slotwire *out, int *fd)
{
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {bytes, sizeof bytes};
    /* Room for one fd exactly (CMSG_SPACE would take two): the kernel drops the others.
     */
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t size;

    do
        size = recvmsg(sock, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;

    int received = fd_of(&header);
    int err = size == 0 ? -EPIPE : extractor_slotwire_decode(bytes, (size_t)size, out);
    if (err == 0 && ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
                     carries_fd(out->kind) != (received >= 0)))
        err = -EPROTO;
    if (err < 0 && received >= 0)
        close(received);
    if (err == 0)
        *fd = received;
    return err;
}

static int write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

int extractor_payload_make(const void *bytes, size_t size)
{
    int fd = memfd_create("siftmesh", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;

    int err = write_all(fd, bytes, size);
    if (err == 0 && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
        err = -errno;
    if (err < 0) {
        close(fd);
        return err;
    }
    return fd;
}

int extractor_payload_map(int fd, size_t size, void **out)
{
    int seals = fcntl(fd, F_GET_SEALS); /* fails on anything but a memfd */

    if (seals < 0 || (seals & SEALS) != SEALS)
        return -EPROTO;
    /* Not by fstat: glibc makes it newfstatat, which would let a slot ask for paths. */
    off_t end = lseek(fd, 0, SEEK_END);
    if (size == 0 || size > EXTRACTOR_PAYLOAD_BYTES_MAX || end < 0 ||
        (uint64_t)end != size)
        return -EPROTO;

    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *out = bytes;
    return 0;
}
