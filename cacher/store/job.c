#include "cacher/store/job.h"

#include "proto/bytes.h"
#include "proto/text.h"

#include <stdlib.h>
#include <string.h>

struct store_row *cacher_store_row_new(struct store_job *job, size_t bytes)
{
    struct store_row *row = calloc(1, sizeof *row + bytes);

    if (row == NULL)
        return NULL;
    if (job->rows == NULL)
        job->rows_end = &job->rows;
    *job->rows_end = row;
    job->rows_end = &row->next;
    return row;
}

uint32_t cacher_store_sum(const struct cacher_record *record)
{
    uint8_t prefix[CACHER_RECORD_PREFIX_BYTES_MAX];

    (void)cacher_record_encode_prefix(record, prefix);
    return proto_get_u32(prefix + CACHER_RECORD_HEAD_BYTES - 4);
}

bool cacher_store_row_check(const struct cacher_record *record, uint64_t sum)
{
    return record->params_bytes <= CACHER_RECORD_PARAMS_BYTES &&
           record->tags_bytes <= PROTO_TAGS_BYTES_MAX &&
           cacher_store_sum(record) == sum &&
           proto_tags_check(record->tags, record->tags_bytes) == NULL;
}

uint64_t cacher_store_weight(const struct cacher_record *record)
{
    return cacher_record_bytes(record) + STORE_ROW_BYTES;
}

static unsigned nibble(char digit)
{
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)((digit | 32) - 'a' + 10);
}

void cacher_store_range(const struct cacher_filter *filter,
                        uint8_t low[PROTO_DIGEST_BYTES], uint8_t high[PROTO_DIGEST_BYTES])
{
    memset(low, 0, PROTO_DIGEST_BYTES);
    memset(high, 0xff, PROTO_DIGEST_BYTES);
    if (filter->kind == CACHER_FILTER_KEY) {
        memcpy(low, filter->key, PROTO_DIGEST_BYTES);
        memcpy(high, filter->key, PROTO_DIGEST_BYTES);
    }
    if (filter->kind != CACHER_FILTER_PREFIX)
        return;
    for (size_t i = 0; i < 2 * PROTO_DIGEST_BYTES && filter->prefix[i] != '\0'; i++) {
        unsigned shift = i % 2 == 0 ? 4 : 0, value = nibble(filter->prefix[i]) << shift;
        low[i / 2] |= (uint8_t)value;
        high[i / 2] = (uint8_t)((high[i / 2] & ~(0xfu << shift)) | value);
    }
}

void cacher_store_job_error(struct store_job *job, int err, const char *text)
{
    if (job->err != 0)
        return;
    job->err = err;
    cacher_store_error_copy(text, job->error);
}

void cacher_store_error_copy(const char *text, char out[STORE_ERROR_BYTES])
{
    snprintf(out, STORE_ERROR_BYTES, "%s", text);
    /* libpq ends its messages with a line's end, and may have several. */
    out[strcspn(out, "\r\n")] = '\0';
    proto_text_clean(out);
}

void cacher_store_job_drop_rows(struct store_job *job)
{
    while (job->rows != NULL) {
        struct store_row *row = job->rows;
        job->rows = row->next;
        free(row);
    }
    if (job->hold != NULL)
        job->unhold(job->hold);
    job->hold = NULL;
}

void cacher_store_job_free(struct store_job *job)
{
    if (job == NULL)
        return;
    cacher_store_job_drop_rows(job);
    free(job->touches);
    free(job);
}
