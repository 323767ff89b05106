/* SPDX-License-Identifier: Apache-2.0 */
/* material — what a sandbox proves itself by: a key that is made here, its certificate and its assertion of one use from the control plane. Written
 * into a volume of its own through the engine's archive API, whole, before a first start; nothing of it touches this machine's disk by our hand. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "base/tar.h"
#include "ident/key.h"

enum { MATERIAL_MAX = 512 * 1024 };

char *material_volume(const char *id)
{
    return str_printf("davit-material-%s", id);
}

char *workspace_volume(const char *id)
{
    return str_printf("davit-workspace-%s", id);
}

static int put(struct buf *tar, const char *name, struct str content)
{
    return content.n ? tar_put_file(tar, name, content, 0400, (int64_t)(clock_real() / USEC_SEC)) : 0;
}

static int put_folder(struct buf *tar, const char *name)
{
    const struct tar_entry e = {.kind = TAR_DIR, .name = name, .link = "", .mode = 0700, .mtime = (int64_t)(clock_real() / USEC_SEC)};

    return tar_put(tar, &e);
}

/* The files of it, as the container finds them. */
static int write_files(struct box *b, const struct secret *key, const Davit__Link__V1__SandboxCertified *a, struct str ca, usec_t deadline,
                       struct err *err)
{
    AUTO_SECRET_BUF tar = BUF_INIT(MATERIAL_MAX);
    int rc = buf_reserve(&tar, MATERIAL_MAX / 2) ? put_folder(&tar, "./") : -(int)ERR_EXHAUSTED;

    if (rc == 0)
        rc = put_folder(&tar, "state/");
    if (rc == 0)
        rc = put(&tar, "key.pem", secret_reveal(key));
    if (rc == 0)
        rc = put(&tar, "cert.pem", str_from(a->certificate_pem));
    if (rc == 0)
        rc = put(&tar, "ca.pem", ca);
    if (rc == 0)
        rc = put(&tar, "assertion.jwt", str_from(a->assertion));
    if (rc == 0)
        rc = buf_append(&tar, tar_zeros, TAR_END);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "the certificates of a sandbox take more than %d bytes", MATERIAL_MAX);
    struct str bytes = buf_str(&tar);
    return docker_archive_put(b->k->w->docker, b->container, SANDBOX_MATERIAL_DIR, source_of_str, &bytes, deadline, err);
}

static int certify(struct box *b, const struct key *key, enum material_for what, usec_t deadline, Davit__Link__V1__ControlMessage **ret,
                   struct err *err)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxCertify ask = DAVIT__LINK__V1__SANDBOX_CERTIFY__INIT;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    int rc = csr_make(key, "sandbox", &der, err);

    if (rc < 0)
        return rc;
    ask.sandbox_id = b->id;
    ask.container_id = b->container;
    ask.csr_der = (ProtobufCBinaryData){der.len, (uint8_t *)der.data};
    ask.renewal = what != MATERIAL_FIRST;
    if (what == MATERIAL_SESSION)
        ask.live_thumbprint = b->live;
    /* Only we know that the one before that was seen last is good no more, if our word did not arrive. */
    else if (what == MATERIAL_STOPPED && !*b->previous)
        ask.live_thumbprint = b->thumbprint;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_CERTIFY;
    m.sandbox_certify = &ask;
    rc = contain_ask(b->k, &m, &ask.request_id, deadline, ret, err);
    if (rc == 0 && (*ret)->body_case != DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_CERTIFIED)
        rc = err_set(err, ERR_INTERNAL, "the control plane answered something else");
    return rc;
}

static Davit__Session__V1__Renew *renewal_of(const struct secret *key, const Davit__Link__V1__SandboxCertified *a, const char *ca)
{
    Davit__Session__V1__Renew m = DAVIT__SESSION__V1__RENEW__INIT;
    ProtobufCMessage *copy = NULL;

    m.certificate_pem = a->certificate_pem;
    m.key_pem = (char *)(uintptr_t)secret_reveal(key).p;
    m.ca_pem = (char *)(uintptr_t)ca;
    return rpc_copy(&m.base, &copy) == 0 ? (Davit__Session__V1__Renew *)copy : NULL;
}

/* Both the certificate that it shows and the one that it is about to get are its own from here on, whatever is cut off next. */
static int enter(struct box *b, enum material_for what, const char *pem, usec_t *ret_not_after, struct err *err)
{
    AUTO_CERT cert = NULL;
    struct cert_info info;
    char thumbprint[THUMBPRINT_SIZE];
    int rc = cert_from_pem(str_from(pem), &cert, err);

    if (rc == 0)
        rc = cert_info(cert, &info, err);
    if (rc < 0)
        return rc;
    *ret_not_after = info.not_after; /* NOLINT(clang-analyzer-core.uninitialized.Assign): set when rc is 0 */
    if (what == MATERIAL_FIRST)
        return 0;
    str_hex(info.cert_hash, sizeof(info.cert_hash), thumbprint);
    /* The verdict may have said so already. */
    if (strcmp(thumbprint, b->thumbprint) != 0) {
        const char *good = what == MATERIAL_SESSION ? b->live : *b->previous ? b->previous : b->thumbprint;
        if (good != b->previous)
            (void)str_copy(b->previous, sizeof(b->previous), str_from(good));
        (void)str_copy(b->thumbprint, sizeof(b->thumbprint), str_from(thumbprint));
        b->not_after = 0;
    }
    return box_keep_row(b, err);
}

bool renewal_may(const struct renewal *r, const char *pins)
{
    return clock_mono() >= r->not_before || strcmp(r->tried, pins) != 0;
}

void renewal_begins(struct renewal *r, const char *pins)
{
    if (strcmp(r->tried, pins) != 0)
        r->failed = 0;
    (void)str_copy(r->tried, sizeof(r->tried), str_from(pins));
}

void renewal_ended(struct renewal *r, bool done)
{
    r->not_before = deadline_in(done ? RENEW_EVERY : RENEW_AGAIN / 2 + backoff_wait(r->failed, RENEW_AGAIN, RENEW_EVERY));
    r->failed = done ? 0 : r->failed + (r->failed < 8);
}

bool material_is_due(const struct box *b, usec_t not_after)
{
    return clock_add(clock_real(), RENEW_BEFORE) >= not_after || strcmp(b->roots, contact_pins(b->k->contact)) != 0;
}

int material_make(struct box *b, enum material_for what, usec_t deadline, Davit__Session__V1__Renew **ret, struct err *err)
{
    usec_t not_after = 0;
    AUTO_KEY key = NULL;
    AUTO_SECRET pem = NULL;
    AUTO_BUF ca = BUF_INIT(2 * CERT_PEM_MAX);
    Davit__Link__V1__ControlMessage *m = NULL;
    int rc = key_generate(&key, err);

    if (rc == 0)
        rc = key_to_pem(key, &pem, err);
    if (rc == 0)
        rc = certify(b, key, what, deadline, &m, err);
    if (rc == 0)
        rc = contact_set_roots(b->k, m->sandbox_certified->ca_pem, err);
    if (rc == 0)
        rc = enter(b, what, m->sandbox_certified->certificate_pem, &not_after, err);
    if (rc == 0 && (buf_append_cstr(&ca, m->sandbox_certified->ca_pem) < 0 || buf_append_str(&ca, contact_root(b->k->contact)) < 0))
        rc = err_set(err, ERR_EXHAUSTED, "the roots take too much room");
    /* What runs writes it by itself, whole. */
    if (rc == 0 && what != MATERIAL_SESSION)
        rc = write_files(b, pem, m->sandbox_certified, buf_str(&ca), deadline, err);
    if (rc == 0 && ret)
        *ret = renewal_of(pem, m->sandbox_certified, buf_cstr(&ca));
    if (rc == 0) {
        (void)str_copy(b->roots, sizeof(b->roots), str_from(contact_pins(b->k->contact)));
        b->not_after = what == MATERIAL_SESSION ? 0 : not_after;
        rc = what == MATERIAL_FIRST ? 0 : box_keep_row(b, err);
    }
    (void)rpc_message_free(m);
    return rc;
}
