/* SPDX-License-Identifier: Apache-2.0 */
/* ProtoJSON from outside: what is accepted must come out, and go in again, as the same text. The first byte chooses the type. */
#include <stdint.h>

#include "base/mem.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/link/v1/link.davit.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *types[] = {&davit__control__v1__deploy_request__descriptor,
                                                 &davit__control__v1__list_servers_response__descriptor,
                                                 &davit__link__v1__agent_message__descriptor,
                                                 &google__protobuf__value__descriptor,
                                                 &google__protobuf__any__descriptor,
                                                 &google__protobuf__struct__descriptor,
                                                 &google__protobuf__timestamp__descriptor,
                                                 &google__protobuf__duration__descriptor,
                                                 &google__protobuf__field_mask__descriptor,
                                                 &google__protobuf__double_value__descriptor};
    if (size == 0)
        return 0;
    const ProtobufCMessageDescriptor *type = types[data[0] % ARRAY_LEN(types)];
    ProtobufCMessage *m = NULL, *again = NULL;
    if (rpc_from_json(type, (struct str){(const char *)data + 1, size - 1}, &m, NULL) < 0)
        return 0;
    struct buf a = BUF_INIT(64 * 1024 * 1024), b = BUF_INIT(64 * 1024 * 1024);
    BUG_ON(rpc_to_json(m, &a, NULL) < 0);
    if (a.len <= RPC_MESSAGE_MAX && rpc_from_json(type, buf_str(&a), &again, NULL) == 0)
        BUG_ON(rpc_to_json(again, &b, NULL) < 0 || !str_eq(buf_str(&a), buf_str(&b)));
    else
        BUG_ON(a.len < RPC_MESSAGE_MAX / 4); /* a small message that does not read itself */
    buf_release(&a);
    buf_release(&b);
    (void)rpc_message_free(m);
    (void)rpc_message_free(again);
    return 0;
}
