/* SPDX-License-Identifier: Apache-2.0 */
/* material — see material.h.
 * Three files cannot be replaced at once: renewal.pem, which is all of them, stands there before the first is touched and goes when the last is done.
 * It counts only where the three do not fit together, so that material which was put there afterwards is never overruled by it. */
#include "session/material.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/mem.h"

static const char JOURNAL[] = "renewal.pem";
/* Between the three in it: no PEM has it. */
static const char MARK[] = "\n#davit#\n";

void material_init(struct material *m)
{
    m->cert = BUF_INIT(MATERIAL_FILE_MAX);
    m->key = BUF_INIT(MATERIAL_FILE_MAX);
    m->ca = BUF_INIT(MATERIAL_FILE_MAX);
}

void material_release(struct material *m)
{
    buf_release(&m->cert);
    secret_buf_release(&m->key);
    buf_release(&m->ca);
}

int material_tls(const struct material *m, const char *peer, bool server, struct tls_ctx **ret, struct err *err)
{
    const struct tls_config config = {
        .server = server,
        .cert_pem = buf_str(&m->cert),
        .key_pem = buf_str(&m->key),
        .ca_pem = buf_str(&m->ca),
        .verify = TLS_VERIFY_REQUIRED,
        .peer_uri = peer,
        .alpn = "h2",
    };
    return tls_ctx_new(&config, ret, err);
}

static int check(const struct material *m, struct err *err)
{
    struct tls_ctx *tls = NULL;
    int rc = material_tls(m, NULL, true, &tls, err);

    (void)tls_ctx_unref(tls);
    return rc < 0 ? err_set(err, ERR_INVALID, "certificate, key and roots do not fit together: %s", err ? err->msg : "") : 0;
}

static int read_one(const char *folder, const char *name, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", folder, name);
    struct err cause = ERR_INIT;

    /* Whole at once: what a buffer outgrows is not wiped. */
    if (!buf_reserve(out, out->max) || fd_read_file(path, out, &cause) < 0)
        return err_set(err, ERR_PRECONDITION, "material: %s", cause.msg[0] ? cause.msg : path);
    return 0;
}

static int read_three(const char *folder, struct material *m, struct err *err)
{
    int rc = read_one(folder, "cert.pem", &m->cert, err);

    if (rc == 0)
        rc = read_one(folder, "key.pem", &m->key, err);
    if (rc == 0)
        rc = read_one(folder, "ca.pem", &m->ca, err);
    return rc == 0 ? check(m, err) : rc;
}

static int write_one(const char *folder, const char *name, const struct buf *b, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", folder, name);
    return fd_write_file(path, b->data, b->len, 0400, err);
}

/* The roots first: they are the only ones that fit to either of the others. */
static int write_three(const char *folder, const struct material *m, struct err *err)
{
    int rc = write_one(folder, "ca.pem", &m->ca, err);

    if (rc == 0)
        rc = write_one(folder, "cert.pem", &m->cert, err);
    if (rc == 0)
        rc = write_one(folder, "key.pem", &m->key, err);
    return rc;
}

static void remove_journal(const char *folder)
{
    AUTO_FREE char *path = str_printf("%s/%s", folder, JOURNAL);
    (void)unlink(path);
}

int material_write(const char *folder, const struct material *m, struct err *err)
{
    AUTO_SECRET_BUF all = BUF_INIT(3 * MATERIAL_FILE_MAX + 2 * sizeof(MARK));
    int rc;

    if (!buf_reserve(&all, all.max))
        return err_set(err, ERR_EXHAUSTED, "material: too much");
    rc = buf_append_str(&all, buf_str(&m->cert)) == 0 && buf_append_cstr(&all, MARK) == 0 && buf_append_str(&all, buf_str(&m->key)) == 0 &&
                 buf_append_cstr(&all, MARK) == 0 && buf_append_str(&all, buf_str(&m->ca)) == 0
             ? 0
             : err_set(err, ERR_EXHAUSTED, "material: too much");
    if (rc == 0)
        rc = write_one(folder, JOURNAL, &all, err);
    if (rc == 0)
        rc = write_three(folder, m, err);
    if (rc == 0)
        remove_journal(folder);
    return rc;
}

static bool cut_part(struct str *rest, struct buf *out)
{
    const char *end = rest->p ? memmem(rest->p, rest->n, MARK, sizeof(MARK) - 1) : NULL;
    struct str part = *rest;

    if (end) {
        part.n = (size_t)(end - rest->p);
        *rest = (struct str){end + sizeof(MARK) - 1, rest->n - part.n - (sizeof(MARK) - 1)};
    } else {
        *rest = (struct str){0};
    }
    return part.n > 0 && part.n <= out->max && buf_reserve(out, out->max) && buf_append_str(out, part) == 0;
}

/* What a renewal that was cut off would have written. 0, or negative. */
static int read_journal(const char *folder, struct material *m)
{
    AUTO_SECRET_BUF all = BUF_INIT(3 * MATERIAL_FILE_MAX + 2 * sizeof(MARK));
    struct str rest;

    if (read_one(folder, JOURNAL, &all, NULL) < 0)
        return -(int)ERR_NOT_FOUND;
    rest = buf_str(&all);
    if (!cut_part(&rest, &m->cert) || !cut_part(&rest, &m->key) || !cut_part(&rest, &m->ca))
        return -(int)ERR_INVALID;
    return check(m, NULL);
}

int material_read(const char *folder, struct material *ret, struct err *err)
{
    struct material renewed;
    int rc = read_three(folder, ret, err);

    if (rc == -(int)ERR_INVALID) {
        material_init(&renewed);
        if (read_journal(folder, &renewed) == 0 && write_three(folder, &renewed, NULL) == 0) {
            material_release(ret);
            *ret = renewed;
            rc = 0;
        } else {
            material_release(&renewed);
        }
    }
    if (rc == 0)
        remove_journal(folder);
    return rc;
}

int material_set(const char *cert, const char *key, const char *ca, struct material *ret, struct err *err)
{
    if (!*cert || !*key || !*ca || strlen(cert) > MATERIAL_FILE_MAX || strlen(key) > MATERIAL_FILE_MAX || strlen(ca) > MATERIAL_FILE_MAX)
        return err_set(err, ERR_INVALID, "certificate, key and roots: each must be there and have at most %d bytes", (int)MATERIAL_FILE_MAX);
    if (strstr(cert, MARK) || strstr(key, MARK))
        return err_set(err, ERR_INVALID, "this is no PEM");
    if (!buf_reserve(&ret->key, ret->key.max) || buf_append_cstr(&ret->cert, cert) < 0 || buf_append_cstr(&ret->key, key) < 0 ||
        buf_append_cstr(&ret->ca, ca) < 0)
        return err_set(err, ERR_INVALID, "too much material");
    return check(ret, err);
}

int material_take_assertion(const char *folder, struct secret **ret, struct err *err)
{
    AUTO_SECRET_BUF text = BUF_INIT(MATERIAL_ASSERTION_MAX);
    AUTO_FREE char *path = str_printf("%s/assertion.jwt", folder);
    int rc;

    *ret = NULL;
    if (!buf_reserve(&text, text.max))
        return err_set(err, ERR_EXHAUSTED, "%s: too much", path);
    rc = fd_read_file(path, &text, err);
    if (rc == -(int)ERR_NOT_FOUND)
        return 0;
    if (rc < 0)
        return rc;
    if (unlink(path) < 0)
        return err_sys(err, errno, "cannot remove %s", path);
    struct str word = str_trim(buf_str(&text));
    while (word.n && (word.p[word.n - 1] == '\n' || word.p[word.n - 1] == '\r'))
        word.n--;
    *ret = word.n ? secret_new(word) : NULL;
    return 0;
}
