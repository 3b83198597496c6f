#include "extractor/slotwire.h"

#include "proto/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/* As large as the kernel wants it for JOB, and no larger: it drops what is more. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(EXTRACTOR_FDS * sizeof(int))];
};
#define CONTROL_BYTES CMSG_LEN(EXTRACTOR_FDS * sizeof(int))

int extractor_slotwire_send(int sock, const struct extractor_slotwire *message,
                            const int fds[EXTRACTOR_FDS])
{
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    union control control = {0};
    struct iovec part = {bytes, extractor_slotwire_encode(message, bytes)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (fds != NULL) {
        header.msg_control = control.bytes;
        header.msg_controllen = CONTROL_BYTES;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CONTROL_BYTES;
        memcpy(CMSG_DATA(rights), fds, EXTRACTOR_FDS * sizeof fds[0]);
    }

    ssize_t sent;
    do
        sent = sendmsg(sock, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* The descriptors that came, -1 for each that did not. Returns how many came. */
static size_t take_fds(struct msghdr *header, int fds[EXTRACTOR_FDS])
{
    struct cmsghdr *rights = CMSG_FIRSTHDR(header);
    size_t count = 0;

    for (size_t i = 0; i < EXTRACTOR_FDS; i++)
        fds[i] = -1;
    if (rights != NULL && rights->cmsg_level == SOL_SOCKET &&
        rights->cmsg_type == SCM_RIGHTS && rights->cmsg_len >= CMSG_LEN(0) &&
        rights->cmsg_len <= CONTROL_BYTES) {
        count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof fds[0];
        memcpy(fds, CMSG_DATA(rights), count * sizeof fds[0]);
    }
    return count;
}

static void close_fds(int fds[EXTRACTOR_FDS])
{
    for (size_t i = 0; i < EXTRACTOR_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

int extractor_slotwire_recv(int sock, struct extractor_slotwire *out,
                            int fds[EXTRACTOR_FDS])
{
    uint8_t bytes[EXTRACTOR_SLOTWIRE_BYTES_MAX];
    union control control;
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = fds != NULL ? control.bytes : NULL,
                            .msg_controllen = fds != NULL ? CONTROL_BYTES : 0};
    ssize_t size;

    do
        size = recvmsg(sock, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;

    size_t received = fds != NULL ? take_fds(&header, fds) : 0;
    int err = size == 0 ? -EPIPE : extractor_slotwire_decode(bytes, (size_t)size, out);
    if (err == 0) { /* else there is no kind */
        bool takes = fds != NULL && out->kind == EXTRACTOR_SLOT_JOB;
        bool cut = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
        err = !cut && received == (takes ? EXTRACTOR_FDS : 0) ? 0 : -EPROTO;
    }
    if (err < 0 && fds != NULL)
        close_fds(fds);
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

int extractor_payload_room(uint64_t size)
{
    int fd = memfd_create("siftmesh-result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;

    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int extractor_payload_fill(int fd, const void *bytes, size_t size)
{
    return write_all(fd, bytes, size);
}

int extractor_payload_seal(int fd, uint64_t size)
{
    struct stat now;

    if (size > EXTRACTOR_PAYLOAD_BYTES_MAX || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 || fstat(fd, &now) < 0)
        return -EPROTO;
    /* The slot had it open until the seals: it may have cut it once more. */
    return (uint64_t)now.st_size == size ? 0 : -EPROTO;
}

void extractor_payload_empty(int fd)
{
    if (ftruncate(fd, 0) < 0)
        return; /* sealed already: it is a result on its way */
}

int extractor_payload_map(int fd, uint64_t size, void **out)
{
    if (size == 0 || size > EXTRACTOR_PAYLOAD_BYTES_MAX)
        return -EPROTO;

    /* Not populated: that would be the loop's time for all of it at once. */
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *out = bytes;
    return 0;
}
