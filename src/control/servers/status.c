/* SPDX-License-Identifier: Apache-2.0 */
/* status — StatusService, and the figures that health shows too. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "control/servers/roots.h"
#include "control/schema.h"
#include "control/servers/servers.h"
#include "control/servers/status.h"

uint64_t status_rss(void)
{
    AUTO_BUF b = BUF_INIT(512);
    uint64_t pages = 0;
    /* Two numbers of /proc: pages in all, pages resident. */
    if (fd_read_file("/proc/self/statm", &b, NULL) < 0)
        return 0;
    struct str s = buf_str(&b);
    (void)str_cut(&s, ' ');
    if (str_to_u64(str_cut(&s, ' '), UINT64_MAX / 65536, &pages) < 0)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

enum { NAMES_SHOWN = 3 };

/* How many services there are, and which of them agents keep nothing of: those that were active before agents kept what they deployed, which the
 * migration of the store gave the time of their making (schema.c). */
struct census {
    int64_t services, unkept;
    char names[NAMES_SHOWN * (63 + 1 + 63 + 2)];
};

static int count_services(struct db *db, void *arg, struct err *err)
{
    struct census *n = arg;
    AUTO_ROWS rows = NULL;
    struct buf names = BUF_INIT(sizeof(n->names) - 1);
    int rc = db_get_i64(db, &n->services, err, "SELECT COUNT(*) FROM services", "");
    if (rc == 0)
        rc = db_query(db, &rows, err, "SELECT s.project, s.name FROM services s JOIN deployments d ON d.id = s.active"
                                      " WHERE d.activated_us = d.created_us ORDER BY s.project, s.name", "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct str project = row_text(rows, 0), name = row_text(rows, 1);
        if (n->unkept++ < NAMES_SHOWN)
            (void)buf_printf(&names, "%s" STR_FMT "/" STR_FMT, names.len ? ", " : "", STR_ARG(project), STR_ARG(name));
        rc = 0;
    }
    (void)str_copy(n->names, sizeof(n->names), buf_str(&names));
    buf_release(&names);
    return rc;
}

static void warn_unkept(struct control *c, const struct census *n, Davit__Control__V1__GetStatusResponse *m)
{
    char *text = c->warnings[m->n_warnings];
    if (!n->unkept)
        return;
    (void)snprintf(text, sizeof(c->warnings[0]),
                   "%lld service%s of an agent of before (%s%s): not healed and not scaled until the next davit deploy --force", (long long)n->unkept,
                   n->unkept == 1 ? "" : "s", n->names, n->unkept > NAMES_SHOWN ? ", ..." : "");
    c->warning_ptrs[m->n_warnings++] = text;
}

int status_read(struct control *c, Davit__Control__V1__GetStatusResponse *m, struct err *err)
{
    struct census n = {0};
    struct server *s;
    davit__control__v1__get_status_response__init(m);
    int rc = store_read(c->store, count_services, &n, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    list_each(s, &c->servers, struct server, node) {
        m->servers_online += s->state == SERVER_ONLINE;
        m->servers_offline += s->state == SERVER_OFFLINE;
        m->servers_pending += s->state == SERVER_PENDING;
        m->containers_running += inventory_running(&s->inventory);
        if (s->local && s->system)
            m->local_role = lend(s->system->role);
    }
    m->version = lend(DAVIT_VERSION);
    m->started_us = c->started;
    m->rss_bytes = status_rss();
    m->services = (uint32_t)n.services;
    m->store = lend(store_engine());
    m->link_address = lend(control_link_addr(c));
    m->web_address = lend(control_web_addr(c));
    m->local_web_address = lend(control_local_addr(c));
    m->api_address = lend(control_api_addr(c));
    m->schema_version = (uint32_t)schema_n_migrations;
    m->n_warnings = roots_warn(c, &m->warnings);
    warn_unkept(c, &n, m);
    return 0;
}

static int get_status(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__GetStatusResponse m;
    (void)request;
    int rc = status_read(ctx, &m, err);
    if (rc < 0)
        return rc;
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int get_version(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__GetVersionResponse m = DAVIT__CONTROL__V1__GET_VERSION_RESPONSE__INIT;
    (void)ctx;
    (void)request;
    m.version = lend(DAVIT_VERSION);
    m.clock_us = clock_real();
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

CONTROL_HANDLER(get_status)
CONTROL_HANDLER(get_version)

const struct rpc_handler status_handlers[] = {
    {.run = get_status_tracked},
    {.run = get_version_tracked},
};
