/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials over the years: bundles and their pointers, what is accepted as a grant, when it is time, and how late it is at least. */
#include "host/link/bundle.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/link/floor_time.h"
#include "host/link/renew.h"
#include "ident/cert.h"

#define SERVER "11111111-2222-3333-4444-555555555555"
#define URI "davit://server/" SERVER

struct ctx {
    char dir[64];
    struct agent_config c;
    struct err err;
    struct key *root_key, *key;
    struct cert *root;
    struct buf pem, ca, believed;
    struct secret *key_pem;
};

static int setup(void **state)
{
    struct ctx *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    (void)str_copy(x->dir, sizeof(x->dir), STR("/tmp/davit-cred-XXXXXX"));
    assert_non_null(mkdtemp(x->dir));
    assert_int_equal(agent_config_init(&x->c, x->dir, &x->err), 0);
    agent_config_set(&x->c.server_id, SERVER);
    x->c.generation = 1;
    buf_init(&x->pem, CERT_PEM_MAX);
    buf_init(&x->ca, CERT_PEM_MAX);
    buf_init(&x->believed, CERT_PEM_MAX);
    assert_int_equal(key_generate(&x->root_key, &x->err), 0);
    assert_int_equal(cert_make_root(x->root_key, "root", 10, &x->root, &x->err), 0);
    assert_int_equal(cert_to_pem(x->root, &x->ca, &x->err), 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *x = *state;
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    agent_config_release(&x->c);
    assert_int_equal(fd_remove_tree(x->dir, NULL), 0);
    x->key = key_free(x->key);
    x->root_key = key_free(x->root_key);
    x->root = cert_free(x->root);
    x->key_pem = secret_free(x->key_pem);
    buf_release(&x->pem);
    buf_release(&x->ca);
    buf_release(&x->believed);
    free(x);
    return 0;
}

/* A fresh key and its certificate, in x->key and x->pem. */
static void make(struct ctx *x, const char *uri, usec_t life)
{
    AUTO_CERT leaf = NULL;
    AUTO_CSR csr = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    struct leaf_spec spec = {.common_name = "x", .uri = uri, .usage = CERT_CLIENT, .not_after = clock_real() + life};
    x->key = key_free(x->key);
    x->key_pem = secret_free(x->key_pem);
    buf_clear(&x->pem);
    assert_int_equal(key_generate(&x->key, &x->err), 0);
    assert_int_equal(key_to_pem(x->key, &x->key_pem, &x->err), 0);
    assert_int_equal(csr_make(x->key, "x", &der, &x->err), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, &x->err), 0);
    if (cert_sign_leaf(x->root_key, x->root, csr, &spec, &leaf, &x->err) != 0)
        fail_msg("%s", x->err.msg);
    assert_int_equal(cert_to_pem(leaf, &x->pem, &x->err), 0);
}

static struct bundle_parts parts(const struct ctx *x)
{
    return (struct bundle_parts){.key_pem = secret_reveal(x->key_pem), .cert_pem = buf_str(&x->pem), .ca_pem = buf_str(&x->ca)};
}

static void put(const struct ctx *x, const char *name, struct str text)
{
    AUTO_FREE char *path = agent_config_path(&x->c, name);
    assert_int_equal(fd_write_file(path, text.p, text.n, 0600, NULL), 0);
}

static void enrolled(struct ctx *x)
{
    make(x, URI, USEC_DAY);
    put(x, "client.key", secret_reveal(x->key_pem));
    put(x, "client.crt", buf_str(&x->pem));
    put(x, "ca.crt", buf_str(&x->ca));
    put(x, "config.yaml", STR("auth_mode: mtls\n"));
}

static void activate(struct ctx *x, uint32_t generation)
{
    make(x, URI, USEC_DAY);
    struct bundle_parts p = parts(x);
    if (bundle_activate(&x->c, generation, &p, &x->err) != 0)
        fail_msg("%s", x->err.msg);
}

static bool there(const struct ctx *x, const char *name)
{
    AUTO_FREE char *path = agent_config_path(&x->c, name);
    struct stat st;
    return lstat(path, &st) == 0;
}

/* What the agent would dial with. */
static void loads(struct ctx *x, uint32_t generation)
{
    struct agent_identity id = {0};
    x->err = ERR_INIT;
    if (agent_identity_load(&x->c, &id, &x->err) != 0)
        fail_msg("%s", x->err.msg);
    assert_int_equal(id.generation, generation);
    agent_identity_release(&id);
}

/* The next start: the lock is taken, and what a crash left goes. */
static void restart(struct ctx *x)
{
    int fd, machine;
    assert_int_equal(agent_config_lock(&x->c, &fd, &machine, &x->err), 0);
    (void)close(fd);
}

/* req: CL-44 */
static void test_credentials_are_exchanged_and_the_old_ones_kept_until_confirmed(void **state)
{
    struct ctx *x = *state;
    struct stat st;
    enrolled(x);
    loads(x, 1);
    activate(x, 2);
    loads(x, 2);
    AUTO_FREE char *key = bundle_path(&x->c, "client.key");
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    AUTO_FREE char *top = agent_config_path(&x->c, "bundles/2");
    assert_int_equal(stat(top, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(there(x, "client.key"));
    assert_int_equal(bundle_confirm(&x->c, &x->err), 0);
    assert_false(there(x, "client.key") || there(x, "client.crt") || there(x, "ca.crt"));
    loads(x, 2);
    activate(x, 3);
    assert_true(there(x, "bundles/2/client.key"));
    activate(x, 4); /* 3 never connected: 2 is still what is known to work */
    AUTO_FREE char *kept = bundle_dir(&x->c, BUNDLE_PREVIOUS, NULL);
    assert_true(str_ends(str_from(kept), STR("/bundles/2")));
    restart(x);
    assert_false(there(x, "bundles/3"));
    assert_int_equal(bundle_confirm(&x->c, &x->err), 0);
    assert_false(there(x, "bundles/2"));
    loads(x, 4);
    assert_int_equal(bundle_confirm(&x->c, &x->err), 0);
    loads(x, 4);
}

static void test_the_old_ones_come_back(void **state)
{
    struct ctx *x = *state;
    struct agent_identity id = {0};
    enrolled(x);
    assert_int_equal(bundle_revert(&x->c, &x->err), -ERR_NOT_FOUND);
    assert_int_equal(agent_identity_load_previous(&x->c, &id, &x->err), -ERR_NOT_FOUND);
    activate(x, 5);
    assert_int_equal(agent_identity_load_previous(&x->c, &id, &x->err), 0);
    assert_int_equal(id.generation, 1);
    agent_identity_release(&id);
    assert_int_equal(bundle_revert(&x->c, &x->err), 0);
    loads(x, 1);
    assert_false(there(x, "bundles/5"));
    activate(x, 6);
    assert_int_equal(bundle_confirm(&x->c, &x->err), 0);
    activate(x, 7);
    assert_int_equal(bundle_revert(&x->c, &x->err), 0);
    loads(x, 6);
    struct bundle_parts p = parts(x);
    assert_int_equal(bundle_activate(&x->c, 6, &p, &x->err), -ERR_INVALID);
    assert_int_equal(bundle_activate(&x->c, 5, &p, &x->err), -ERR_INVALID);
}

static void link_to(const struct ctx *x, const char *name, const char *target)
{
    AUTO_FREE char *path = agent_config_path(&x->c, name);
    (void)unlink(path);
    assert_int_equal(symlink(target, path), 0);
}

static void make_dir(const struct ctx *x, const char *name)
{
    AUTO_FREE char *path = agent_config_path(&x->c, name);
    assert_int_equal(fd_mkdir_p(path, 0700, NULL), 0);
}

/* req: CB-4 */
static void test_what_a_crash_leaves_is_none(void **state)
{
    struct ctx *x = *state;
    enrolled(x);
    make_dir(x, "bundles/2.tmp");
    make_dir(x, "bundles/2");
    link_to(x, "bundles/previous", "..");
    link_to(x, "bundles/current.tmp", "2");
    loads(x, 1);
    restart(x);
    assert_false(there(x, "bundles/2.tmp") || there(x, "bundles/2") || there(x, "bundles/previous") || there(x, "bundles/current.tmp"));
    loads(x, 1);
    activate(x, 2);
    assert_int_equal(bundle_confirm(&x->c, &x->err), 0);
    link_to(x, "bundles/previous", "2"); /* between the two renames of the next exchange */
    assert_null(bundle_dir(&x->c, BUNDLE_PREVIOUS, NULL));
    restart(x);
    assert_false(there(x, "bundles/previous"));
    loads(x, 2);
    activate(x, 3); /* what is active was damaged: the one before it does */
    put(x, "bundles/3/client.crt", STR("no certificate"));
    struct agent_identity id = {0};
    assert_int_equal(agent_identity_load(&x->c, &id, &x->err), 0);
    assert_true(id.fallback && id.generation == 2);
    agent_identity_release(&id);
}

static void test_a_pointer_leads_to_a_generation_or_nowhere(void **state)
{
    static const char *const bad[] = {"0", "02", "-2", "+2", "2x", "4294967296", "../..", "/etc", ".", "2/", "99999999999999999999999999"};
    struct ctx *x = *state;
    enrolled(x);
    activate(x, 2);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint32_t generation = 0;
        link_to(x, "bundles/current", bad[i]);
        AUTO_FREE char *dir = bundle_dir(&x->c, BUNDLE_ACTIVE, &generation);
        assert_string_equal(dir, x->c.dir);
        assert_int_equal(generation, 1);
    }
    link_to(x, "bundles/current", "4294967295");
    uint32_t generation = 0;
    AUTO_FREE char *dir = bundle_dir(&x->c, BUNDLE_ACTIVE, &generation);
    assert_int_equal(generation, UINT32_MAX);
    assert_int_equal(bundle_forget(&x->c, &x->err), 0);
    assert_false(there(x, "bundles"));
    loads(x, 1);
}

/* req: CL-64 */
static void test_out_of_date_is_an_outcome_of_its_own(void **state)
{
    struct ctx *x = *state;
    struct agent_identity id = {0};
    enrolled(x);
    clock_fake(0, clock_real() + 2 * USEC_DAY);
    assert_int_equal(agent_identity_load(&x->c, &id, &x->err), AGENT_IDENTITY_EXPIRED);
    assert_non_null(strstr(x->err.msg, "expired at"));
    assert_true(secret_len(id.key_pem) > 0 && id.cert_pem.len > 0 && id.ca_pem.len > 0);
    agent_identity_release(&id);
    put(x, "client.crt", STR("no certificate"));
    assert_int_equal(agent_identity_load(&x->c, &id, &x->err), -ERR_PRECONDITION);
}

static struct buf *fresh(struct ctx *x)
{
    buf_clear(&x->believed);
    return &x->believed;
}

static void refuses(struct ctx *x, const struct renew_check *k, const Davit__Link__V1__Credential *c, const char *why)
{
    x->err = ERR_INIT;
    assert_int_equal(renew_check(k, c, fresh(x), &x->err), -ERR_DATA_LOSS);
    if (!strstr(x->err.msg, why))
        fail_msg("\"%s\" in \"%s\"", why, x->err.msg);
}

/* req: CL-43 */
static void test_a_grant_is_checked_before_a_file_changes(void **state)
{
    struct ctx *x = *state;
    AUTO_KEY other = NULL;
    Davit__Link__V1__Credential c = DAVIT__LINK__V1__CREDENTIAL__INIT;
    make(x, URI, USEC_DAY);
    struct renew_check k = {.server_id = SERVER, .roots_pem = buf_str(&x->ca), .key = x->key, .generation = 4, .now = clock_real()};
    c.generation = 5;
    c.certificate_pem = (char *)(uintptr_t)buf_cstr(&x->pem);
    c.ca_pem = (char *)(uintptr_t)buf_cstr(&x->ca);
    assert_int_equal(renew_check(&k, &c, fresh(x), &x->err), 0);
    k.generation = 5;
    refuses(x, &k, &c, "generation does not grow");
    k.generation = 4;
    assert_int_equal(key_generate(&other, &x->err), 0);
    k.key = other;
    refuses(x, &k, &c, "for another key");
    k.key = x->key;
    k.server_id = "21111111-2222-3333-4444-555555555555";
    refuses(x, &k, &c, "for another server");
    k.server_id = SERVER;
    k.now = clock_real() + 17 * USEC_HOUR + 30 * USEC_MINUTE; /* due again, by whatever part of the tenth */
    k.now += 2 * USEC_HOUR;
    refuses(x, &k, &c, "too near to its end");
    k.now = clock_real() + 25 * USEC_HOUR;
    refuses(x, &k, &c, "expired");
    k.now = clock_real();
    c.certificate_pem = (char *)(uintptr_t)"";
    refuses(x, &k, &c, "not a certificate");
    c.certificate_pem = (char *)(uintptr_t)buf_cstr(&x->pem);
    AUTO_CERT foreign = NULL;
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    assert_int_equal(cert_make_root(other, "root", 10, &foreign, &x->err), 0);
    assert_int_equal(cert_to_pem(foreign, &pem, &x->err), 0);
    c.ca_pem = (char *)(uintptr_t)buf_cstr(&pem);
    refuses(x, &k, &c, "none of the roots");
    assert_int_equal(cert_to_pem(x->root, &pem, &x->err), 0); /* two roots, while they change */
    c.ca_pem = (char *)(uintptr_t)buf_cstr(&pem);
    assert_int_equal(renew_check(&k, &c, fresh(x), &x->err), 0);
    assert_true(str_eq(buf_str(&x->believed), buf_str(&x->ca))); /* nobody vouches for the other */
    k.roots_pem = buf_str(&pem);
    AUTO_BUF other_pem = BUF_INIT(CERT_PEM_MAX);
    assert_int_equal(cert_to_pem(foreign, &other_pem, &x->err), 0);
    c.ca_pem = (char *)(uintptr_t)buf_cstr(&other_pem);
    refuses(x, &k, &c, "does not lead to the roots that came with it");
    k.roots_pem = (struct str){buf_cstr(&pem), strlen(buf_cstr(&pem)) / 2};
    refuses(x, &k, &c, "");
}

/* A list of roots is taken only when it is one, and has a root in it that is believed already: else the present ones stay. And of a list only those
 * are taken that one of the present ones vouches for: whoever has the control plane's keys, but not the root's, cannot add one. */
static void test_roots_that_are_granted(void **state)
{
    struct ctx *x = *state;
    AUTO_BUF list = BUF_INIT(CERT_PEM_MAX), believed = BUF_INIT(CERT_PEM_MAX);
    make(x, URI, USEC_DAY);
    struct str present = buf_str(&x->ca);
    assert_int_equal(buf_append_str(&list, present), 0);
    for (size_t n = 2; n <= CERT_ROOTS_MAX + 1; n++) {
        AUTO_KEY key = NULL;
        AUTO_CERT root = NULL;
        assert_int_equal(key_generate(&key, &x->err), 0);
        assert_int_equal(cert_make_root(key, "root", 10, &root, &x->err), 0);
        assert_int_equal(cert_to_pem(root, &list, &x->err), 0);
        buf_clear(&believed);
        assert_int_equal(cert_roots_believed(buf_str(&list), present, present, clock_real(), &believed, &x->err),
                         n <= CERT_ROOTS_MAX ? 0 : -ERR_INVALID);
        assert_true(str_eq(buf_str(&believed), n <= CERT_ROOTS_MAX ? present : STR("")));
    }
    const struct str bad[] = {{list.data + x->ca.len, x->ca.len}, buf_str(&x->pem), STR("garbage"), STR("")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(cert_roots_believed(bad[i], present, present, clock_real(), &believed, &x->err), -ERR_INVALID);
}

static void test_renewal_is_spread_and_failures_back_off(void **state)
{
    const usec_t issued = 1000 * USEC_DAY, life = 90 * USEC_DAY;
    usec_t low = USEC_INFINITY, high = 0;
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        char id[37];
        rng_uuid(id);
        usec_t at = renew_due(id, issued, issued + life) - issued;
        assert_int_equal(at, renew_due(id, issued, issued + life) - issued);
        low = at < low ? at : low;
        high = at > high ? at : high;
    }
    assert_true(low >= life / 3 * 2 && low < life / 100 * 69);
    assert_true(high < life / 3 * 2 + life / 10 && high > life / 100 * 74);
    for (unsigned failed = 0; failed < 100; failed++) {
        usec_t wait = renew_retry(failed, life), longest = failed < 12 ? USEC_MINUTE + (USEC_MINUTE << failed) : USEC_DAY;
        assert_true(wait >= USEC_MINUTE && wait <= (longest < USEC_DAY ? longest : USEC_DAY));
        wait = renew_retry(failed, 10 * USEC_SEC);
        assert_true(wait >= 100 * USEC_MSEC && wait <= USEC_SEC);
        assert_true(renew_retry(failed, 0) >= 100 * USEC_MSEC);
    }
}

/* req: CB-10 */
static void test_the_floor_of_time(void **state)
{
    struct ctx *x = *state;
    struct floor_time f = {0};
    usec_t build = floor_time_build(__DATE__), good = 0;
    assert_int_equal(floor_time_build("Jan  2 1970"), 0);
    assert_int_equal(floor_time_build("Jan 12 1970"), 10 * USEC_DAY);
    static const char *const bad[] = {"", "??? ?? ????", "Nov 31 2026", "Nix 10 2026", "Nov 28 2026 "};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(floor_time_build(bad[i]), 0);
    clock_fake(USEC_SEC, 1000); /* 1970 */
    floor_time_load(&x->c);
    assert_true(clock_floor() >= build && clock_unsure() && clock_checked() == clock_floor());
    assert_int_equal(floor_time_now(&f), clock_floor());
    assert_int_equal(floor_time_judge(build + USEC_HOUR), build + USEC_HOUR > clock_floor() ? build + USEC_HOUR : clock_floor());
    assert_false(floor_time_due(&f, &good)); /* nothing was heard */
    floor_time_hear(&f, build + 5 * USEC_DAY);
    clock_fake(2 * USEC_SEC, 1000);
    assert_int_equal(floor_time_now(&f), build + 5 * USEC_DAY + USEC_SEC);
    assert_false(floor_time_due(&f, &good)); /* the two do not agree */
    clock_fake(2 * USEC_SEC, build + 5 * USEC_DAY + USEC_SEC + FLOOR_TIME_AGREE + 1);
    assert_false(floor_time_due(&f, &good));
    clock_fake(2 * USEC_SEC, build + 5 * USEC_DAY + USEC_SEC + FLOOR_TIME_AGREE);
    assert_true(floor_time_due(&f, &good));
    assert_int_equal(good, build + 5 * USEC_DAY + USEC_SEC);
    f.next = 3 * USEC_SEC;
    assert_false(floor_time_due(&f, &good));
    assert_int_equal(floor_time_save(&x->c, good, &x->err), 0);
    assert_true(clock_floor() >= good / USEC_SEC * USEC_SEC);
    put(x, FLOOR_TIME_FILE, STR("not a time\n"));
    floor_time_load(&x->c);
    assert_int_equal(clock_floor(), good);
    put(x, FLOOR_TIME_FILE, STR("2345-01-01T00:00:00Z and a text that is longer than any time"));
    floor_time_load(&x->c);
    assert_int_equal(clock_floor(), good);
    /* What another process of ours wrote. */
    char text[CLOCK_TEXT_SIZE];
    clock_format(good + USEC_DAY, 0, text);
    AUTO_FREE char *line = str_printf("%s\n", text);
    put(x, FLOOR_TIME_FILE, str_from(line));
    floor_time_load(&x->c);
    assert_int_equal(clock_floor(), (good + USEC_DAY) / USEC_SEC * USEC_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_credentials_are_exchanged_and_the_old_ones_kept_until_confirmed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_old_ones_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_crash_leaves_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_pointer_leads_to_a_generation_or_nowhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_date_is_an_outcome_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_grant_is_checked_before_a_file_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roots_that_are_granted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renewal_is_spread_and_failures_back_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_floor_of_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
