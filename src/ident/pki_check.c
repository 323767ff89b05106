/* SPDX-License-Identifier: Apache-2.0 */
/* pki_check — see pki_dir.h: what in the control plane's directory does not belong together or is over, and how it is made anew. */
#include "ident/pki_dir.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/key.h"
#include "ident/pki_internal.h"

enum { FAULTS_MAX = ERR_MSG_MAX - 1 };

/* --- What is wrong --- */

/* Each fault is a part of one sentence that begins with a file. */
struct faults {
    struct buf text;
    unsigned n;
    bool clock; /* something is of a time to come */
};

static void fault(struct faults *f, const char *file, const char *suffix, const char *what)
{
    AUTO_FREE char *one = str_printf("%s%s%s %s", f->n ? "; " : "", file, suffix, what);
    f->n++;
    (void)buf_append_cstr(&f->text, one); /* what has no room is not the first */
}

static bool is_there(const char *dir, const char *name, const char *suffix)
{
    AUTO_FREE char *path = pki__file(dir, name, suffix);
    return access(path, F_OK) == 0;
}

static bool may_read(const char *dir, const char *name, const char *suffix)
{
    AUTO_FREE char *path = pki__file(dir, name, suffix);
    return access(path, R_OK) == 0;
}

static void check_key(struct faults *f, const char *dir, const char *name, struct key **ret)
{
    if (!is_there(dir, name, ".key"))
        fault(f, name, ".key", "is missing");
    else if (!may_read(dir, name, ".key"))
        fault(f, name, ".key", "is not readable for this account");
    else if (pki__key(dir, name, ret, NULL) < 0)
        fault(f, name, ".key", "cannot be used as a key of ours");
}

static const char *time_fault(struct faults *f, usec_t not_before, usec_t not_after)
{
    usec_t now = clock_real();
    bool early = now < not_before;
    f->clock = f->clock || early;
    return early ? "is of a time to come: is the clock right?" : now >= not_after ? "has expired" : NULL;
}

static void check_cert(struct faults *f, const char *dir, const char *name, const struct key *key, struct str roots)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT cert = NULL;
    struct cert_info info;
    if (!is_there(dir, name, ".crt")) {
        fault(f, name, ".crt", "is missing");
        return;
    }
    if (pki__cert(dir, name, &pem, &cert, NULL) < 0 || cert_info(cert, &info, NULL) < 0) {
        fault(f, name, ".crt", "is no certificate of ours");
        return;
    }
    const char *when = time_fault(f, info.not_before, info.not_after);
    if (key && !cert_fits_key(cert, key)) {
        AUTO_FREE char *what = str_printf("is not the key of %s.crt", name);
        fault(f, name, ".key", what);
    } else if (when) {
        fault(f, name, ".crt", when);
    } else if (roots.n && cert_verify_chain(buf_str(&pem), roots, 0, clock_real(), NULL, NULL) < 0) {
        fault(f, name, ".crt", "was not signed by root.crt: it is of another CA");
    }
}

/* The text of it, "" where it is not one. */
static void check_roots(struct faults *f, const char *dir, struct buf *pem)
{
    struct cert_roots roots;
    const char *when;
    if (!is_there(dir, "root", ".crt")) {
        fault(f, "root", ".crt", "is missing");
        return;
    }
    if (pki_read(dir, "root.crt", pem, NULL) < 0 || cert_roots_read(buf_str(pem), &roots, NULL) < 0) {
        fault(f, "root", ".crt", "is no root");
        buf_clear(pem);
    } else if ((when = time_fault(f, roots.v[0].not_before, roots.v[0].not_after))) {
        fault(f, "root", ".crt", when);
    }
}

static int end(struct faults *f, const char *dir, struct err *err)
{
    if (f->n) {
        (void)err_set(err, ERR_PRECONDITION, "in %s " STR_FMT, dir, STR_ARG(buf_str(&f->text)));
        err_hint(err, "%s", f->clock ? PKI_CLOCK_CURE : PKI_CURE);
        if (err && f->clock)
            err->reason = PKI_CLOCK;
    }
    int rc = f->n ? -(int)ERR_PRECONDITION : 0;
    buf_release(&f->text);
    return rc;
}

int pki_control_check(const char *dir, struct err *err)
{
    struct faults f = {.text = BUF_INIT(FAULTS_MAX)};
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY own = NULL;
    check_roots(&f, dir, &roots);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        const char *name = pki__authorities[i].name;
        AUTO_KEY key = NULL;
        /* A version of before made no authority of sandboxes: davit up adds it, and nothing has to wait for that. */
        if (i == SANDBOXES_CA && !is_there(dir, name, ".crt"))
            continue;
        check_key(&f, dir, name, &key);
        check_cert(&f, dir, name, key, buf_str(&roots));
    }
    check_key(&f, dir, "controlplane", &own);
    if (is_there(dir, PKI_ACCESS, ".key")) {
        AUTO_KEY access = NULL;
        check_key(&f, dir, PKI_ACCESS, &access);
    }
    return end(&f, dir, err);
}

int pki_control_check_leaf(const char *dir, struct err *err)
{
    struct faults f = {.text = BUF_INIT(FAULTS_MAX)};
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT root = NULL;
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    if (!is_there(dir, "controlplane", ".crt") || pki__key(dir, "controlplane", &key, NULL) < 0 || pki__cert(dir, "root", &roots, &root, NULL) < 0)
        return 0;
    check_cert(&f, dir, "controlplane", key, buf_str(&roots));
    return end(&f, dir, err);
}

bool pki_user_unfinished(const char *dir_user, const char *dir_control)
{
    static const char *const served[] = {"root.crt", "controlplane.crt", PKI_CROSS, PKI_ACCESS_FILE};
    struct faults f = {.text = BUF_INIT(FAULTS_MAX)};
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY own = NULL;
    for (size_t i = 0; i < ARRAY_LEN(served); i++)
        if (is_there(dir_control, served[i], ""))
            return false;
    check_roots(&f, dir_user, &root);
    check_key(&f, dir_control, "controlplane", &own);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        const char *name = pki__authorities[i].name;
        AUTO_KEY key = NULL;
        check_key(&f, dir_control, name, &key);
        if (is_there(dir_control, name, ".crt"))
            check_cert(&f, dir_control, name, key, buf_str(&root));
    }
    buf_release(&f.text);
    return f.n == 0;
}

/* --- The cure --- */

/* Whatever would be made now would begin before the user's root does. */
static int check_clock(const char *dir_user, struct err *err)
{
    struct cert_roots roots;
    if (pki_control_roots(dir_user, &roots, NULL) < 0 || clock_real() >= roots.v[0].not_before)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the root in %s is of a time to come: nothing can be made under it now", dir_user);
    err_hint(err, "%s", PKI_CLOCK_CURE);
    if (err)
        err->reason = PKI_CLOCK;
    return -(int)ERR_PRECONDITION;
}

/* Is the control plane in @dir one of the user's root? Whatever of it is damaged, something of it will say so. */
static bool is_ours(const char *dir, struct str root, const uint8_t pin[SPKI_HASH_SIZE])
{
    struct cert_roots roots;
    if (pki_control_roots(dir, &roots, NULL) == 0 && cert_roots_have(&roots, pin))
        return true;
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
        AUTO_CERT cert = NULL;
        struct cert_info info;
        if (pki__cert(dir, pki__authorities[i].name, &pem, &cert, NULL) == 0 && cert_info(cert, &info, NULL) == 0 &&
            cert_verify_chain(buf_str(&pem), root, 0, info.not_after - USEC_SEC, NULL, NULL) == 0)
            return true;
    }
    return false;
}

static int make_authority(const char *next, const struct authority *a, const struct key *root_key, const struct cert *root, struct err *err)
{
    AUTO_FREE char *csr_path = pki__file(next, a->name, ".csr");
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    AUTO_CSR csr = NULL;
    AUTO_CERT cert = NULL;
    int rc = pki__prepare_authority(next, a, err);
    if (rc == 0)
        rc = fd_read_file(csr_path, &der, err);
    if (rc == 0)
        rc = csr_parse(buf_str(&der), &csr, err);
    if (rc == 0)
        rc = cert_sign_intermediate(root_key, root, csr, &a->spec, &cert, err);
    return rc < 0 ? rc : pki__save(next, a->name, cert, NULL, err);
}

/* All of it beside the old, in next/; then it moves to its place. */
static int make_anew(const char *dir_user, const char *dir, const struct key *root_key, const struct cert *root, struct err *err)
{
    AUTO_FREE char *next = pki__file(dir, PKI_NEXT, "");
    AUTO_FREE char *own = pki__file(next, "controlplane", ".key");
    AUTO_FREE char *access = pki__file(next, PKI_ACCESS, ".key");
    AUTO_FREE char *leaf = pki__file(dir, "controlplane", ".crt");
    AUTO_KEY first = NULL;
    AUTO_KEY second = NULL;
    struct cert_roots roots;
    uint8_t pin[SPKI_HASH_SIZE];
    int rc = fd_remove_tree(next, err);
    if (rc >= 0)
        rc = fd_mkdir_p(next, 0700, err);
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++)
        rc = make_authority(next, &pki__authorities[i], root_key, root, err);
    if (rc == 0)
        rc = key_load_or_make(own, &first, err);
    if (rc == 0)
        rc = key_load_or_make(access, &second, err);
    if (rc == 0)
        rc = pki__hand_over_assertion_key(dir_user, next, err);
    if (rc == 0)
        rc = pki_pin(dir_user, pin, err);
    /* A list that is whole stays: a change of the root goes on. */
    if (rc == 0 && (pki_control_roots(dir, &roots, NULL) < 0 || memcmp(roots.v[0].pin, pin, sizeof(pin)) != 0))
        rc = pki__save(next, "root", root, NULL, err);
    if (rc == 0)
        rc = pki__make_ready(next, err);
    if (rc == 0)
        rc = pki_control_settle(dir, err);
    /* Of the key of before; the control plane makes it at its start. */
    if (rc >= 0 && unlink(leaf) < 0 && errno != ENOENT)
        rc = err_sys(err, errno, "%s cannot be removed", leaf);
    return rc;
}

int pki_user_repair(const char *dir_user, const char *dir, struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    uint8_t pin[SPKI_HASH_SIZE];
    int rc = check_clock(dir_user, err); /* first: pki_user_init would renew what it finds too young */
    if (rc == 0)
        rc = pki_control_settle(dir, err);
    if (rc >= 0)
        rc = pki_user_init(dir_user, err);
    /* The control plane may be ahead of a change of the root that was cut off here. */
    if (rc == 0 && pki_pin(dir, pin, NULL) == 0)
        rc = pki_user_switch(dir_user, pin, err);
    if (rc >= 0)
        rc = pki__cert(dir_user, "root", &pem, &root, err);
    if (rc == 0)
        rc = pki__key(dir_user, "root", &key, err);
    if (rc == 0)
        rc = pki_pin(dir_user, pin, err);
    if (rc < 0)
        return rc;
    if (!is_ours(dir, buf_str(&pem), pin)) {
        (void)err_set(err, ERR_PRECONDITION, "the control plane in %s belongs to another root", dir);
        err_hint(err, "Use the configuration directory of the user who set it up.");
        return -(int)ERR_PRECONDITION;
    }
    rc = make_anew(dir_user, dir, key, root, err);
    return rc < 0 ? rc : 0;
}
