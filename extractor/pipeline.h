/*
 * pipeline.h - one picture's way through a slot: bytes -> grey -> denoised -> features.
 *
 * No socket, no clock of its own beyond CLOCK_MONOTONIC for the stage times, no global
 * state. One call uses one thread. Hostile bytes are expected.
 */
#ifndef EXTRACTOR_PIPELINE_H
#define EXTRACTOR_PIPELINE_H

#include "extractor/vision/control.h"
#include "proto/blob.h"
#include "proto/key.h"
#include "proto/params.h"
#include "proto/status.h"

#include <stddef.h>
#include <stdint.h>

struct extractor_job {
    enum proto_kind kind;
    const uint8_t *image; /* borrowed; the bytes a client sent */
    size_t image_bytes;   /* may end with a mask, proto/mask.h */
    uint8_t
        image_sha256[PROTO_DIGEST_BYTES]; /* of `image`, trusted, copied to the blob */
    uint8_t key[PROTO_DIGEST_BYTES];
    struct proto_params params;
    uint64_t pixels_max; /* refuse a larger picture from its header */
    uint64_t
        memory_max; /* bytes; refuse from the header what would need more; 0: no limit */
    unsigned cpu_off; /* bits of enum vision_cpu that are not to be used; 0: all may be */
};

struct extractor_result {
    uint8_t *bytes; /* malloc'd; the feature blob, or the PNG of PROTO_KIND_DENOISE */
    size_t size;
    uint32_t count, width_px, height_px;
    uint64_t decode_us, denoise_us, sift_us;
};

/* Why there is no result, ready for a problem document. */
struct extractor_error {
    enum proto_status status; /* undecodable, too many pixels, cancelled, internal... */
    char detail[200];         /* one sentence for a person */
    uint64_t limit, actual;   /* both 0 where the error is not about a limit */
};

/*
 * Bytes that a job of `kind` allocates at its peak for a picture of this size, without
 * the bytes of the file and of the result. An estimate from above, good to a few percent.
 */
uint64_t extractor_pipeline_memory_bytes(enum proto_kind kind,
                                         const struct proto_params *params,
                                         uint64_t width_px, uint64_t height_px,
                                         unsigned depth_bits);

/*
 * Run `job`. Returns 0 with `out` filled (release it with extractor_result_free), or
 * -1 with `error` filled. `control` may be NULL; cancel is honoured between stages,
 * between octaves and between rows.
 */
int extractor_pipeline_run(const struct extractor_job *job,
                           struct vision_control *control, struct extractor_result *out,
                           struct extractor_error *error);

/* Accepts zeroed and already freed. */
void extractor_result_free(struct extractor_result *result);

#endif
