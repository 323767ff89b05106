/* SPDX-License-Identifier: Apache-2.0 */
/* transcode — the JSON transcoder as a filter, to be compared with other implementations.
 * in:  'j' (JSON to wire) or 'w' (wire to JSON), u32 length (big-endian), message of davit.test.v1.Every
 * out: 0 or the failure's code, u32 length, what came out or the failure's text. */
#include <stdio.h>
#include <stdlib.h>

#include "every.davit.h"
#include "rpc/schema.h"

#define EVERY (&davit__test__v1__every__descriptor)

static uint32_t length(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int transcode(char kind, struct str in, struct buf *out, struct err *err)
{
    ProtobufCMessage *m = NULL;
    int rc = kind == 'j' ? rpc_from_json(EVERY, in, &m, err) : rpc_unpack(EVERY, in, &m, err);
    if (rc == 0)
        rc = kind == 'j' ? rpc_pack(m, out) : rpc_to_json(m, out, err);
    (void)rpc_message_free(m);
    return rc;
}

int main(void)
{
    static const ProtobufCMessageDescriptor *const types[] = {EVERY, &davit__test__v1__every__leaf__descriptor, NULL};
    uint8_t head[5];
    rpc_any_types(types);
    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t n = length(head + 1);
        char *in = malloc(n + 1);
        if (!in || fread(in, 1, n, stdin) != n) {
            free(in);
            return 1;
        }
        struct buf out = BUF_INIT(64 * 1024 * 1024);
        struct err err = ERR_INIT;
        int rc = transcode((char)head[0], (struct str){in, n}, &out, &err);
        struct str answer = rc < 0 ? str_from(err.msg) : buf_str(&out);
        uint8_t prefix[5] = {(uint8_t)-rc, (uint8_t)(answer.n >> 24), (uint8_t)(answer.n >> 16), (uint8_t)(answer.n >> 8),
                             (uint8_t)answer.n};
        (void)fwrite(prefix, 1, sizeof(prefix), stdout);
        (void)fwrite(answer.p, 1, answer.n, stdout);
        (void)fflush(stdout);
        buf_release(&out);
        free(in);
    }
    return 0;
}
