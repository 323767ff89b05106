/* SPDX-License-Identifier: Apache-2.0 */
/* opt — options of one program or verb as one table: parser, --help, man page, shell completion and dump all read it.
 * Order of origin: default, environment (DAVIT_<NAME>, upper case, '-' to '_'), command line. The later wins.
 * Thread: any.  Input trust: local user. */
#ifndef DAVIT_BASE_OPT_H
#define DAVIT_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum opt_type {
    OPT_BOOL,   /* bool;      --name / --no-name */
    OPT_STRING, /* const char *; borrowed from argv or environ */
    OPT_LIST,   /* struct opt_list; may be given again */
    OPT_INT,    /* int64_t within [min, max] */
    OPT_USEC,   /* usec_t; "30s" */
    OPT_BYTES,  /* uint64_t; "512m" */
    OPT_MILLI,  /* uint64_t in thousandths; "0.5" */
    OPT_ENUM    /* const char *, one of `choices` ("a|b|c") */
};

enum { OPT_LIST_MAX = 64 };

struct opt_list {
    const char *v[OPT_LIST_MAX];
    size_t n;
};

struct opt {
    const char *name;    /* long name without dashes; NULL ends the table */
    char letter;         /* short name or 0 */
    enum opt_type type;
    size_t offset;       /* of the field in the target struct */
    int64_t min, max;    /* OPT_INT, OPT_USEC (microseconds), OPT_BYTES, OPT_MILLI; both 0: no bounds */
    const char *choices; /* OPT_ENUM */
    const char *arg;     /* word for the value in help, e.g. "NAME" */
    const char *def;     /* default as text, or NULL */
    const char *help;    /* one line */
    bool env;            /* may come from the environment */
    const char *alias;   /* second long name, or NULL */
    bool operand;        /* stands for the first operand, see opt_parse_command */
};

/* Words for OPT_BOOL with a value ("--name=off", environment): true yes on 1, false no off 0. An empty variable counts as unset;
 * a list on the command line replaces the one of the environment. A default that does not parse is a bug. */

/* Parses argv[1..]; options and operands may be mixed; "--" ends options. Fills @target (zeroed and defaulted first) and stores
 * operands in @operands (borrowed from argv), at most *n_operands (more are an error), count written back.
 * 0; 1 when --help was asked (nothing printed yet); -ERR_INVALID with message and hint. */
int opt_parse(const struct opt *table, int argc, char **argv, void *target, const char **operands, size_t *n_operands,
              struct err *err) MUST_USE;

/* The same for a line that ends with a command of its own: operand number @command (from 1) is its first word, and what follows belongs to it,
 * whatever it looks like. An option that stands for the first operand, when given, makes it one less. @command 0: opt_parse. */
int opt_parse_command(const struct opt *table, int argc, char **argv, void *target, const char **operands, size_t *n_operands, size_t command,
                      struct err *err) MUST_USE;

/* Usage, description, options with defaults and bounds, example. */
void opt_help(FILE *out, const char *usage, const char *about, const struct opt *table, const char *example);
/* The same as a roff section body for the man page. */
void opt_man(FILE *out, const struct opt *table);

enum { OPT_ENV_MAX = 80, OPT_BOUNDS_MAX = 72 };

/* Name of the environment variable of @o into @dst; returns @dst. */
const char *opt_env_name(const struct opt *o, char dst[OPT_ENV_MAX]);
/* "1s..1h" in the units that the parser reads, or "" without bounds. */
void opt_bounds(const struct opt *o, char dst[OPT_BOUNDS_MAX]);

#endif
