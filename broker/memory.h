/*
 * memory.h - how much memory this machine, or the group of processes that we are in, may
 * use: the default of memory_budget.
 */
#ifndef BROKER_MEMORY_H
#define BROKER_MEMORY_H

#include <stdint.h>

#define BROKER_MEMORY_PERCENT 60 /* of the limit: what jobs may need together */

/*
 * The least of the machine's memory and the limits of our cgroup (v2 or v1) and its
 * ancestors, in bytes; 0 where nothing could be read. `root` is "" on a real system,
 * and a folder with proc/ and sys/ in a test.
 */
uint64_t broker_memory_limit(const char *root);

#endif
