/* SPDX-License-Identifier: Apache-2.0 */
/* The root is changed: whoever knows the old root, the new one or the pin of either believes the control plane until the end, and nobody who knows
 * the old one only afterwards; a crash between any two steps, and within one, changes nothing about that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "ident/proof.h"

#define SERVER_ID "01234567-89ab-cdef-0123-456789abcdef"

static const char *const NAMES[] = {"localhost", "127.0.0.1"};

struct fixture {
    char top[64];
    char *user, *control;
    struct buf old; /* the root of the beginning */
    uint8_t old_pin[SPKI_HASH_SIZE];
};

/* What `davit up` and the start of davitd do. */
static void up(const struct fixture *f)
{
    struct err err = ERR_INIT;
    assert_int_equal(pki_user_init(f->user, &err), 0);
    assert_int_equal(pki_control_prepare(f->control, &err), 0);
    assert_int_equal(pki_user_sign(f->user, f->control, &err), 0);
    assert_true(pki_control_settle(f->control, &err) >= 0);
    assert_int_equal(pki_control_state(f->control, &err), 0);
    assert_true(pki_control_leaf(f->control, NAMES, 2, &err) >= 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->top, sizeof(f->top), "/tmp/davit-roots-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    f->user = str_printf("%s/user", f->top);
    f->control = str_printf("%s/control", f->top);
    buf_init(&f->old, CERT_PEM_MAX);
    up(f);
    assert_int_equal(pki_read(f->user, "root.crt", &f->old, NULL), 0);
    assert_int_equal(pki_pin(f->user, f->old_pin, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fd_remove_tree(f->top, NULL), 0);
    buf_release(&f->old);
    free(f->user);
    free(f->control);
    free(f);
    return 0;
}

/* --- Who believes whom --- */

static bool believes(const struct fixture *f, struct str roots, const uint8_t *pin)
{
    static const uint8_t digest[PROOF_SIZE] = {1};
    const struct proof_trust trust = {.roots_pem = roots, .pin = pin};
    AUTO_FREE char *path = str_printf("%s/controlplane.key", f->control);
    AUTO_BUF chain = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF signature = BUF_INIT(PROOF_SIGNATURE_MAX);
    AUTO_KEY key = NULL;
    assert_int_equal(key_load(path, &key, NULL), 0);
    assert_int_equal(pki_control_chain(f->control, &chain, NULL), 0);
    assert_int_equal(proof_sign(key, digest, &signature, NULL), 0);
    return proof_control_plane(buf_str(&chain), &trust, clock_real(), digest, buf_str(&signature), NULL, NULL) == 0;
}

static void issue(const struct fixture *f, struct buf *chain)
{
    struct pki_issued issued;
    AUTO_KEY key = NULL;
    AUTO_BUF csr = BUF_INIT(CSR_MAX);
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "x", &csr, NULL), 0);
    assert_int_equal(pki_control_sign_agent(f->control, buf_str(&csr), SERVER_ID, 1, USEC_DAY, chain, &issued, NULL), 0);
}

static bool holds(const struct buf *chain, const char *dir)
{
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    assert_int_equal(pki_read(dir, "root.crt", &roots, NULL), 0);
    return cert_verify_chain(buf_str(chain), buf_str(&roots), CERT_CLIENT, clock_real(), NULL, NULL) == 0;
}

static void cli_chain(const struct fixture *f, struct buf *chain)
{
    assert_int_equal(pki_read(f->user, "cli.crt", chain, NULL), 0);
}

/* --- Steps --- */

struct made {
    struct buf root, cross, requests[PKI_AUTHORITIES], certs[PKI_AUTHORITIES];
    struct pki_begin b;
};

static void made_release(struct made *m)
{
    buf_release(&m->root);
    buf_release(&m->cross);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        buf_release(&m->requests[i]);
        buf_release(&m->certs[i]);
    }
}

static void made_init(struct made *m)
{
    buf_init(&m->root, CERT_PEM_MAX);
    buf_init(&m->cross, CERT_PEM_MAX);
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        buf_init(&m->requests[i], CSR_MAX);
        buf_init(&m->certs[i], CERT_PEM_MAX);
    }
}

static void make(const struct fixture *f, struct made *m)
{
    struct err err = ERR_INIT;
    made_init(m);
    assert_int_equal(pki_user_next(f->user, &m->root, &m->cross, &err), 0);
    assert_int_equal(pki_control_next(f->control, m->requests, &err), 0);
    m->b = (struct pki_begin){.root = buf_str(&m->root), .cross = buf_str(&m->cross)};
    for (size_t i = 0; i < PKI_AUTHORITIES; i++) {
        assert_int_equal(pki_user_sign_next(f->user, i, buf_str(&m->requests[i]), &m->certs[i], &err), 0);
        m->b.authorities[i] = buf_str(&m->certs[i]);
    }
}

static void begin(const struct fixture *f, int expected)
{
    CLEANUP(made_release) struct made m;
    struct err err = ERR_INIT;
    make(f, &m);
    assert_int_equal(pki_control_begin(f->control, &m.b, &err), expected);
    assert_true(pki_control_leaf(f->control, NAMES, 2, &err) >= 0);
}

static void switch_over(const struct fixture *f)
{
    uint8_t pin[SPKI_HASH_SIZE];
    assert_int_equal(pki_pin(f->control, pin, NULL), 0);
    assert_int_equal(pki_user_switch(f->user, pin, NULL), 0);
}

static bool there(const char *dir, const char *name)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* Not before the change is finished. */
static void third_root_refused(const struct fixture *f)
{
    CLEANUP(made_release) struct made m;
    made_init(&m);
    assert_int_equal(pki_user_next(f->user, &m.root, &m.cross, NULL), 0);
    assert_int_equal(pki_control_next(f->control, m.requests, NULL), -ERR_PRECONDITION);
    m.b = (struct pki_begin){.root = buf_str(&m.root), .cross = buf_str(&m.cross)};
    assert_int_equal(pki_control_begin(f->control, &m.b, NULL), -ERR_PRECONDITION);
    assert_false(there(f->control, "next"));
}

static void test_change(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF before = BUF_INIT(CERT_PEM_MAX), after = BUF_INIT(CERT_PEM_MAX), fresh = BUF_INIT(CERT_PEM_MAX), both = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF cli = BUF_INIT(CERT_PEM_MAX), cli2 = BUF_INIT(CERT_PEM_MAX);
    struct cert_roots roots;
    issue(f, &before);
    cli_chain(f, &cli);
    begin(f, 0);
    assert_int_equal(pki_control_roots(f->control, &roots, NULL), 0);
    assert_int_equal(roots.n, 2);
    assert_memory_equal(roots.v[1].pin, f->old_pin, SPKI_HASH_SIZE);
    assert_false(there(f->control, "next"));
    /* The user is the one of before still, and everybody is believed. */
    assert_true(holds(&cli, f->control));
    assert_true(believes(f, buf_str(&f->old), NULL));
    switch_over(f);
    assert_true(there(f->user, "old-root.key") && !there(f->user, "next"));
    assert_int_equal(pki_read(f->user, "root.crt", &fresh, NULL), 0);
    assert_int_equal(pki_read(f->control, "root.crt", &both, NULL), 0);
    cli_chain(f, &cli2);
    issue(f, &after);
    assert_true(holds(&cli2, f->control) && holds(&before, f->control) && holds(&after, f->control));
    assert_true(believes(f, buf_str(&f->old), NULL) && believes(f, buf_str(&fresh), NULL) && believes(f, buf_str(&both), NULL));
    assert_true(believes(f, STR(""), f->old_pin) && believes(f, STR(""), roots.v[0].pin));
    /* What is issued now is believed by who knows the old root only: so a renewal can carry the new one. */
    assert_int_equal(cert_verify_chain(buf_str(&after), buf_str(&f->old), CERT_CLIENT, clock_real(), NULL, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&before), buf_str(&fresh), CERT_CLIENT, clock_real(), NULL, NULL), -ERR_UNAUTHENTICATED);
    up(f);
    third_root_refused(f);

    assert_int_equal(pki_control_finish(f->control, NULL), 0);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    assert_int_equal(pki_control_finish(f->control, NULL), 1);
    assert_int_equal(pki_user_drop_old(f->user, NULL), 0);
    assert_int_equal(pki_user_drop_old(f->user, NULL), 1);
    assert_false(there(f->control, PKI_CROSS) || there(f->user, "old-root.key") || there(f->user, "old-root.crt"));
    assert_true(holds(&cli2, f->control) && holds(&after, f->control));
    assert_false(holds(&before, f->control) || holds(&cli, f->control));
    assert_true(believes(f, buf_str(&fresh), NULL) && believes(f, buf_str(&both), NULL) && believes(f, STR(""), roots.v[0].pin));
    assert_false(believes(f, buf_str(&f->old), NULL) || believes(f, STR(""), f->old_pin));
    up(f);
    assert_int_equal(pki_control_roots(f->control, &roots, NULL), 0);
    assert_int_equal(roots.n, 1);
}

/* Every key but those of agents is another one at the end. */
static void test_keys_are_new(void **state)
{
    static const char *const keys[] = {"server-ca.key", "agents-ca.key", "sandboxes-ca.key", "controlplane.key"};
    struct fixture *f = *state;
    struct buf old[ARRAY_LEN(keys)];
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        buf_init(&old[i], KEY_PEM_MAX);
        assert_int_equal(pki_read(f->control, keys[i], &old[i], NULL), 0);
    }
    begin(f, 0);
    switch_over(f);
    assert_int_equal(pki_control_finish(f->control, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        AUTO_BUF now = BUF_INIT(KEY_PEM_MAX);
        assert_int_equal(pki_read(f->control, keys[i], &now, NULL), 0);
        assert_false(str_eq(buf_str(&now), buf_str(&old[i])));
        buf_release(&old[i]);
    }
}

/* One that was given up after each of its steps is gone on with, with the same root. */
static void test_repeated(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_release) struct made m, m2;
    uint8_t pin[SPKI_HASH_SIZE], wanted[SPKI_HASH_SIZE];
    make(f, &m);
    up(f);
    make(f, &m2);
    assert_true(str_eq(m.b.root, m2.b.root));
    for (size_t i = 0; i < PKI_AUTHORITIES; i++)
        assert_true(str_eq(buf_str(&m.requests[i]), buf_str(&m2.requests[i])));
    assert_int_equal(cert_pem_pin(m.b.root, wanted, NULL), 0);
    assert_int_equal(pki_user_switch(f->user, f->old_pin, NULL), 0); /* nothing: the control plane has not begun */
    assert_int_equal(pki_pin(f->user, pin, NULL), 0);
    assert_memory_equal(pin, f->old_pin, sizeof(pin));
    assert_int_equal(pki_control_begin(f->control, &m.b, NULL), 0);
    assert_int_equal(pki_control_begin(f->control, &m2.b, NULL), 1);
    /* davit up instead of the switch. */
    up(f);
    assert_int_equal(pki_pin(f->user, pin, NULL), 0);
    assert_memory_equal(pin, wanted, sizeof(pin));
    assert_true(there(f->user, "old-root.key"));
    up(f);
    assert_true(believes(f, buf_str(&f->old), NULL) && believes(f, m.b.root, NULL));
}

/* The answer to the beginning was lost: whatever the user does next goes on with it, and not before it has begun. */
/* req: CW-12 */
static void test_answer_lost(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_release) struct made m;
    AUTO_FREE char *next = pki_user_next_dir(f->user);
    AUTO_FREE char *nowhere = str_printf("%s/nowhere", f->top);
    AUTO_BUF waits = BUF_INIT(CERT_PEM_MAX), cli = BUF_INIT(CERT_PEM_MAX);
    uint8_t pin[SPKI_HASH_SIZE], wanted[SPKI_HASH_SIZE];
    assert_int_equal(pki_user_follow(f->user, f->control, NULL), 0);
    make(f, &m);
    assert_int_equal(pki_user_follow(f->user, f->control, NULL), 0);
    assert_int_equal(pki_pin(f->user, pin, NULL), 0);
    assert_memory_equal(pin, f->old_pin, sizeof(pin));
    assert_int_equal(pki_control_begin(f->control, &m.b, NULL), 0);
    /* What waits is what opens when the change is over. */
    assert_int_equal(pki_read(next, "cli.crt", &waits, NULL), 0);
    assert_true(holds(&waits, f->control) && there(next, "cli.key"));
    assert_int_equal(pki_user_follow(f->user, nowhere, NULL), 0);
    assert_int_equal(pki_user_follow(f->user, f->control, NULL), 1);
    assert_int_equal(cert_pem_pin(m.b.root, wanted, NULL), 0);
    assert_int_equal(pki_pin(f->user, pin, NULL), 0);
    assert_memory_equal(pin, wanted, sizeof(pin));
    cli_chain(f, &cli);
    assert_true(str_eq(buf_str(&cli), buf_str(&waits)));
    assert_int_equal(pki_user_follow(f->user, f->control, NULL), 0);
}

/* --- A crash in the middle of a step --- */

static const char *const moved[] = {"server-ca.key",    "server-ca.csr",    "server-ca.crt", "agents-ca.key",    "agents-ca.csr", "agents-ca.crt",
                                    "sandboxes-ca.key", "sandboxes-ca.csr", "sandboxes-ca.crt", PKI_CROSS, "root.crt"};
enum { MOVED = ARRAY_LEN(moved) };

static void read_all(const char *dir, struct buf files[MOVED], bool read)
{
    for (size_t i = 0; i < MOVED; i++) {
        if (read)
            buf_init(&files[i], CERT_PEM_MAX);
        if (read && there(dir, moved[i]))
            assert_int_equal(pki_read(dir, moved[i], &files[i], NULL), 0);
        if (!read)
            buf_release(&files[i]);
    }
}

static void write_one(const char *dir, size_t i, const struct buf *file)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, moved[i]);
    if (file->len)
        assert_int_equal(fd_write_file(path, file->data, file->len, str_ends(str_from(moved[i]), STR(".key")) ? 0600 : 0644, NULL), 0);
    else
        (void)unlink(path);
}

static void test_crash_between_moves(void **state)
{
    struct fixture *f = *state;
    struct buf before[MOVED], after[MOVED];
    AUTO_FREE char *next = str_printf("%s/next", f->control);
    AUTO_FREE char *ready = str_printf("%s/ready", next);
    read_all(f->control, before, true);
    begin(f, 0);
    read_all(f->control, after, true);
    for (size_t n = 0; n <= MOVED; n++) {
        assert_int_equal(fd_mkdir_p(next, 0700, NULL), 0);
        for (size_t i = 0; i < MOVED; i++) {
            write_one(f->control, i, i < n ? &after[i] : &before[i]);
            if (i >= n)
                write_one(next, i, &after[i]);
        }
        /* Not ready: it stays as it was. */
        if (n == 0)
            assert_int_equal(pki_control_settle(f->control, NULL), 0);
        assert_int_equal(fd_write_file(ready, "", 0, 0600, NULL), 0);
        up(f); /* davit up comes before davitd */
        assert_false(there(f->control, "next"));
        for (size_t i = 0; i < MOVED; i++) {
            AUTO_BUF now = BUF_INIT(CERT_PEM_MAX);
            assert_int_equal(pki_read(f->control, moved[i], &now, NULL), 0);
            assert_true(str_eq(buf_str(&now), buf_str(&after[i])));
        }
    }
    read_all(f->control, before, false);
    read_all(f->control, after, false);
}

/* davitd's account may make anything of next/: a link leads nowhere, and no file but those that belong there moves. */
static void test_next_is_no_link(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *elsewhere = str_printf("%s/elsewhere", f->top);
    AUTO_FREE char *next = str_printf("%s/next", f->control);
    AUTO_FREE char *path = str_printf("%s/root.crt", elsewhere);
    AUTO_FREE char *ready = str_printf("%s/ready", elsewhere);
    AUTO_FREE char *key = str_printf("%s/root.key", elsewhere);
    assert_int_equal(fd_mkdir_p(elsewhere, 0700, NULL), 0);
    assert_int_equal(fd_write_file(path, "x", 1, 0600, NULL), 0);
    assert_int_equal(fd_write_file(ready, "", 0, 0600, NULL), 0);
    assert_int_equal(symlink(elsewhere, next), 0);
    assert_int_equal(pki_control_settle(f->control, NULL), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(next), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fd_write_file(key, "x", 1, 0600, NULL), 0);
    assert_int_equal(rename(elsewhere, next), 0);
    assert_int_equal(pki_control_settle(f->control, NULL), 1);
    assert_false(there(f->control, "root.key"));
}

/* --- What does not fit --- */

static void refused(const struct fixture *f, const struct pki_begin *b, int code)
{
    struct err err = ERR_INIT;
    struct cert_roots roots;
    assert_int_equal(pki_control_begin(f->control, b, &err), code);
    assert_int_equal(pki_control_roots(f->control, &roots, NULL), 0);
    assert_int_equal(roots.n, 1);
    assert_memory_equal(roots.v[0].pin, f->old_pin, SPKI_HASH_SIZE);
    assert_true(believes(f, buf_str(&f->old), NULL));
}

static void test_unfit(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *stranger = str_printf("%s/stranger", f->top);
    AUTO_BUF their_root = BUF_INIT(CERT_PEM_MAX), their_cross = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF two = BUF_INIT(CERT_PEM_MAX);
    CLEANUP(made_release) struct made m;
    assert_int_equal(pki_user_init(stranger, NULL), 0);
    assert_int_equal(pki_user_next(stranger, &their_root, &their_cross, NULL), 0);
    struct pki_begin b = {.root = buf_str(&their_root), .cross = buf_str(&their_cross)};
    refused(f, &b, -ERR_PRECONDITION); /* nothing was asked for */
    make(f, &m);
    b = m.b;
    b.root = buf_str(&their_root);
    refused(f, &b, -ERR_INVALID);
    b = m.b;
    b.cross = buf_str(&their_cross); /* the old root's owner has not agreed */
    refused(f, &b, -ERR_INVALID);
    b.cross = STR("");
    refused(f, &b, -ERR_INVALID);
    b = m.b;
    b.authorities[2] = m.b.authorities[1];
    refused(f, &b, -ERR_INVALID);
    b = m.b;
    b.authorities[0] = STR("junk");
    refused(f, &b, -ERR_INVALID);
    b = m.b;
    assert_int_equal(buf_append_str(&two, m.b.root), 0);
    assert_int_equal(buf_append_str(&two, buf_str(&their_root)), 0);
    b.root = buf_str(&two);
    refused(f, &b, -ERR_INVALID);
    b.root = m.b.cross; /* no root */
    refused(f, &b, -ERR_INVALID);
    b.root = STR("");
    refused(f, &b, -ERR_INVALID);
    assert_int_equal(pki_control_begin(f->control, &m.b, NULL), 0);
}

/* A list of roots as a peer gives it: CERT_ROOTS_MAX are taken, one more is not. */
static void test_lists(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF list = BUF_INIT(CERT_PEM_MAX), leaf = BUF_INIT(CERT_PEM_MAX), twice = BUF_INIT(CERT_PEM_MAX);
    struct cert_roots roots = {0}, one, other;
    for (size_t n = 1; n <= CERT_ROOTS_MAX + 1; n++) {
        AUTO_FREE char *dir = str_printf("%s/list-%zu", f->top, n);
        assert_int_equal(pki_user_init(dir, NULL), 0);
        assert_int_equal(pki_read(dir, "root.crt", &list, NULL), 0);
        assert_int_equal(cert_roots_read(buf_str(&list), &roots, NULL), n <= CERT_ROOTS_MAX ? 0 : -ERR_INVALID);
        assert_int_equal(roots.n, n <= CERT_ROOTS_MAX ? n : CERT_ROOTS_MAX);
    }
    assert_int_equal(cert_roots_read(STR(""), &roots, NULL), -ERR_INVALID);
    assert_int_equal(cert_roots_read(STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &roots, NULL), -ERR_INVALID);
    assert_int_equal(pki_read(f->user, "cli.crt", &leaf, NULL), 0);
    assert_int_equal(cert_roots_read(buf_str(&leaf), &roots, NULL), -ERR_INVALID);
    buf_clear(&leaf);
    assert_int_equal(pki_read(f->control, "server-ca.crt", &leaf, NULL), 0);
    assert_int_equal(cert_roots_read(buf_str(&leaf), &roots, NULL), -ERR_INVALID);
    assert_int_equal(buf_append_str(&twice, buf_str(&f->old)), 0);
    assert_int_equal(cert_roots_read(buf_str(&twice), &one, NULL), 0);
    assert_int_equal(buf_append_str(&twice, buf_str(&f->old)), 0);
    assert_int_equal(cert_roots_read(buf_str(&twice), &other, NULL), -ERR_INVALID);
    assert_true(cert_roots_have(&one, f->old_pin) && !cert_roots_have(&roots, f->old_pin));
    assert_true(cert_roots_meet(&one, &one) && !cert_roots_meet(&one, &roots));
}

/* Who holds the old root takes the new one beside it by the cross certificate, and by nothing else; who holds the new one does not take the old. */
static void test_believed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_release) struct made m;
    AUTO_BUF list = BUF_INIT(CERT_PEM_MAX), cross = BUF_INIT(CERT_PEM_MAX), out = BUF_INIT(CERT_PEM_MAX), other = BUF_INIT(CERT_PEM_MAX);
    struct cert_roots roots;
    usec_t now = clock_real();
    make(f, &m);
    assert_int_equal(pki_control_tell(f->control, &list, &cross, NULL), 0);
    assert_int_equal(cross.len, 0);
    assert_int_equal(pki_control_begin(f->control, &m.b, NULL), 0);
    buf_clear(&list);
    assert_int_equal(pki_control_tell(f->control, &list, &cross, NULL), 0);
    assert_int_equal(cert_roots_believed(buf_str(&list), buf_str(&f->old), buf_str(&cross), now, &out, NULL), 0);
    assert_true(str_eq(buf_str(&out), buf_str(&list)));
    struct str without[] = {STR(""), STR("garbage"), buf_str(&f->old), m.b.root};
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        buf_clear(&out);
        assert_int_equal(cert_roots_believed(buf_str(&list), buf_str(&f->old), without[i], now, &out, NULL), 0);
        assert_true(str_eq(buf_str(&out), buf_str(&f->old)));
    }
    buf_clear(&out); /* the cross certificate has an end */
    assert_int_equal(cert_roots_believed(buf_str(&list), buf_str(&f->old), buf_str(&cross), now + 20 * 365 * USEC_DAY, &out, NULL), 0);
    assert_int_equal(cert_roots_read(buf_str(&out), &roots, NULL), 0);
    assert_int_equal(roots.n, 1);
    buf_clear(&out);
    assert_int_equal(cert_roots_believed(buf_str(&list), m.b.root, buf_str(&cross), now, &out, NULL), 0);
    assert_true(str_eq(buf_str(&out), m.b.root));
    /* Of a stranger's authority, signed by itself. */
    AUTO_FREE char *dir = str_printf("%s/stranger", f->top);
    assert_int_equal(pki_user_init(dir, NULL), 0);
    assert_int_equal(pki_read(dir, "root.crt", &other, NULL), 0);
    buf_clear(&out);
    assert_int_equal(buf_append_str(&list, buf_str(&other)), 0);
    assert_int_equal(cert_roots_believed(buf_str(&list), buf_str(&f->old), buf_str(&other), now, &out, NULL), 0);
    assert_true(str_eq(buf_str(&out), buf_str(&f->old)));
}

/* The control plane holds the keys of the intermediates, and each has a certificate of the root: that makes no root of it. */
static void test_no_intermediate_vouches(void **state)
{
    static const char *const names[] = {"server-ca", "agents-ca", "sandboxes-ca"};
    struct fixture *f = *state;
    usec_t now = clock_real();
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *key_path = str_printf("%s/%s.key", f->control, names[i]);
        AUTO_FREE char *cert_name = str_printf("%s.crt", names[i]);
        AUTO_BUF list = BUF_INIT(CERT_PEM_MAX), voucher = BUF_INIT(CERT_PEM_MAX), out = BUF_INIT(CERT_PEM_MAX);
        AUTO_KEY key = NULL;
        AUTO_CERT fake = NULL;
        struct cert_roots roots;
        assert_int_equal(key_load(key_path, &key, NULL), 0);
        assert_int_equal(cert_make_root(key, "Davit root", 3650, &fake, NULL), 0);
        assert_int_equal(buf_append_str(&list, buf_str(&f->old)), 0);
        assert_int_equal(cert_to_pem(fake, &list, NULL), 0);
        assert_int_equal(cert_roots_read(buf_str(&list), &roots, NULL), 0);
        assert_int_equal(roots.n, 2);
        assert_int_equal(pki_read(f->control, cert_name, &voucher, NULL), 0);
        assert_int_equal(cert_roots_believed(buf_str(&list), buf_str(&f->old), buf_str(&voucher), now, &out, NULL), 0);
        assert_true(str_eq(buf_str(&out), buf_str(&f->old)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_are_new, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash_between_moves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_next_is_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unfit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_intermediate_vouches, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
