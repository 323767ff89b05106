/* SPDX-License-Identifier: Apache-2.0 */
/* out — what the user sees: tables, JSON documents, step lines, errors.
 * Text from servers, images and logs is made harmless before a terminal gets it: control characters become visible escapes.
 * Thread: loop. */
#ifndef DAVIT_CLI_OUT_H
#define DAVIT_CLI_OUT_H

#include "cli/cli.h"

enum { OUT_COLS_MAX = 12 };

/* A table that is collected and then printed with aligned columns. */
struct out_table {
    size_t n_cols;
    const char *heads[OUT_COLS_MAX];
    char **cells; /* n_rows * n_cols, owned */
    size_t n_rows, cap_rows;
};

/* @heads borrowed, static, ended by NULL. */
void out_table_init(struct out_table *t, const char *const *heads);
/* Takes one malloc'ed string per column (NULL prints "-"). */
void out_table_row(struct out_table *t, char **cells);
void out_table_print(const struct cli *cli, const struct out_table *t);
void out_table_release(struct out_table *t);

/* The message as one JSON line on stdout. */
int out_message(const ProtobufCMessage *message, struct err *err) MUST_USE;

/* Makes a copy that is safe on a terminal: valid UTF-8, no control characters (\n and \t too). The caller frees. */
char *out_clean(struct str s) MUST_USE;

/* "3m", "2d 4h"; "-" for 0. The caller frees. */
char *out_age(usec_t since_us) MUST_USE;
/* "12.4 MiB". */
char *out_bytes(uint64_t n) MUST_USE;
/* "2026-11-28 10:15:02" in UTC, or "-" for 0. */
char *out_time(usec_t real_us) MUST_USE;

enum out_color { OUT_PLAIN, OUT_GREEN, OUT_RED, OUT_YELLOW, OUT_DIM, OUT_BOLD };
/* The escape that starts a colour, or "" where there are none. out_color(cli, OUT_PLAIN) ends it. */
const char *out_color(const struct cli *cli, enum out_color c);

/* Tells a failure on stderr: text with hint, or one JSON object with code, message, hint. */
void out_error(const struct cli *cli, const struct err *err);
/* A line on stderr, only when it is not JSON that is wanted. */
void out_note(const struct cli *cli, const char *fmt, ...) PRINTF(2, 3);

#endif
