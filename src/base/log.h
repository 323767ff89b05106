/* SPDX-License-Identifier: Apache-2.0 */
/* log — one line per event on stderr: logfmt (default) or JSON, with journald priority prefixes where stderr is the journal. With a file
 * (logfile.h) it has all lines, and stderr a copy of what its reader must not miss: errors, and what is said aloud, LOG_ALOUD_MAX lines an hour.
 * Only the edge of a program logs errors (see err.h); libraries log at debug.
 * Thread: any; one write(2) per line.  Limits: a line is cut at 4 KiB; values are escaped, so hostile text cannot forge a line.
 * Secrets: struct secret (base/secret.h) has no way in here. */
#ifndef DAVIT_BASE_LOG_H
#define DAVIT_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

enum { LOG_ALOUD_MAX = 1000 };
struct logfile;
struct logfile_options;

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTICE, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Sets threshold, shape and the program name that starts each line (borrowed, static). Before it: info, text. */
void log_setup(const char *program, enum log_level threshold, enum log_format format);
/* Lines go to @file from now on (borrowed; NULL: to stderr again). Before other threads log. */
void log_to_file(struct logfile *file);
/* Blocks: the same to the end of the process, with the file that the options of a program name. One that cannot be opened is no reason not to start:
 * the log stays on stderr, and says so. Without a path: nothing. */
void log_use_options(const struct logfile_options *o);
/* Lines that no file took so far. The next one that it takes is followed by one that says how many are missing. */
uint64_t log_lost(void);
/* "error" .. "debug". 0 or -ERR_INVALID. */
int log_level_from_name(const char *name, enum log_level *ret) MUST_USE;
bool log_enabled(enum log_level level);

/* log_event(LOG_INFO, "agent connected", "server", id, "peer", addr, NULL): message, then key/value pairs of C strings
 * (a NULL value prints as "-"), ended by a NULL key. */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* The same, and on stderr too where there is a file. */
void log_aloud(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* The one way to log a failure: message, then code, text, hint and origin of @err, then the pairs. */
void log_err(enum log_level level, const struct err *err, const char *message, ...) __attribute__((sentinel));
/* printf form for what has no fields. */
void log_printf(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_debug(...) do { if (log_enabled(LOG_DEBUG)) log_printf(LOG_DEBUG, __VA_ARGS__); } while (0)

#endif
