/*
 * store.h - the durable store: results that outlive restarts, in one of two homes.
 *
 *   sqlite:///absolute/path.db      one file (WAL), worked on by one thread of its own
 *   postgres://user:pw@host/db      any URL of libpq's, one host; non-blocking
 *
 * Both are a cacher_tier (cacher/tier/tier.h), with one core (core.h) that owns the
 * queues, batches, retries, breakers and retention, and two homes that only know SQL.
 *
 * Acknowledged is what is committed: counters.puts counts nothing else. Until then a
 * result waits in a queue, bounded in records and bytes, and is tried again for as long
 * as it takes; beyond the bound results are refused (puts_lost). Such a result survives
 * the death of any process at any time, kill -9 included, and every restart of
 * PostgreSQL. A power cut is another thing: PostgreSQL keeps it (unless its own
 * synchronous_commit is off). SQLite keeps it with store_sqlite_full_sync; without, the
 * last transactions may be missing after a power cut, but the file is never damaged.
 * That is the default, as gets wait on the same thread: they would wait for the disk with
 * every transaction, to save what can be computed again.
 *
 * Several cachers may share a store. Retention runs in one of them, which holds a lock: a
 * session's advisory lock, or one on the file PATH.lock. It goes by itself to another
 * when the holder dies.
 */
#ifndef CACHER_STORE_STORE_H
#define CACHER_STORE_STORE_H

#include "cacher/tier/tier.h"

#include <uv.h>

/* As in options.tbl. From the options of a service that includes that file:
 *
 *     struct cacher_store_options store = {
 *     #define INT(field, ...)  .field = options->field,
 *     #define STR(field, ...)
 *     #define FLAG(field, ...) .field = options->field,
 *     #include "cacher/store/options.tbl"
 *     #include "runtime/options_end.h"
 *     };
 */
struct cacher_store_options {
#include "runtime/options_struct.h"

#include "cacher/store/options.tbl"

#include "runtime/options_end.h"
};

/* The defaults of options.tbl. */
void cacher_store_options_init(struct cacher_store_options *options);

/* Copies what it needs. 0; -EINVAL: a URL that is neither (said in the log); -ENOMEM. The
 * store itself is opened behind: the first round of retention says in the log, once, and
 * describe() says, when it cannot be: no server, wrong credentials, no folder, a disk
 * that is read-only, a file that is damaged or another program's, a schema newer than
 * ours. Then both breakers are open, and it is tried again until it can. */
int cacher_store_open(uv_loop_t *loop, const char *url,
                      const struct cacher_store_options *options,
                      struct cacher_tier **out);

#endif
