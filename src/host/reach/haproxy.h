/* SPDX-License-Identifier: Apache-2.0 */
/* haproxy — HAProxy's runtime API: a command to its socket, and what is read of the answer.
 * Each command is a connection of its own that ends with the answer, so that nothing is to be told apart.
 * Ownership: results are borrowed from the answer.  Thread: loop, haproxy_ask on a fiber.
 * Limits: HAPROXY_ANSWER_MAX bytes an answer, HAPROXY_LINE_MAX a line, HAPROXY_COLUMNS_MAX columns looked for, HAPROXY_OLD_MAX old workers.
 * Input trust: answers are a peer's bytes; they are judged, bounded and refused where they have not the form that is expected. */
#ifndef DAVIT_HOST_REACH_HAPROXY_H
#define DAVIT_HOST_REACH_HAPROXY_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "loop/loop.h"

enum { HAPROXY_ANSWER_MAX = 8 * 1024 * 1024, HAPROXY_LINE_MAX = 8 * 1024, HAPROXY_COLUMNS_MAX = 8, HAPROXY_OLD_MAX = 64 };

/* Waits: sends @command (one line) to @socket, "unix:/path", and appends the answer to @out. -ERR_UNAVAILABLE: nobody listens there;
 * -ERR_DEADLINE; -ERR_EXHAUSTED: the answer is longer than @out may be. */
int haproxy_ask(struct loop *loop, const char *socket, const char *command, struct buf *out, usec_t deadline, struct err *err) MUST_USE;

/* A table as HAProxy prints it: a line "# name name ..." and rows of as many cells, with @sep between. What stands before the head is passed over.
 * A cell in quotation marks is given without them, what is doubled within stays doubled. */
struct haproxy_table {
    struct str rest;
    char sep;
    size_t n_columns;
    unsigned at[HAPROXY_COLUMNS_MAX];
};
/* 0, or -ERR_INVALID: there is no head, or it lacks one of the @n columns. */
int haproxy_table_begin(struct haproxy_table *t, struct str answer, char sep, const char *const *columns, size_t n, struct err *err) MUST_USE;
/* 1: @cells (n of them, in the order that was asked for) are filled; 0: that was all; -ERR_INVALID: a row that is too short or too long. */
int haproxy_table_next(struct haproxy_table *t, struct str *cells, struct err *err) MUST_USE;

/* The value of "key: value" in the answer to `show info`. 0; 1: there is none. */
int haproxy_info(struct str answer, const char *key, struct str *ret);
/* Process ids of the workers that end, from the answer to `show proc`. 0, or -ERR_INVALID: more than HAPROXY_OLD_MAX, or no such answer. */
int haproxy_old_workers(struct str answer, uint32_t ret[HAPROXY_OLD_MAX], size_t *ret_n, struct err *err) MUST_USE;

/* A server, from `show servers state`. */
struct haproxy_server {
    struct str name, address;
    uint16_t port;
    unsigned weight;
    bool maintenance;
};
/* 1: *ret is filled; 0: that was all; -ERR_INVALID. @t from haproxy_servers_begin. */
int haproxy_servers_begin(struct haproxy_table *t, struct str answer, struct err *err) MUST_USE;
int haproxy_servers_next(struct haproxy_table *t, struct haproxy_server *ret, struct err *err) MUST_USE;

/* Connections and waiting requests of @server, from `show stat BACKEND 4 -1`. 0, also where there is no such server. */
int haproxy_load(struct str answer, const char *server, unsigned *ret, struct err *err) MUST_USE;

#endif
