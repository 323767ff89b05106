/* SPDX-License-Identifier: Apache-2.0 */
/* admin_rpc — AdminService, on 7443 only. */
#include "control/control_internal.h"
#include "davit/admin/v1/admin.davit.h"

static int get_system_time(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Admin__V1__GetSystemTimeResponse m = DAVIT__ADMIN__V1__GET_SYSTEM_TIME_RESPONSE__INIT;
    (void)ctx;
    (void)request;
    m.unix_nanos = (int64_t)clock_real() * 1000;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

CONTROL_HANDLER(get_system_time)

const struct rpc_handler admin_handlers[] = {{.run = get_system_time_tracked}};
