/* SPDX-License-Identifier: Apache-2.0 */
/* pki_roots — see pki_roots.h. */
#include "ident/pki_roots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/secret.h"
#include "ident/jws.h"
#include "ident/key.h"
#include "ident/pki_internal.h"

static const char READY[] = "ready";

/* What moves, in this order: root.crt is what tells that a step was taken. */
static const char *const user_moves[] = {"old-root.key", "old-root.crt", "cli.key", "cli.crt", PKI_ASSERTION_KEY, "root.key", "root.crt", NULL};
static const char *const control_moves[] = {
    "server-ca.key",    "server-ca.csr",    "server-ca.crt",    "agents-ca.key", "agents-ca.csr", "agents-ca.crt",
    "sandboxes-ca.key", "sandboxes-ca.csr", "sandboxes-ca.crt", "controlplane.key", PKI_CROSS,
    PKI_OLD_ACCESS,     PKI_ACCESS_FILE,    PKI_OLD_ASSERTION,  PKI_ASSERTION_FILE, PKI_END,    "root.crt",         NULL};

const char *pki_authority_name(size_t i)
{
    return pki__authorities[i].name;
}

/* --- Steps of several files --- */

/* By descriptors: the directory may belong to another account than ours, and a link in it must lead nowhere. */
static int move_all(int from, int to, const char *const *names, struct err *err)
{
    for (size_t i = 0; names[i]; i++)
        if (renameat(from, names[i], to, names[i]) != 0 && errno != ENOENT)
            return err_sys(err, errno, "%s/%s cannot be moved to its place", PKI_NEXT, names[i]);
    if (fsync(to) != 0 || fsync(from) != 0)
        return err_sys(err, errno, "the directory of the keys cannot be flushed");
    if (unlinkat(from, READY, 0) != 0 && errno != ENOENT)
        return err_sys(err, errno, "%s/%s cannot be removed", PKI_NEXT, READY);
    (void)unlinkat(to, PKI_NEXT, AT_REMOVEDIR);
    return fsync(to) != 0 ? err_sys(err, errno, "the directory of the keys cannot be flushed") : 1;
}

static int settle(const char *dir, const char *const *names, struct err *err)
{
    AUTO_FD int to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FD int from = to < 0 ? -1 : openat(to, PKI_NEXT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || faccessat(from, READY, F_OK, 0) != 0)
        return 0;
    return move_all(from, to, names, err);
}

int pki_user_settle(const char *dir, struct err *err)
{
    return settle(dir, user_moves, err);
}

int pki_control_settle(const char *dir, struct err *err)
{
    return settle(dir, control_moves, err);
}

static char *next_of(const char *dir)
{
    return pki__file(dir, PKI_NEXT, "");
}

static int make_next(const char *next, struct err *err)
{
    int rc = fd_mkdir_p(next, 0700, err);
    return rc < 0 ? rc : fd_sync_parent(next, err);
}

int pki__make_ready(const char *next, struct err *err)
{
    AUTO_FREE char *path = pki__file(next, READY, "");
    return fd_write_file(path, "", 0, 0600, err);
}

static int put(const char *dir, const char *name, struct str text, mode_t mode, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, "");
    return fd_write_file(path, text.p, text.n, mode, err);
}

/* --- The user's side --- */

/* The present root as it will be called afterwards. */
static int copy_root(const struct key *key, const struct cert *root, const char *next, struct err *err)
{
    AUTO_SECRET pem = NULL;
    int rc = key_to_pem(key, &pem, err);
    if (rc == 0)
        rc = put(next, "old-root.key", secret_reveal(pem), 0600, err);
    return rc < 0 ? rc : pki__save(next, "old-root", root, NULL, err);
}

int pki_user_next(const char *dir, struct buf *root, struct buf *cross, struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT old = NULL;
    AUTO_CERT fresh = NULL;
    AUTO_CERT made = NULL;
    int rc = pki__cert(dir, "root", &pem, &old, err);
    if (rc == 0)
        rc = pki__key(dir, "root", &key, err);
    if (rc == 0)
        rc = make_next(next, err);
    if (rc == 0)
        rc = pki_user_init(next, err);
    if (rc == 0)
        rc = copy_root(key, old, next, err);
    if (rc == 0)
        rc = pki__cert(next, "root", root, &fresh, err);
    if (rc == 0)
        rc = cert_sign_cross(key, old, fresh, &made, err);
    return rc < 0 ? rc : cert_to_pem(made, cross, err);
}

int pki_user_next_assertion(const char *dir, struct buf *jwk, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/" PKI_NEXT "/" PKI_ASSERTION ".key", dir);
    AUTO_KEY key = NULL;
    int rc = key_load_or_make(path, &key, err);
    return rc < 0 ? rc : pki__jwk(key, jwk, err);
}

int pki_user_sign_next(const char *dir, size_t i, struct str csr_der, struct buf *out, struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    AUTO_CERT made = NULL;
    AUTO_CSR csr = NULL;
    int rc = pki__cert(next, "root", &pem, &root, err);
    if (rc == 0)
        rc = pki__key(next, "root", &key, err);
    if (rc == 0)
        rc = csr_parse(csr_der, &csr, err);
    if (rc == 0)
        rc = cert_sign_intermediate(key, root, csr, &pki__authorities[i].spec, &made, err);
    return rc < 0 ? rc : cert_to_pem(made, out, err);
}

int pki_user_switch(const char *dir, const uint8_t pin[SPKI_HASH_SIZE], struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    uint8_t present[SPKI_HASH_SIZE];
    int rc = pki_user_settle(dir, err);
    if (rc >= 0)
        rc = pki_pin(dir, present, err);
    if (rc < 0 || memcmp(present, pin, sizeof(present)) == 0)
        return rc < 0 ? rc : 0;
    if (pki_pin(next, present, NULL) < 0 || memcmp(present, pin, sizeof(present)) != 0)
        return 1;
    rc = pki__make_ready(next, err);
    if (rc == 0)
        rc = pki_user_settle(dir, err);
    /* Another run of ours may have been faster. */
    if (rc < 0 && pki_pin(dir, present, NULL) == 0 && memcmp(present, pin, sizeof(present)) == 0) {
        if (err)
            *err = ERR_INIT;
        rc = 0;
    }
    return rc < 0 ? rc : 0;
}

char *pki_user_next_dir(const char *dir)
{
    return next_of(dir);
}

int pki_user_follow(const char *dir, const char *dir_control, struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    uint8_t waits[SPKI_HASH_SIZE], first[SPKI_HASH_SIZE];
    int rc = pki_user_settle(dir, err);
    if (rc != 0 || pki_pin(next, waits, NULL) < 0 || pki_pin(dir_control, first, NULL) < 0 || memcmp(waits, first, sizeof(waits)) != 0)
        return rc;
    rc = pki_user_switch(dir, first, err);
    return rc < 0 ? rc : 1;
}

static int drop(const char *dir, const char *name, bool *had, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, "");
    if (unlink(path) == 0)
        *had = true;
    else if (errno != ENOENT)
        return err_sys(err, errno, "%s cannot be removed", path);
    return 0;
}

int pki_user_drop_old(const char *dir, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, "old-root", ".key");
    bool had = false;
    int rc = drop(dir, "old-root.key", &had, err);
    if (rc == 0)
        rc = drop(dir, "old-root.crt", &had, err);
    if (rc == 0 && had)
        rc = fd_sync_parent(path, err);
    return rc < 0 ? rc : !had;
}

/* --- The control plane's side --- */

int pki_control_roots(const char *dir, struct cert_roots *ret, struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    int rc = pki_read(dir, "root.crt", &pem, err);
    return rc < 0 ? rc : cert_roots_read(buf_str(&pem), ret, err);
}

int pki_control_cross(const char *dir, struct buf *out, struct err *err)
{
    struct cert_roots roots;
    int rc = pki_control_roots(dir, &roots, err);
    return rc < 0 || roots.n < 2 ? rc : pki_read(dir, PKI_CROSS, out, err);
}

int pki_control_tell(const char *dir, struct buf *roots, struct buf *cross, struct err *err)
{
    int rc = pki_read(dir, "root.crt", roots, err);
    return rc < 0 ? rc : pki_control_cross(dir, cross, err);
}

int pki_control_chain(const char *dir, struct buf *out, struct err *err)
{
    int rc = pki_read(dir, "controlplane.crt", out, err);
    /* Before the roots: who builds a chain takes the first that fits, and who has the old root only must come to the cross certificate. */
    if (rc == 0)
        rc = pki_control_cross(dir, out, err);
    return rc < 0 ? rc : pki_read(dir, "root.crt", out, err);
}

static int already(struct err *err)
{
    return err_set(err, ERR_PRECONDITION, "the root is being changed already");
}

int pki_control_next(const char *dir, struct buf requests[PKI_AUTHORITIES], struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    struct cert_roots roots;
    int rc = pki_control_roots(dir, &roots, err);
    if (rc == 0 && roots.n > 1)
        rc = already(err);
    if (rc == 0)
        rc = make_next(next, err);
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++) {
        AUTO_FREE char *name = str_printf("%s.csr", pki__authorities[i].name);
        rc = pki__prepare_authority(next, &pki__authorities[i], err);
        if (rc == 0)
            rc = pki_read(next, name, &requests[i], err);
    }
    return rc;
}

static int unfit(struct err *err, const char *what, const struct err *why)
{
    return err_set(err, ERR_INVALID, "%s: %s", what, why->code ? why->msg : "it does not fit");
}

/* One intermediate: of the key that waits in @next, believed under the new root, and with the cross certificate under the old one. */
static int check_authority(const char *next, const struct pki_begin *b, size_t i, struct str old, struct err *err)
{
    const char *name = pki__authorities[i].name;
    AUTO_BUF crossed = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT cert = NULL;
    struct err why = ERR_INIT;
    int rc = pki__key(next, name, &key, err);
    if (rc == -ERR_NOT_FOUND)
        return err_set(err, ERR_PRECONDITION, "the next intermediates were not asked for");
    if (rc < 0)
        return rc;
    if (cert_from_pem(b->authorities[i], &cert, &why) < 0 || !cert_fits_key(cert, key))
        return unfit(err, name, &why);
    if (cert_to_pem(cert, &crossed, &why) < 0 || cert_verify_chain(buf_str(&crossed), b->root, 0, clock_real(), NULL, &why) < 0)
        return unfit(err, name, &why);
    if (buf_append_str(&crossed, b->cross) < 0 || cert_verify_chain(buf_str(&crossed), old, 0, clock_real(), NULL, &why) < 0)
        return unfit(err, "the cross certificate", &why);
    return pki__save(next, name, cert, NULL, err);
}

/* root.crt of the change: the new root, then the old one. */
static int write_roots(const char *next, const struct pki_begin *b, const struct cert *old, struct err *err)
{
    AUTO_CERT fresh = NULL;
    AUTO_CERT cross = NULL;
    int rc = cert_from_pem(b->cross, &cross, err);
    if (rc == 0)
        rc = pki__save(next, "root-cross", cross, NULL, err);
    if (rc == 0)
        rc = cert_from_pem(b->root, &fresh, err);
    return rc < 0 ? rc : pki__save(next, "root", fresh, old, err);
}

/* A file that is there is in @next under another name as well, so that it stays when the new one takes its place. */
static int keep_old(const char *dir, const char *next, const char *name, const char *old, struct err *err)
{
    AUTO_SECRET_BUF text = BUF_INIT(KEY_PEM_MAX);
    BUG_ON(!buf_reserve(&text, KEY_PEM_MAX));
    int rc = pki_read(dir, name, &text, err);
    if (rc == -ERR_NOT_FOUND) {
        if (err)
            *err = ERR_INIT;
        return 0;
    }
    return rc < 0 ? rc : put(next, old, buf_str(&text), str_ends(str_from(old), STR(".key")) ? 0600 : 0644, err);
}

/* What signs tokens and assertions changes with the root. */
static int write_keys(const char *dir, const char *next, const struct pki_begin *b, struct err *err)
{
    AUTO_FREE char *path = pki__file(next, PKI_ACCESS, ".key");
    AUTO_FREE char *end = pki__file(next, PKI_END, "");
    AUTO_FREE char *text = str_printf("%" PRIu64, b->end);
    AUTO_KEY key = NULL;
    struct jwk jwk;
    int rc = key_load_or_make(path, &key, err);
    if (rc == 0)
        rc = keep_old(dir, next, PKI_ACCESS ".key", PKI_OLD_ACCESS, err);
    if (rc == 0 && b->assertion.n && jwk_parse(b->assertion, &jwk, NULL) < 0)
        rc = err_set(err, ERR_INVALID, "assertion_jwk: it is no public key");
    if (rc == 0 && b->assertion.n)
        rc = keep_old(dir, next, PKI_ASSERTION ".jwk", PKI_OLD_ASSERTION, err);
    if (rc == 0 && b->assertion.n)
        rc = put(next, PKI_ASSERTION ".jwk", b->assertion, 0644, err);
    if (rc == 0 && b->end)
        rc = put(next, PKI_END, str_from(text), 0644, err);
    else if (rc == 0 && unlink(end) < 0 && errno != ENOENT)
        rc = err_sys(err, errno, "%s cannot be removed", end);
    return rc;
}

int pki_control_begin(const char *dir, const struct pki_begin *b, struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    AUTO_BUF old_pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT old = NULL;
    struct cert_roots present, wanted;
    struct err why = ERR_INIT;
    int rc = pki_control_roots(dir, &present, err);
    if (rc < 0)
        return rc;
    if (cert_roots_read(b->root, &wanted, &why) < 0 || wanted.n != 1)
        return unfit(err, "the new root", &why);
    if (memcmp(present.v[0].pin, wanted.v[0].pin, SPKI_HASH_SIZE) == 0)
        return 1;
    if (present.n > 1)
        return already(err);
    rc = pki__cert(dir, "root", &old_pem, &old, err);
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++)
        rc = check_authority(next, b, i, buf_str(&old_pem), err);
    if (rc == 0)
        rc = write_keys(dir, next, b, err);
    if (rc == 0)
        rc = write_roots(next, b, old, err);
    if (rc == 0)
        rc = pki__make_ready(next, err);
    if (rc == 0)
        rc = pki_control_settle(dir, err);
    return rc < 0 ? rc : 0;
}

usec_t pki_control_end(const char *dir)
{
    AUTO_BUF text = BUF_INIT(64);
    uint64_t end = 0;
    return pki_read(dir, PKI_END, &text, NULL) == 0 && str_to_u64(str_trim(buf_str(&text)), INT64_MAX, &end) == 0 ? end : 0;
}

int pki_control_finish(const char *dir, struct err *err)
{
    AUTO_FREE char *next = next_of(dir);
    AUTO_FREE char *key_path = pki__file(next, "controlplane", ".key");
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    static const char *const rest[] = {PKI_CROSS, PKI_OLD_ACCESS, PKI_OLD_ASSERTION, PKI_END};
    struct cert_roots roots;
    bool had = false;
    int rc = pki_control_roots(dir, &roots, err);
    if (rc < 0)
        return rc;
    if (roots.n > 1 && (rc = pki__cert(dir, "root", &pem, &root, err)) == 0) {
        /* Nothing of another step may move along. */
        rc = fd_remove_tree(next, err);
        if (rc == 0)
            rc = make_next(next, err);
        if (rc == 0)
            rc = key_load_or_make(key_path, &key, err);
        if (rc == 0)
            rc = pki__save(next, "root", root, NULL, err);
        if (rc == 0)
            rc = pki__make_ready(next, err);
        if (rc == 0)
            rc = pki_control_settle(dir, err);
    }
    for (size_t i = 0; rc >= 0 && i < ARRAY_LEN(rest); i++)
        rc = drop(dir, rest[i], &had, err);
    return rc < 0 ? rc : roots.n == 1;
}
