/* SPDX-License-Identifier: Apache-2.0 */
/* link_probe — see link_probe.h. */
#include "host/link/link_probe.h"

#include "davit/link/v1/link.davit.h"

static void note_skew(const struct rpc_stream *s, usec_t asked, struct link_skew *ret)
{
    const char *text = rpc_meta_get(rpc_stream_header(s), "davit-clock-us", 0);
    uint64_t theirs = 0;
    if (!text)
        text = rpc_meta_get(rpc_stream_trailer(s), "davit-clock-us", 0);
    if (!text || str_to_u64(str_from(text), INT64_MAX, &theirs) != 0)
        return;
    usec_t way = (clock_mono() - asked) / 2;
    ret->us = (int64_t)(clock_real() - way) - (int64_t)theirs;
    ret->known = true;
}

int link_probe(struct rpc_channel *ch, usec_t deadline, struct link_skew *ret_skew, struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    struct rpc_stream *s = NULL;
    ProtobufCMessage *got = NULL;
    usec_t asked = clock_mono();
    int rc = rpc_stream_open(ch, &davit_link_v1_link_service, "Connect", deadline, &s, err);
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
    m.heartbeat = &h;
    if (rc == 0)
        rc = rpc_stream_put(s, &m.base, deadline, err);
    if (rc == 0)
        rc = rpc_stream_get(s, deadline, &got, err);
    if (s && ret_skew)
        note_skew(s, asked, ret_skew);
    (void)rpc_message_free(got);
    (void)rpc_stream_close(s);
    if (rc >= 0)
        return err_set(err, ERR_INTERNAL, "what answers there is no control plane of Davit");
    return rc == -(int)ERR_INVALID ? 0 : rc;
}
