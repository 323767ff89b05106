/* SPDX-License-Identifier: Apache-2.0 */
/* rotate_ca — see rotate_ca.h. What the user's side does of a change of the root (ident/pki_roots.h): the new root is made here and signs here; the
 * control plane is handed certificates. Every step may be repeated: what an earlier run has made is found again, and what it has reached stays. */
#include <stdio.h>

#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/rotate_ca.h"
#include "davit/control/v1/roots.davit.h"
#include "davit/control/v1/roots.pb-c.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"

static const usec_t CALL_TIMEOUT = 30 * USEC_SEC;

enum { PIN_SHOWN = 16 };

#define AT(field) offsetof(struct rotate_ca_options, field)
const struct opt rotate_ca_opts[] = {
    {.name = "status", .type = OPT_BOOL, .offset = AT(status), .help = "tell which servers have not got the new root, and change nothing"},
    {.name = "finish", .type = OPT_BOOL, .offset = AT(finish), .help = "let go of the old root: it opens nothing any more"},
    {.name = "force", .type = OPT_BOOL, .offset = AT(force),
     .help = "with --finish: also when servers have not got the new root; they need a new token then"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_root_service, method, request, CALL_TIMEOUT, ret, err);
}

int rotate_get(struct cli *cli, ProtobufCMessage **ret, struct err *err)
{
    Davit__Control__V1__GetRootsRequest req = DAVIT__CONTROL__V1__GET_ROOTS_REQUEST__INIT;
    int rc = call(cli, "GetRoots", &req.base, ret, err);
    if (rc == 0 && ((const Davit__Control__V1__GetRootsResponse *)(const void *)*ret)->n_roots == 0) {
        rpc_message_free(*ret);
        *ret = NULL;
        rc = err_set(err, ERR_INTERNAL, "the control plane tells of no root");
    }
    return rc;
}

/* --- What is shown --- */

static void print_root(const char *what, const Davit__Control__V1__Root *r)
{
    AUTO_FREE char *pin = out_clean(str_from(r->pin));
    AUTO_FREE char *since = out_time(r->not_before_us);
    AUTO_FREE char *until = out_time(r->not_after_us);
    printf("%-10s %.*s..., made %s, until %s\n", what, PIN_SHOWN, pin, since, until);
}

static void print_servers(const Davit__Control__V1__GetRootsResponse *m, bool changing)
{
    for (size_t i = 0; i < m->n_servers; i++) {
        const Davit__Control__V1__RootServer *s = m->servers[i];
        AUTO_FREE char *name = out_clean(str_from(s->server));
        AUTO_FREE char *state = out_clean(str_from(s->state));
        const char *what = !s->has_new ? "has not got the new root" : changing ? "has it" : "still holds the old root, which opens nothing";
        printf("%-10s %s (%s): %s%s\n", "waiting", name, state, what, s->known ? "" : "; its agent has not said which roots it has");
    }
}

static void print_sandboxes(const Davit__Control__V1__GetRootsResponse *m, bool changing)
{
    for (size_t i = 0; i < m->n_sandboxes; i++) {
        const Davit__Control__V1__RootSandbox *s = m->sandboxes[i];
        AUTO_FREE char *name = str_printf("%s%s%s", s->project, *s->project ? "/" : "", s->name), *clean = out_clean(str_from(name));
        AUTO_FREE char *server = out_clean(str_from(s->server));
        const char *what = !s->running ? "is stopped: it gets new material when it starts"
                           : !s->has_new ? "has not got new material"
                           : changing    ? "has it"
                                         : "still knows the old root, which opens nothing";
        printf("%-10s sandbox %s on %s: %s\n", "waiting", clean, server, what);
    }
}

int rotate_show(struct cli *cli, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = rotate_get(cli, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__GetRootsResponse *m = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        print_root("root", m->roots[0]);
        for (size_t i = 1; i < m->n_roots; i++)
            print_root("old root", m->roots[i]);
        print_servers(m, m->n_roots > 1);
        print_sandboxes(m, m->n_roots > 1);
        AUTO_FREE char *end = m->ends_at_us ? out_time(m->ends_at_us) : NULL;
        if (m->n_roots > 1 && end)
            printf("Both are believed until %s, or `davit auth rotate --now`. Who has not got the new one by then is locked out.\n", end);
        else if (m->n_roots > 1 && m->n_servers == 0)
            printf("All servers have the new root. `davit controlplane rotate-ca --finish` lets go of the old one.\n");
        else if (m->n_roots > 1)
            printf("Both roots are believed until `davit controlplane rotate-ca --finish`. Servers get the new one when they connect.\n");
    }
    rpc_message_free(message);
    return rc;
}

/* --- Steps --- */

static int pin_of(const char *hex, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    size_t n = 0;
    if (str_unhex(str_from(hex), ret, SPKI_HASH_SIZE, &n) == 0 && n == SPKI_HASH_SIZE)
        return 0;
    return err_set(err, ERR_INTERNAL, "the control plane names a root in a way that cannot be read");
}

/* The first root of the control plane is ours: perhaps the next one, when an earlier run stopped before it took it over. */
int rotate_catch_up(struct cli *cli, const char *hex, struct err *err)
{
    uint8_t pin[SPKI_HASH_SIZE];
    int rc = pin_of(hex, pin, err);
    if (rc == 0)
        rc = pki_user_switch(cli->paths.config, pin, err);
    if (rc != 1)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "the key of the control plane's root is not in %s", cli->paths.config);
    err_hint(err, "change the root where it was made, or where the change was begun");
    return -ERR_PRECONDITION;
}

struct handover {
    struct buf root, cross, assertion, authorities[PKI_AUTHORITIES];
    usec_t overlap;
};

static void handover_release(struct handover *h)
{
    buf_release(&h->root);
    buf_release(&h->cross);
    buf_release(&h->assertion);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        buf_release(&h->authorities[i]);
}

static int sign(struct cli *cli, const Davit__Control__V1__PrepareRootResponse *m, struct handover *h, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++) {
        const Davit__Control__V1__PrepareRootResponse__Request *r = i < m->n_requests ? m->requests[i] : NULL;
        if (!r || !str_eq(str_from(r->name), str_from(pki_authority_name(i))))
            return err_set(err, ERR_UNIMPLEMENTED, "the control plane has other intermediates than this program knows");
        rc = pki_user_sign_next(cli->paths.config, i, (struct str){(const char *)r->csr_der.data, r->csr_der.len}, &h->authorities[i], err);
    }
    return rc;
}

static int hand_over(struct cli *cli, struct handover *h, struct err *err)
{
    Davit__Control__V1__BeginRootRequest req = DAVIT__CONTROL__V1__BEGIN_ROOT_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    char *authorities[PKI_AUTHORITIES];
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        authorities[i] = (char *)(uintptr_t)buf_cstr(&h->authorities[i]);
    req.root_pem = (char *)(uintptr_t)buf_cstr(&h->root);
    req.cross_pem = (char *)(uintptr_t)buf_cstr(&h->cross);
    req.assertion_jwk = (char *)(uintptr_t)buf_cstr(&h->assertion);
    req.overlap_us = h->overlap;
    req.n_authorities_pem = PKI_AUTHORITIES;
    req.authorities_pem = authorities;
    int rc = call(cli, "BeginRoot", &req.base, &answer, err);
    rpc_message_free(answer);
    if (rc == -ERR_DEADLINE || rc == -ERR_UNAVAILABLE)
        err_hint(err, "whether the change has begun is not known: the same command again goes on with it, as any other one does; keep %s until then",
                 cli->paths.config);
    return rc;
}

int rotate_begin(struct cli *cli, usec_t overlap, struct err *err)
{
    Davit__Control__V1__PrepareRootRequest req = DAVIT__CONTROL__V1__PREPARE_ROOT_REQUEST__INIT;
    CLEANUP(handover_release) struct handover h = {
        .root = BUF_INIT(CERT_PEM_MAX), .cross = BUF_INIT(CERT_PEM_MAX), .assertion = BUF_INIT(CERT_PEM_MAX), .overlap = overlap};
    ProtobufCMessage *answer = NULL;
    uint8_t pin[SPKI_HASH_SIZE];
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        buf_init(&h.authorities[i], CERT_PEM_MAX);
    int rc = pki_user_drop_old(cli->paths.config, err); /* of a change that was finished */
    if (rc >= 0)
        rc = pki_user_next(cli->paths.config, &h.root, &h.cross, err);
    if (rc == 0)
        rc = pki_user_next_assertion(cli->paths.config, &h.assertion, err);
    if (rc == 0)
        rc = call(cli, "PrepareRoot", &req.base, &answer, err);
    if (rc == 0)
        rc = sign(cli, (const void *)answer, &h, err);
    rpc_message_free(answer);
    if (rc == 0)
        rc = hand_over(cli, &h, err);
    if (rc == 0)
        rc = cert_pem_pin(buf_str(&h.root), pin, err);
    if (rc == 0)
        rc = pki_user_switch(cli->paths.config, pin, err);
    /* From here on by the new certificate, key and tokens. */
    cli->channel = rpc_channel_close(cli->channel);
    return rc;
}

static int run_begin(struct cli *cli, const Davit__Control__V1__GetRootsResponse *m, struct err *err)
{
    if (m->n_roots == 1) {
        int rc = rotate_begin(cli, 0, err);
        if (rc < 0)
            return rc;
        out_note(cli, "There is a new root, and the old one is believed beside it. Both keys are in %s; take a new backup.", cli->paths.config);
    } else {
        out_note(cli, "The root is being changed already.");
    }
    return rotate_show(cli, err);
}

/* --- Finish --- */

static int drop_old(struct cli *cli, struct err *err)
{
    int rc = pki_user_drop_old(cli->paths.config, err);
    if (rc == 0)
        out_note(cli, "The key of the old root is destroyed (%s/old-root.key). Backups of before open nothing any more: take a new one.",
                 cli->paths.config);
    return rc < 0 ? rc : 0;
}

static int report(struct cli *cli, const Davit__Control__V1__FinishRootResponse *m, struct err *err)
{
    if (cli->json)
        return out_message(&m->base, err);
    printf("The old root opens nothing any more.\n");
    for (size_t i = 0; i < m->n_left; i++) {
        AUTO_FREE char *name = out_clean(str_from(m->left[i]));
        printf("%s is locked out: `davit server token %s` makes a token with which it can come back.\n", name, name);
    }
    return 0;
}

int rotate_finish(struct cli *cli, const char *pin, bool force, bool quiet, struct err *err)
{
    Davit__Control__V1__FinishRootRequest req = DAVIT__CONTROL__V1__FINISH_ROOT_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    req.pin = (char *)(uintptr_t)pin;
    req.force = force;
    int rc = call(cli, "FinishRoot", &req.base, &answer, err);
    if (rc == 0 && !quiet)
        rc = report(cli, (const void *)answer, err);
    rpc_message_free(answer);
    cli->channel = rpc_channel_close(cli->channel); /* its token is of the old key */
    return rc < 0 ? rc : drop_old(cli, err);
}

int run_rotate_ca(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct rotate_ca_options *o = options;
    ProtobufCMessage *message = NULL;
    AUTO_FD int lock = -1;
    (void)operands;
    (void)n;
    if (o->status && (o->finish || o->force))
        return err_set(err, ERR_INVALID, "--status changes nothing: leave out the other one");
    if (o->force && !o->finish)
        return err_set(err, ERR_INVALID, "--force goes with --finish");
    if (o->status)
        return rotate_show(cli, err);
    int rc = cli_lock(&cli->paths, &lock, err);
    if (rc == 0)
        rc = rotate_get(cli, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__GetRootsResponse *m = (const void *)message;
    rc = m && m->n_roots > 0 ? rotate_catch_up(cli, m->roots[0]->pin, err) : err_set(err, ERR_INTERNAL, "the control plane names no root");
    if (rc == 0)
        rc = o->finish ? rotate_finish(cli, m->roots[0]->pin, o->force, false, err) : run_begin(cli, m, err);
    rpc_message_free(message);
    return rc;
}
