/* SPDX-License-Identifier: Apache-2.0 */
/* contact — who this server is for its sandboxes. An agent beside its control plane has no certificate, and others have one that changes: so each
 * makes a root of its own, for this alone, and writes it into the material of its sandboxes beside the roots that vouch for them. Its leaf lives
 * shortly and is made anew in memory.
 * Files: host.key and host.crt are that root, roots.pem is what sandboxes are checked by. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "ident/key.h"
#include "net/tls.h"

#define LEAF_LIFE  (30 * USEC_DAY)
#define LEAF_RENEW (10 * USEC_DAY)

struct contact {
    char *uri;
    struct key *root_key;
    struct cert *root;
    struct buf root_pem, roots; /* @roots: of the control plane */
    char pins[ROOT_PINS_SIZE];  /* of @roots */
    struct buf leaf_pem;
    struct secret *leaf_key;
    usec_t leaf_made; /* real time */
    bool fresh;       /* made since the listeners got it */
};

struct contact *contact_free(struct contact *c)
{
    if (!c)
        return NULL;
    free(c->uri);
    c->root_key = key_free(c->root_key);
    c->root = cert_free(c->root);
    c->leaf_key = secret_free(c->leaf_key);
    buf_release(&c->root_pem);
    buf_release(&c->roots);
    buf_release(&c->leaf_pem);
    free(c);
    return NULL;
}

/* The certificate that is there, or a new one. */
static int open_root(struct contact *c, const char *path, struct err *err)
{
    if (fd_read_file(path, &c->root_pem, NULL) == 0 && cert_from_pem(buf_str(&c->root_pem), &c->root, NULL) == 0 &&
        cert_fits_key(c->root, c->root_key))
        return 0;
    c->root = cert_free(c->root);
    buf_clear(&c->root_pem);
    int rc = cert_make_root(c->root_key, "Davit sandbox host", CERT_ROOT_DAYS, &c->root, err);
    if (rc == 0)
        rc = cert_to_pem(c->root, &c->root_pem, err);
    return rc == 0 ? fd_write_file(path, c->root_pem.data, c->root_pem.len, 0600, err) : rc;
}

static void note_pins(struct contact *c, const struct cert_roots *roots)
{
    char all[ROOT_PINS_SIZE] = "", hex[THUMBPRINT_SIZE];

    for (size_t i = 0; i < roots->n; i++) {
        size_t at = strlen(all);
        str_hex(roots->v[i].pin, SPKI_HASH_SIZE, hex);
        (void)snprintf(all + at, sizeof(all) - at, "%s%s", i ? " " : "", hex);
    }
    (void)str_copy(c->pins, sizeof(c->pins), str_from(all));
}

int contact_new(struct contain *k, struct contact **ret, struct err *err)
{
    AUTO_FREE char *key = str_printf("%s/host.key", k->folder), *crt = str_printf("%s/host.crt", k->folder),
                   *roots = str_printf("%s/roots.pem", k->folder);
    struct contact *c = NEW(struct contact);
    struct cert_roots known;

    *c = (struct contact){.uri = str_printf("davit://server/%s", k->w->server_id),
                          .root_pem = BUF_INIT(CERT_PEM_MAX),
                          .roots = BUF_INIT(CERT_PEM_MAX),
                          .leaf_pem = BUF_INIT(CERT_PEM_MAX)};
    int rc = key_load_or_make(key, &c->root_key, err);
    if (rc == 0)
        rc = open_root(c, crt, err);
    if (rc < 0) {
        (void)contact_free(c);
        return rc;
    }
    (void)fd_read_file(roots, &c->roots, NULL); /* absent: none was heard of */
    if (c->roots.len && cert_roots_read(buf_str(&c->roots), &known, NULL) == 0)
        note_pins(c, &known);
    *ret = c;
    return 0;
}

const char *contact_uri(const struct contact *c)
{
    return c->uri;
}

struct str contact_root(const struct contact *c)
{
    return buf_str(&c->root_pem);
}

struct str contact_roots(const struct contact *c)
{
    return buf_str(&c->roots);
}

const char *contact_pins(const struct contact *c)
{
    return c->pins;
}

int contact_set_roots(struct contain *k, const char *pem, struct err *err)
{
    struct contact *c = k->contact;
    struct cert_roots roots;

    if (str_eq(str_from(pem), buf_str(&c->roots)))
        return 0;
    int rc = cert_roots_read(str_from(pem), &roots, err);
    if (rc < 0)
        return rc;
    buf_clear(&c->roots);
    if (buf_append_cstr(&c->roots, pem) < 0)
        return err_set(err, ERR_EXHAUSTED, "the roots of the control plane take more than %d bytes", CERT_PEM_MAX);
    note_pins(c, &roots);
    relay_retls(k);
    return contain_write(k, "roots.pem", pem, strlen(pem), err);
}

static int make_leaf(struct contact *c, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_CSR csr = NULL;
    AUTO_CERT leaf = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    const struct leaf_spec spec = {
        .common_name = "davit-agent", .uri = c->uri, .usage = CERT_CLIENT | CERT_SERVER, .not_after = clock_add(clock_real(), LEAF_LIFE)};

    if (c->leaf_key && clock_real() < clock_add(c->leaf_made, LEAF_RENEW) && clock_real() >= c->leaf_made)
        return 0;
    int rc = key_generate(&key, err);
    if (rc == 0)
        rc = csr_make(key, "davit-agent", &der, err);
    if (rc == 0)
        rc = csr_parse(buf_str(&der), &csr, err);
    if (rc == 0)
        rc = cert_sign_leaf(c->root_key, c->root, csr, &spec, &leaf, err);
    if (rc < 0)
        return rc;
    buf_clear(&c->leaf_pem);
    rc = cert_to_pem(leaf, &c->leaf_pem, err);
    c->leaf_key = secret_free(c->leaf_key);
    if (rc == 0)
        rc = key_to_pem(key, &c->leaf_key, err);
    c->leaf_made = clock_real();
    c->fresh = rc == 0;
    return rc;
}

struct told {
    struct contain *k;
    char *pem;
};

static void told_main(void *arg)
{
    struct told *t = arg;
    struct err err = ERR_INIT;

    if (contact_set_roots(t->k, t->pem, &err) < 0)
        log_err(LOG_WARN, &err, "the roots of the control plane could not be taken for sandboxes", NULL);
    for (struct hmap_entry *e = hmap_first(t->k->boxes); e; e = hmap_next(e)) {
        const struct box *b = hmap_value(e);
        if (b->waits)
            rpc_stream_wake(b->waits);
    }
    free(t->pem);
    free(t);
}

void contact_told(struct contain *k, const Davit__Link__V1__SandboxRoots *m)
{
    struct told *t;

    if (str_eq(str_from(m->ca_pem), buf_str(&k->contact->roots)))
        return;
    t = NEW(struct told);
    *t = (struct told){k, str_dup(str_from(m->ca_pem))};
    if (work_spawn(k->w, "sandbox-roots", told_main, t))
        return;
    free(t->pem);
    free(t);
}

static int make_tls(struct contact *c, const char *uri, struct tls_ctx **ret, struct err *err)
{
    if (c->roots.len == 0)
        return err_set(err, ERR_PRECONDITION, "no root of the control plane is known here yet");
    int rc = make_leaf(c, err);
    if (rc < 0)
        return rc;
    const struct tls_config config = {.server = uri == NULL,
                                      .cert_pem = buf_str(&c->leaf_pem),
                                      .key_pem = secret_reveal(c->leaf_key),
                                      .ca_pem = buf_str(&c->roots),
                                      .verify = TLS_VERIFY_REQUIRED,
                                      .peer_uri = uri,
                                      .alpn = "h2"};
    return tls_ctx_new(&config, ret, err);
}

int contact_dial_tls(struct contact *c, const char *id, struct tls_ctx **ret, struct err *err)
{
    AUTO_FREE char *uri = str_printf("davit://sandbox/%s", id);

    return make_tls(c, uri, ret, err);
}

int contact_listen_tls(struct contact *c, struct tls_ctx **ret, struct err *err)
{
    return make_tls(c, NULL, ret, err);
}

void contact_refresh(struct contain *k)
{
    struct contact *c = k->contact;
    struct err err = ERR_INIT;

    if (!c->leaf_key)
        return;
    if (make_leaf(c, &err) < 0)
        log_err(LOG_WARN, &err, "a new certificate for sandboxes cannot be made", NULL);
    if (!c->fresh)
        return;
    c->fresh = false;
    relay_retls(k);
}
