/* SPDX-License-Identifier: Apache-2.0 */
/* docker_demux — frames of the engine's multiplexed streams. */
#include "docker/docker.h"

int docker_demux_next(struct docker_demux *m, struct str *bytes, int *ret_stream, struct str *ret_piece, bool *ret_end,
                      struct err *err)
{
    while (m->n_head < sizeof(m->head)) {
        if (bytes->n == 0)
            return 0;
        m->head[m->n_head++] = (uint8_t)*bytes->p;
        bytes->p++;
        bytes->n--;
        if (m->n_head < sizeof(m->head))
            continue;
        /* 0 stdin (never sent to us), 1, 2, and 3 for the engine's own errors; the padding is zero. */
        if (m->head[0] > 3 || m->head[1] || m->head[2] || m->head[3])
            return err_set(err, ERR_INVALID, "the engine's stream is not in frames");
        m->left = (uint32_t)m->head[4] << 24 | (uint32_t)m->head[5] << 16 | (uint32_t)m->head[6] << 8 | m->head[7];
    }
    if (bytes->n == 0 && m->left)
        return 0;
    size_t n = bytes->n < m->left ? bytes->n : m->left;
    *ret_stream = m->head[0];
    *ret_piece = (struct str){bytes->p, n};
    bytes->p += n;
    bytes->n -= n;
    m->left -= (uint32_t)n;
    *ret_end = m->left == 0;
    if (m->left == 0)
        m->n_head = 0;
    return 1;
}
