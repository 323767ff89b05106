/* SPDX-License-Identifier: Apache-2.0 */
/* docker_log_reader — the bytes of a log answer (asked for with timestamps) made into entries: frames, stamps, lines, and the engine's parts of
 * 16 KiB put together again.  Limits: one line of DOCKER_LINE_MAX per stream in memory.  Not included outside of src/docker and tests. */
#ifndef DAVIT_DOCKER_LOG_READER_H
#define DAVIT_DOCKER_LOG_READER_H

#include "docker/docker.h"

enum { DOCKER_STAMP_MAX = 40, DOCKER_PART_SIZE = 16 * 1024 };

struct docker_log_line {
    struct buf text;
    uint64_t time_ns;
    bool open;
};
struct docker_log_reader {
    bool tty; /* one raw stream instead of frames */
    docker_log_fn *fn;
    void *arg;
    struct docker_demux demux;
    bool in_frame;
    struct docker_log_line lines[2];
    char stamp[DOCKER_STAMP_MAX];
    size_t n_stamp;
    bool want_stamp;
    size_t since_stamp; /* content bytes */
};

/* Embedded; ends with docker_log_reader_release. */
void docker_log_reader_init(struct docker_log_reader *r, bool tty, docker_log_fn *fn, void *arg);
/* 0, DOCKER_STOPPED, or negative. */
int docker_log_reader_feed(struct docker_log_reader *r, struct str bytes, struct err *err) MUST_USE;
/* The stream has ended: gives away what has no line end. */
int docker_log_reader_end(struct docker_log_reader *r, struct err *err) MUST_USE;
void docker_log_reader_release(struct docker_log_reader *r);

#endif
