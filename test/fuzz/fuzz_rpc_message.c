/* SPDX-License-Identifier: Apache-2.0 */
/* The guard and protobuf-c behind it, and the reassembly of messages: what an agent or a stranger with a join token may send.
 * The first byte chooses the type; what is accepted must survive packing, copying and JSON. */
#include <stdint.h>

#include "base/mem.h"
#include "davit/link/v1/link.davit.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "rpc/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_frames(struct str bytes)
{
    struct frames f;
    struct str m;
    size_t cut = bytes.n / 3;
    frames_init(&f);
    if (frames_add(&f, (struct str){bytes.p, cut}, NULL) == 0 &&
        frames_add(&f, (struct str){bytes.p + cut, bytes.n - cut}, NULL) == 0)
        while (frames_take(&f, &m, NULL) > 0)
            (void)frames_settle(&f);
    frames_release(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *types[] = {&davit__link__v1__enroll_request__descriptor,
                                                 &davit__link__v1__agent_message__descriptor,
                                                 &davit__link__v1__control_message__descriptor,
                                                 &google__protobuf__value__descriptor, &google__protobuf__any__descriptor};
    if (size == 0)
        return 0;
    struct str bytes = {(const char *)data + 1, size - 1};
    run_frames(bytes);
    ProtobufCMessage *m = NULL, *again = NULL;
    if (rpc_unpack(types[data[0] % ARRAY_LEN(types)], bytes, &m, NULL) < 0)
        return 0;
    BUG_ON(rpc_copy(m, &again) < 0);
    struct buf a = BUF_INIT(64 * 1024 * 1024), b = BUF_INIT(64 * 1024 * 1024), json = BUF_INIT(64 * 1024 * 1024);
    BUG_ON(rpc_pack(m, &a) < 0 || rpc_pack(again, &b) < 0 || !str_eq(buf_str(&a), buf_str(&b)));
    (void)!rpc_to_json(m, &json, NULL);
    buf_release(&a);
    buf_release(&b);
    buf_release(&json);
    (void)rpc_message_free(m);
    (void)rpc_message_free(again);
    return 0;
}
