/* SPDX-License-Identifier: Apache-2.0 */
/* clock_gate — see clock_gate.h. */
#include "cli/clock_gate.h"

#include "cli/out.h"
#include "davit/admin/v1/admin.davit.h"

static const usec_t CALL_TIMEOUT = 10 * USEC_SEC;

/* How far its clock is behind ours, 0: it is not. What ours said is from before the question, so that the way does not count against it. */
static int look(struct cli *cli, uint64_t *ret_behind, struct err *err)
{
    Davit__Admin__V1__GetSystemTimeRequest q = DAVIT__ADMIN__V1__GET_SYSTEM_TIME_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = cli_connect(cli, err); /* it may have to be started first */
    int64_t here = (int64_t)clock_real() * 1000;

    if (rc == 0)
        rc = cli_call(cli, &davit_admin_v1_admin_service, "GetSystemTime", &q.base, CALL_TIMEOUT, &message, err);
    if (rc != 0)
        return rc;
    int64_t there = ((const Davit__Admin__V1__GetSystemTimeResponse *)(const void *)message)->unix_nanos;
    (void)rpc_message_free(message);
    *ret_behind = there >= here ? 0 : (uint64_t)here - (uint64_t)there;
    return 0;
}

int clock_gate(struct cli *cli, usec_t wait, struct err *err)
{
    usec_t deadline = deadline_in(wait);
    uint64_t behind = 0;
    bool told = false;
    int rc;

    while ((rc = look(cli, &behind, err)) == 0 && behind) {
        unsigned long long ms = (behind + 999999) / 1000000;
        if (clock_add(clock_mono(), CLOCK_GATE_POLL) > deadline) {
            (void)err_set(err, ERR_DEADLINE, "cp clock sync deadline exceeded");
            (void)err_wrap(err, "the clock of the control plane is %llu ms behind this machine's", ms);
            err_hint(err, "set it right, then run this again: nothing was begun");
            return -ERR_DEADLINE;
        }
        if (!told)
            out_note(cli, "davit: waiting for the clock of the control plane, which is %llu ms behind", ms);
        told = true;
        if ((rc = fiber_sleep(CLOCK_GATE_POLL)) < 0)
            return rc;
    }
    return rc;
}
