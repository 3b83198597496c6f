/*
 * status.h - how requests end, from the table statuses.tbl.
 */
#ifndef PROTO_STATUS_H
#define PROTO_STATUS_H

#include <stdbool.h>

enum proto_status {
#define STATUS(name, number, http, code, title) PROTO_STATUS_##name = number,
#include "proto/statuses.tbl"
    PROTO_STATUS_COUNT
};

/* Text for any value; "unknown" for one outside the table. Never NULL, static. */
const char *proto_status_code(unsigned status);
const char *proto_status_title(unsigned status);

/* Whether the number is in the table. */
bool proto_status_is_known(unsigned status);

/* Whether the status says what is wrong with the bytes that were sent, whoever sends them
 * and whenever: what a cache may remember. */
bool proto_status_is_of_input(unsigned status);

/* HTTP status code (RFC 9110); 500 for a value outside the table. */
int proto_status_http(unsigned status);

#endif
