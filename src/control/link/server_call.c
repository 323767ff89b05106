/* SPDX-License-Identifier: Apache-2.0 */
/* server_call — see server_call.h. */
#include "control/link/server_call.h"

int server_call_open(struct control *c, const char *server, Davit__Link__V1__CallOpen *open, struct server_call *ret, struct err *err)
{
    struct server *s = NULL;
    *ret = (struct server_call){0};
    int rc = servers_find(c, text(server), &s, err);
    if (rc < 0)
        return rc;
    ret->server = server_ref(s);
    return link_call_open(s, open, &ret->call, err);
}

int server_call_check(const struct server_call *sc, Davit__Link__V1__CallEnd__ResultCase want, struct err *err)
{
    return sc->end->result_case == want ? 0 : err_set(err, ERR_DATA_LOSS, "the agent of server \"%s\" answered something else", sc->server->name);
}

int server_call(struct control *c, const char *server, Davit__Link__V1__CallOpen *open, Davit__Link__V1__CallEnd__ResultCase want, usec_t timeout,
                struct server_call *ret, struct err *err)
{
    int rc = server_call_open(c, server, open, ret, err);
    if (rc == 0)
        rc = link_call_end(ret->call, &ret->end, deadline_in(timeout), err);
    return rc < 0 ? rc : server_call_check(ret, want, err);
}

void server_call_release(struct server_call *sc)
{
    sc->call = link_call_free(sc->call);
    sc->server = server_unref(sc->server);
    sc->end = NULL;
}
