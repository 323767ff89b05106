/* SPDX-License-Identifier: Apache-2.0 */
/* audit_call — see audit.h: what an entry says of a call, and the entries around a handler. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "control/people/audit_internal.h"
#include "control/people/passes.h"
#include "davit/control/v1/environment.pb-c.h"
#include "spec/registry_name.h"

enum { REQUEST_ID_MAX = 64 };

/* ---- texts ---- */

void audit_text(char *dst, size_t size, struct str s)
{
    size_t n = 0;
    while (s.n) {
        size_t len = str_utf8_len(s);
        bool plain = len > 0 && (unsigned char)s.p[0] >= 0x20 && s.p[0] != 0x7f && !str_is_trick((struct str){s.p, len});
        if (n + (plain ? len : 1) >= size)
            break;
        if (plain)
            memcpy(dst + n, s.p, len);
        else
            dst[n] = '?';
        n += plain ? len : 1;
        len = len ? len : 1;
        s = (struct str){s.p + len, s.n - len};
    }
    dst[n] = '\0';
}

void audit_who(struct audit_record *r, const char *actor, const char *serial)
{
    if (actor)
        audit_text(r->actor, sizeof(r->actor), str_from(actor));
    if (serial)
        audit_text(r->serial, sizeof(r->serial), str_from(serial));
}

void audit_what(struct audit_record *r, const char *action, const char *object)
{
    if (action)
        audit_text(r->action, sizeof(r->action), str_from(action));
    if (object)
        audit_text(r->object, sizeof(r->object), str_from(*object ? object : "-"));
}

void audit_how(struct audit_record *r, const char *outcome, const struct err *err)
{
    audit_text(r->outcome, sizeof(r->outcome), str_from(outcome));
    if (!err || err->code == ERR_OK)
        return;
    audit_text(r->code, sizeof(r->code), str_from(err_code_name(err->code)));
    audit_text(r->reason, sizeof(r->reason), str_from(err->msg));
}

void audit_who_conn(struct audit_record *r, struct conn *conn)
{
    struct stream_cred cred;
    char host[ADDRESS_SIZE], text[ADDRESS_SIZE + 16];
    if (!conn) {
        audit_who(r, "gone", NULL);
        return;
    }
    const struct tls_peer *peer = conn_peer(conn);
    if (peer && peer->present) {
        audit_who(r, *peer->uri ? peer->uri : "certificate", peer->serial);
        return;
    }
    if (conn_peer_cred(conn, &cred) == 0) {
        (void)snprintf(text, sizeof(text), "uid:%u", (unsigned)cred.uid);
    } else {
        address_host(conn_peer_addr(conn), host);
        (void)snprintf(text, sizeof(text), "addr:%s", host);
    }
    audit_who(r, text, NULL);
}

void audit_who_call(struct audit_record *r, const struct rpc_call *call)
{
    const struct caller *k = caller_of(call);
    if (k && *k->actor)
        audit_who(r, k->actor, k->serial);
    else
        audit_who_conn(r, rpc_call_conn(call));
}

static const char *field_text(const ProtobufCMessage *m, struct str path)
{
    while (m) {
        char name[64];
        struct str part = str_cut(&path, '.');
        (void)str_copy(name, sizeof(name), part);
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
        if (!f || f->label == PROTOBUF_C_LABEL_REPEATED)
            return "";
        const char *base = (const char *)m;
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && *(const uint32_t *)(const void *)(base + f->quantifier_offset) != f->id)
            return "";
        if (f->type == PROTOBUF_C_TYPE_STRING)
            return text(*(char *const *)(const void *)(base + f->offset));
        m = f->type == PROTOBUF_C_TYPE_MESSAGE ? *(const ProtobufCMessage *const *)(const void *)(base + f->offset) : NULL;
    }
    return "";
}

/* What is no name of a registry may hold a password: "user:password@host". */
static bool hides_login(const ProtobufCMessage *request, const char *part)
{
    char name[REGISTRY_NAME_SIZE];
    bool registry = request->descriptor == &davit__control__v1__set_registry_request__descriptor ||
                    request->descriptor == &davit__control__v1__remove_registry_request__descriptor;
    return registry && registry_name(str_from(part), name, NULL) < 0;
}

void audit_object(const struct rpc_method *method, const ProtobufCMessage *request, char *dst, size_t size)
{
    struct str paths = str_from(method->object);
    AUTO_BUF out = BUF_INIT(4096);
    bool any = false;
    for (bool more = request && !str_eq(paths, STR("-")); more; more = paths.n > 0) {
        const char *part = field_text(request, str_cut(&paths, '/'));
        if (hides_login(request, part))
            part = "";
        (void)buf_printf(&out, "%s%.512s", out.len ? "/" : "", part); /* what does not fit is cut in any case */
        any = any || *part;
    }
    audit_text(dst, size, any ? buf_str(&out) : STR("-"));
}

void audit_action(const struct rpc_service *service, const struct rpc_method *method, char *dst, size_t size)
{
    const char *dot = strrchr(service->name, '.');
    (void)snprintf(dst, size, "%.48s/%.40s", dot ? dot + 1 : service->name, method->name);
}

/* ---- around a handler ---- */

static bool scope_is(const struct rpc_method *m, const char *scope)
{
    return str_eq(str_from(m->scope), str_from(scope));
}

bool audit_concerns(const struct rpc_method *method)
{
    return !scope_is(method, "public") && !scope_is(method, "read") && !scope_is(method, "link");
}

static const char *outcome_of(int rc, const struct err *err)
{
    if (rc >= 0)
        return AUDIT_OK;
    return err->code == ERR_DENIED || err->code == ERR_UNAUTHENTICATED ? AUDIT_REFUSED : AUDIT_FAILED;
}

/* Strangers may come by the thousand: what they are refused is counted, and only what went well has an entry of its own. What it changed is in
 * the transaction of the change. */
static int run_enroll(struct control *c, struct audit_record *r, int rc, const struct err *err)
{
    if (rc >= 0) {
        audit_how(r, AUDIT_OK, NULL);
        audit_end(c, r, NULL, true);
    } else {
        audit_how(r, outcome_of(rc, err), err);
        refusals_add(c->audit->refusals, r, clock_mono());
        audit_tick(c);
    }
    return rc;
}

int audit_run(struct control *c, struct audit_record *r, struct rpc_call *call, const struct rpc_service *service,
              const struct rpc_method *method, const ProtobufCMessage *request, rpc_run *run, void *run_ctx, struct err *err)
{
    struct ticket *begun = NULL;
    audit_action(service, method, r->action, sizeof(r->action));
    audit_object(method, request, r->object, sizeof(r->object));
    if (scope_is(method, "enroll"))
        return run_enroll(c, r, err_ensure(err, run(call, run_ctx, request, err)), err);
    int rc = audit_begin(c, r, &begun, err);
    if (rc < 0)
        return rc;
    rc = err_ensure(err, run(call, run_ctx, request, err));
    audit_how(r, outcome_of(rc, err), rc < 0 ? err : NULL);
    audit_end(c, r, begun, true);
    return rc;
}

/* The caller's own, if it is a plain word, so that its log and ours meet. */
static void request_id(const struct rpc_call *call, char *dst, size_t size)
{
    const char *given = rpc_call_metadata(call, "x-request-id");
    struct str s = str_from(given);
    bool plain = s.n > 0 && s.n <= REQUEST_ID_MAX;
    for (size_t i = 0; plain && i < s.n; i++)
        plain = isalnum((unsigned char)s.p[i]) || strchr("-_.:", s.p[i]);
    if (plain) {
        (void)str_copy(dst, size, s);
        return;
    }
    char uuid[40];
    rng_uuid(uuid);
    (void)str_copy(dst, size, str_from(uuid));
}

int audit_around(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                 const ProtobufCMessage *request, rpc_run *run, void *run_ctx, struct err *err)
{
    struct control *c = ctx;
    struct audit_record r = {.count = 1};
    struct err own = ERR_INIT;
    err = err ? err : &own;
    if (!audit_concerns(method))
        return run(call, run_ctx, request, err);
    if (c->stopping)
        return err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    audit_who_call(&r, call);
    request_id(call, r.request, sizeof(r.request));
    c->fibers++; /* as control_run: also the entry behind the handler is waited for */
    int rc = audit_run(c, &r, call, service, method, request, run, run_ctx, err);
    control_fiber_end(c);
    return rc;
}
