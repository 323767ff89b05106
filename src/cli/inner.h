/* SPDX-License-Identifier: Apache-2.0 */
/* inner — paths inside containers as operands, "SERVICE:/path", and the calls of FileService that `cp` and `files` share.
 * Thread: one fiber.  Input trust: what a container or server says is hostile text and bytes. */
#ifndef DAVIT_CLI_INNER_H
#define DAVIT_CLI_INNER_H

#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/containers.davit.h"
#include "davit/control/v1/containers.pb-c.h"

/* Which container, as options; stands behind cli_common in a verb's options. */
struct inner_options {
    const char *project, *server, *container;
    int64_t replica;
};
#define INNER_OPTS(record, at)                                                                                                   \
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = offsetof(record, at.project), .def = "default",             \
     .arg = "NAME", .help = "project", .env = true},                                                                             \
        {.name = "replica", .type = OPT_INT, .offset = offsetof(record, at.replica), .min = 0, .max = 1000, .def = "0",          \
         .arg = "N", .help = "this replica of the service; 0: the first that runs"},                                             \
        {.name = "container", .type = OPT_STRING, .offset = offsetof(record, at.container), .arg = "NAME",                       \
         .help = "a container by name or id; then the path is written :/PATH"},                                                  \
    {                                                                                                                            \
        .name = "server", .type = OPT_STRING, .offset = offsetof(record, at.server), .arg = "NAME",                              \
        .help = "with --container: its server, where there are several"                                                          \
    }

struct inner {
    struct service_name name;
    Davit__Control__V1__ContainerRef ref; /* points into itself and into the options */
    const char *path;                     /* into the operand */
};

/* Is @operand a path in a container, SERVICE:/path, PROJECT/SERVICE:/path or :/path? Others are local; ./a:/b is. */
bool inner_is(const char *operand);
/* -ERR_INVALID with the right form. Borrows. */
int inner_parse(const char *operand, const struct inner_options *o, struct inner *ret, struct err *err) MUST_USE;

/* Waits. 0 with *ret (rpc_message_free); -ERR_NOT_FOUND. */
int inner_stat(struct cli *cli, const struct inner *in, const char *path, Davit__Control__V1__StatFileResponse **ret,
               struct err *err) MUST_USE;
/* Waits: all bytes to @put, which may fail. */
typedef int inner_put_fn(void *arg, struct str bytes, struct err *err);
int inner_read(struct cli *cli, const struct inner *in, const char *path, bool archive, inner_put_fn *put, void *arg,
               struct err *err) MUST_USE;

/* A stream of bytes to a container. */
struct inner_writer {
    struct rpc_stream *stream;
    uint64_t bytes;
    struct inner_progress *progress; /* may be NULL */
};
/* Waits. @start->target is set here. Ends with inner_write_end or inner_write_drop. */
int inner_write_begin(struct cli *cli, const struct inner *in, Davit__Control__V1__WriteFileStart *start,
                      struct inner_writer *ret, struct err *err) MUST_USE;
int inner_write(struct inner_writer *w, struct str bytes, struct err *err) MUST_USE;
/* All has been written: waits for the word that it is there. */
int inner_write_end(struct inner_writer *w, struct err *err) MUST_USE;
/* Nothing becomes of it. Harmless after the end. */
void inner_write_drop(struct inner_writer *w);

/* A line on the terminal for what takes longer than a moment. @total 0: not known. */
struct inner_progress {
    const struct cli *cli;
    uint64_t done, total;
    usec_t began, told;
    bool shown;
};
void inner_progress_begin(struct inner_progress *p, const struct cli *cli, uint64_t total);
void inner_progress_add(struct inner_progress *p, uint64_t bytes);
void inner_progress_end(struct inner_progress *p);

/* The last part of a path, without slashes behind it; "" for "/" and what ends in ".", which stand for what is in them. */
struct str inner_base(const char *path);
/* Both joined by one slash; the caller frees. */
char *inner_join(const char *folder, struct str name) MUST_USE;

#endif
