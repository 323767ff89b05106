/* SPDX-License-Identifier: Apache-2.0 */
/* logfile — where the lines of a log go instead of stderr: a file that is put aside when it is full (PATH.1 is the newest of those), and of which
 * only so many and none too old are kept. Made 0600, never through a link; what is there already is continued.
 * A line that cannot be written (a full disk) is lost, and counted; nothing waits and nothing ends. Half a line is taken back. A file that somebody
 * took away or put another in its place of is opened anew within a second, so a foreign rotation does no harm.
 * Thread: any, a lock inside.  Limits: (backups + 1) times max_bytes on disk; where nothing can be put aside the file begins anew at its limit.
 * Logs nothing itself. */
#ifndef DAVIT_BASE_LOGFILE_H
#define DAVIT_BASE_LOGFILE_H

#include <stdint.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/err.h"

enum { LOGFILE_BACKUPS_MAX = 100 };

struct logfile_conf {
    const char *path;    /* copied; its directory is there */
    uint64_t max_bytes;  /* at least a line */
    usec_t max_age;      /* of what was put aside; 0: none is too old */
    unsigned max_backups;
};

struct logfile;

/* As options of a program. */
struct logfile_options {
    const char *path;
    uint64_t size;
    usec_t age;
    int64_t backups;
};
#define LOGFILE_OPTS(record, member)                                                                                                       \
    {.name = "log-file", .type = OPT_STRING, .offset = offsetof(record, member.path), .arg = "PATH", .env = true,                          \
     .help = "where log lines go (stderr, which then has crashes, errors and what is said aloud)"},                                     \
        {.name = "log-max-size", .type = OPT_BYTES, .offset = offsetof(record, member.size), .min = 65536, .max = 1099511627776,           \
         .arg = "SIZE", .def = "50m", .help = "at this size the file is put aside"},                                                    \
        {.name = "log-max-age", .type = OPT_USEC, .offset = offsetof(record, member.age), .max = 315360000000000, .arg = "TIME",           \
         .def = "7d", .help = "how long one that was put aside is kept; 0s: however old"},                                              \
        {.name = "log-max-backups", .type = OPT_INT, .offset = offsetof(record, member.backups), .max = LOGFILE_BACKUPS_MAX, .arg = "N",   \
         .def = "3", .help = "how many of those are kept"}

/* Blocks. 0, or negative when it cannot be written to now. */
int logfile_open(const struct logfile_conf *conf, struct logfile **ret, struct err *err) MUST_USE;
/* Adds @line, which ends in a newline. 0, or -1: it is lost. */
int logfile_put(struct logfile *f, const char *line, size_t n) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct logfile *logfile_close(struct logfile *f);

#endif
