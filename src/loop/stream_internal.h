/* SPDX-License-Identifier: Apache-2.0 */
/* stream_internal — a stream before it is connected, for dial.c and listener.c. Not included outside of src/loop. */
#ifndef DAVIT_LOOP_STREAM_INTERNAL_H
#define DAVIT_LOOP_STREAM_INTERNAL_H

#include "loop/addr.h"
#include "loop/loop_internal.h"
#include "loop/stream.h"

union stream_handle {
    uv_handle_t any;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

/* An unconnected stream; ends with stream_close. */
struct stream *stream_new(struct loop *loop, bool is_unix) MUST_USE;
union stream_handle *stream_handle(struct stream *s);
/* After connecting: sets socket options, remembers both addresses. */
void stream_connected(struct stream *s);
/* TCP_NODELAY and keep-alive 30/10/3. */
void stream_tune_tcp(int fd);

#endif
