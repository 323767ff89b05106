/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of keys and certificates: order of the steps, modes, repeating a step changes nothing, renewal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/pki_dir.h"

#define SERVER_ID "01234567-89ab-cdef-0123-456789abcdef"

static const char *const NAMES[] = {"localhost", "127.0.0.1"};

struct fixture {
    char top[64];
    char *user, *control;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->top, sizeof(f->top), "/tmp/davit-pki-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    f->user = str_printf("%s/user", f->top);
    f->control = str_printf("%s/control", f->top);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    assert_int_equal(fd_remove_tree(f->top, NULL), 0);
    free(f->user);
    free(f->control);
    free(f);
    return 0;
}

static void complete(const struct fixture *f)
{
    assert_int_equal(pki_user_init(f->user, NULL), 0);
    assert_int_equal(pki_control_prepare(f->control, NULL), 0);
    assert_int_equal(pki_user_sign(f->user, f->control, NULL), 0);
}

/* Names, modes, times of change and contents of a directory, to see whether anything happened in it. */
static char *snapshot(const char *dir)
{
    struct dirent **list = NULL;
    AUTO_BUF out = BUF_INIT(1 << 20);
    int n = scandir(dir, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *path = str_printf("%s/%s", dir, list[i]->d_name);
        struct stat st;
        if (list[i]->d_name[0] != '.' && stat(path, &st) == 0) {
            assert_int_equal(buf_printf(&out, "%s %o %lu %ld.%09ld\n", list[i]->d_name, st.st_mode, (unsigned long)st.st_ino,
                                        (long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec), 0);
            assert_int_equal(fd_read_file(path, &out, NULL), 0);
        }
        free(list[i]);
    }
    free(list);
    return buf_take(&out);
}

static void check_modes(const char *dir)
{
    struct stat st;
    DIR *d = opendir(dir);
    assert_non_null(d);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        AUTO_FREE char *path = str_printf("%s/%s", dir, e->d_name);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, str_ends(str_from(e->d_name), STR(".key")) ? 0600 : 0644);
    }
    (void)closedir(d);
}

static void test_steps(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    assert_int_equal(pki_control_state(f->control, &err), 2);
    assert_int_equal(pki_control_prepare(f->control, &err), 0);
    assert_int_equal(pki_control_state(f->control, &err), 1);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.hint, "davit up"));
    assert_int_equal(pki_user_sign(f->user, f->control, &err), -ERR_NOT_FOUND);
    assert_int_equal(pki_user_init(f->user, &err), 0);
    assert_int_equal(pki_user_sign(f->user, f->control, &err), 0);
    assert_int_equal(pki_control_state(f->control, &err), 0);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, &err), 1);
    check_modes(f->user);
    check_modes(f->control);
    uint8_t user[SPKI_HASH_SIZE], control[SPKI_HASH_SIZE];
    assert_int_equal(pki_pin(f->user, user, NULL), 0);
    assert_int_equal(pki_pin(f->control, control, NULL), 0);
    assert_memory_equal(user, control, sizeof(user));
}

/* No private key of the user is ever where the control plane can read it. req: CW-10 */
static void test_user_keys_stay(void **state)
{
    struct fixture *f = *state;
    complete(f);
    static const char *const keys[] = {"root.key", "cli.key"};
    AUTO_FREE char *all = snapshot(f->control);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        AUTO_BUF key = BUF_INIT(KEY_PEM_MAX);
        assert_int_equal(pki_read(f->user, keys[i], &key, NULL), 0);
        assert_null(strstr(all, buf_cstr(&key) + 28));
    }
}

static void test_repeating_changes_nothing(void **state)
{
    struct fixture *f = *state;
    complete(f);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    AUTO_FREE char *user = snapshot(f->user);
    AUTO_FREE char *control = snapshot(f->control);
    complete(f);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 0);
    AUTO_FREE char *user2 = snapshot(f->user);
    AUTO_FREE char *control2 = snapshot(f->control);
    assert_string_equal(user, user2);
    assert_string_equal(control, control2);
}

static void test_leaf_renewed(void **state)
{
    struct fixture *f = *state;
    complete(f);
    usec_t start = clock_real();
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 1, NULL), 1);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    clock_fake(clock_mono(), start + 59 * USEC_DAY);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 0);
    clock_fake(clock_mono(), start + 61 * USEC_DAY);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 0);
    AUTO_FREE char *path = str_printf("%s/controlplane.crt", f->control);
    assert_int_equal(fd_write_file(path, "broken", 6, 0644, NULL), 0);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
}

static void test_cli_and_intermediates_renewed(void **state)
{
    struct fixture *f = *state;
    complete(f);
    usec_t start = clock_real();
    AUTO_FREE char *user = snapshot(f->user);
    AUTO_FREE char *control = snapshot(f->control);
    clock_fake(clock_mono(), start + CERT_CA_DAYS * USEC_DAY / 3 * 2 + USEC_DAY);
    complete(f);
    AUTO_FREE char *user2 = snapshot(f->user);
    AUTO_FREE char *control2 = snapshot(f->control);
    assert_string_not_equal(user, user2);
    assert_string_not_equal(control, control2);
    assert_int_equal(pki_control_state(f->control, NULL), 0);
}

static void test_another_user_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    complete(f);
    AUTO_FREE char *other = str_printf("%s/other", f->top);
    assert_int_equal(pki_user_init(other, &err), 0);
    AUTO_FREE char *before = snapshot(f->control);
    assert_int_equal(pki_user_sign(other, f->control, &err), -ERR_PRECONDITION);
    AUTO_FREE char *after = snapshot(f->control);
    assert_string_equal(before, after);
}

static void test_lost_root_key(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    complete(f);
    AUTO_FREE char *path = str_printf("%s/root.key", f->user);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pki_user_init(f->user, &err), -ERR_NOT_FOUND);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_agent_certificate(void **state)
{
    struct fixture *f = *state;
    complete(f);
    AUTO_KEY key = NULL;
    AUTO_BUF csr = BUF_INIT(CSR_MAX);
    AUTO_BUF chain = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    struct pki_issued issued;
    struct cert_info info;
    struct err err = ERR_INIT;
    uint8_t own[SPKI_HASH_SIZE];
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "davit://cli", &csr, NULL), 0);
    assert_int_equal(pki_control_sign_agent(f->control, buf_str(&csr), SERVER_ID, 3, 10 * USEC_SEC, &chain, &issued, &err), 0);
    assert_int_equal(pki_read(f->control, "root.crt", &root, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&chain), buf_str(&root), CERT_CLIENT, clock_real(), &info, &err), 0);
    assert_string_equal(info.uri, "davit://server/" SERVER_ID);
    assert_string_equal(info.common_name, SERVER_ID " gen 3");
    assert_string_equal(info.serial, issued.serial);
    assert_true(info.not_after == issued.not_after && issued.not_after <= clock_real() + 10 * USEC_SEC);
    assert_int_equal(key_spki_hash(key, own, NULL), 0);
    assert_memory_equal(issued.spki_hash, own, sizeof(own));
    static const char *const ids[] = {"", "x", "01234567-89ab-cdef-0123-456789abcde", SERVER_ID "0", "01234567-89AB-cdef-0123-456789abcdef",
                                      "../../../../../../../../../../../../etc"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        assert_int_equal(pki_control_sign_agent(f->control, buf_str(&csr), ids[i], 1, USEC_HOUR, &chain, &issued, &err), -ERR_INVALID);
    assert_int_equal(pki_control_sign_agent(f->control, STR("junk"), SERVER_ID, 1, USEC_HOUR, &chain, &issued, &err), -ERR_INVALID);
    AUTO_BUF small = BUF_INIT(100);
    assert_int_equal(pki_control_sign_agent(f->control, buf_str(&csr), SERVER_ID, 1, USEC_HOUR, &small, &issued, &err), -ERR_EXHAUSTED);
    assert_int_equal(small.len, 0);
}

static void test_mixed_up_files(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    complete(f);
    AUTO_FREE char *a = str_printf("%s/server-ca.key", f->control);
    AUTO_FREE char *b = str_printf("%s/agents-ca.key", f->control);
    assert_int_equal(rename(a, b), 0);
    assert_true(pki_control_state(f->control, &err) < 0);
    assert_int_equal(chmod(b, 0644), 0);
    assert_true(pki_control_prepare(f->control, &err) < 0);
}

/* A clock that was reset is told apart from keys that do not belong together, and nothing is made anew by it. */
/* req: CW-113 */
static void test_wrong_clock(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_FREE char *path = str_printf("%s/agents-ca.crt", f->control);
    usec_t now = clock_real();
    complete(f);
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    AUTO_FREE char *user = snapshot(f->user);
    AUTO_FREE char *control = snapshot(f->control);
    clock_fake(clock_mono(), now - 30 * USEC_DAY);
    int (*const all[])(const char *dir, struct err *err) = {pki_control_state, pki_control_check_leaf};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        err = ERR_INIT;
        assert_int_equal(all[i](f->control, &err), -ERR_PRECONDITION);
        assert_string_equal(err.reason, PKI_CLOCK);
        assert_non_null(strstr(err.hint, "clock"));
        assert_null(strstr(err.hint, "rotate"));
    }
    err = ERR_INIT;
    assert_int_equal(pki_user_repair(f->user, f->control, &err), -ERR_PRECONDITION);
    assert_string_equal(err.reason, PKI_CLOCK);
    AUTO_FREE char *user2 = snapshot(f->user);
    AUTO_FREE char *control2 = snapshot(f->control);
    assert_string_equal(user, user2);
    assert_string_equal(control, control2);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    assert_int_equal(pki_control_state(f->control, NULL), 0);
    /* Any other fault is cured. */
    assert_int_equal(unlink(path), 0);
    err = ERR_INIT;
    assert_int_equal(pki_control_state(f->control, &err), -ERR_PRECONDITION);
    assert_null(err.reason);
    assert_string_equal(err.hint, PKI_CURE);
    assert_int_equal(pki_user_repair(f->user, f->control, NULL), 0);
    assert_int_equal(pki_control_state(f->control, NULL), 0);
}

/* A first `davit up` is killed between any two files that the control plane is given: the next one goes on with it. */
/* req: CW-113 */
static void test_first_signing_cut_off(void **state)
{
    static const char *const given[] = {"assertion.jwk", "sandboxes-ca.crt", "agents-ca.crt", "server-ca.crt"}; /* the last comes first */
    struct fixture *f = *state;
    AUTO_FREE char *other = str_printf("%s/other", f->top);
    AUTO_FREE char *root = str_printf("%s/root.crt", f->control);
    assert_int_equal(pki_user_init(other, NULL), 0);
    complete(f);
    assert_false(pki_user_unfinished(f->user, f->control));
    for (size_t n = 0; n < ARRAY_LEN(given); n++) {
        assert_int_equal(unlink(root), 0);
        for (size_t i = 0; i < n; i++) {
            AUTO_FREE char *path = str_printf("%s/%s", f->control, given[i]);
            assert_int_equal(unlink(path), 0);
        }
        assert_true(pki_control_state(f->control, NULL) < 0);
        assert_true(pki_user_unfinished(f->user, f->control));
        assert_false(pki_user_unfinished(other, f->control));
        complete(f);
        assert_int_equal(pki_control_state(f->control, NULL), 0);
    }
    /* One that served, or whose files are of two kinds, is told of. */
    assert_int_equal(pki_control_leaf(f->control, NAMES, 2, NULL), 1);
    assert_int_equal(unlink(root), 0);
    assert_false(pki_user_unfinished(f->user, f->control));
    AUTO_FREE char *leaf = str_printf("%s/controlplane.crt", f->control);
    AUTO_FREE char *one = str_printf("%s/agents-ca.key", f->control);
    AUTO_FREE char *two = str_printf("%s/server-ca.key", f->control);
    assert_int_equal(unlink(leaf), 0);
    assert_true(pki_user_unfinished(f->user, f->control));
    assert_int_equal(rename(one, two), 0);
    assert_false(pki_user_unfinished(f->user, f->control));
}

/* A directory of a version that knew two intermediates: it serves as it is, and the steps of `davit up` add the third and touch nothing else. */
/* req: PR-14 */
static void test_made_before_there_were_sandboxes(void **state)
{
    static const char *const suffixes[] = {"key", "csr", "crt"};
    struct fixture *f = *state;
    AUTO_BUF before = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF after = BUF_INIT(CERT_PEM_MAX);
    complete(f);
    assert_int_equal(pki_read(f->control, "agents-ca.crt", &before, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        AUTO_FREE char *path = str_printf("%s/sandboxes-ca.%s", f->control, suffixes[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(pki_control_state(f->control, NULL), 0);
    assert_int_equal(pki_control_prepare(f->control, NULL), 0); /* between the steps too */
    assert_int_equal(pki_control_state(f->control, NULL), 0);
    complete(f);
    assert_int_equal(pki_control_state(f->control, NULL), 0);
    AUTO_FREE char *path = str_printf("%s/sandboxes-ca.crt", f->control);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(pki_read(f->control, "agents-ca.crt", &after, NULL), 0);
    assert_true(str_eq(buf_str(&before), buf_str(&after)));
    /* The other two are needed. */
    AUTO_FREE char *needed = str_printf("%s/agents-ca.crt", f->control);
    assert_int_equal(unlink(needed), 0);
    assert_int_equal(pki_control_state(f->control, NULL), -ERR_PRECONDITION);
}

/* --- What each intermediate may issue --- */

struct authority {
    struct key *key;
    struct cert *cert;
    struct buf pem;
};

static void authority_of(struct fixture *f, const char *name, struct authority *a)
{
    AUTO_FREE char *path = str_printf("%s/%s.key", f->control, name);
    AUTO_FREE char *crt = str_printf("%s.crt", name);
    *a = (struct authority){.pem = BUF_INIT(CERT_PEM_MAX)};
    assert_int_equal(key_load(path, &a->key, NULL), 0);
    assert_int_equal(pki_read(f->control, crt, &a->pem, NULL), 0);
    assert_int_equal(cert_from_pem(buf_str(&a->pem), &a->cert, NULL), 0);
}

static void authority_release(struct authority *a)
{
    (void)key_free(a->key);
    (void)cert_free(a->cert);
    buf_release(&a->pem);
}

static struct csr *request(void)
{
    AUTO_KEY key = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    struct csr *csr = NULL;
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "x", &der, NULL), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, NULL), 0);
    return csr;
}

/* Does a leaf of @a with this identity hold for this use, under the user's root? */
static bool holds(struct fixture *f, const struct authority *a, const char *uri, unsigned asked)
{
    AUTO_CSR csr = request();
    AUTO_CERT leaf = NULL;
    AUTO_BUF chain = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    struct leaf_spec spec = {.common_name = "x", .uri = uri, .usage = CERT_CLIENT | CERT_SERVER, .not_after = clock_real() + USEC_DAY};
    assert_int_equal(cert_sign_leaf(a->key, a->cert, csr, &spec, &leaf, NULL), 0);
    assert_int_equal(cert_to_pem(leaf, &chain, NULL), 0);
    assert_int_equal(buf_append_str(&chain, buf_str(&a->pem)), 0);
    assert_int_equal(pki_read(f->user, "root.crt", &root, NULL), 0);
    return cert_verify_chain(buf_str(&chain), buf_str(&root), asked, clock_real(), NULL, NULL) == 0;
}

/* A further authority below @a, as its holder might make one: path length 0 forbids it, whatever it issues. */
static bool extends(struct fixture *f, const struct authority *a, const char *host, const char *uri)
{
    AUTO_KEY key = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    AUTO_BUF chain = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    AUTO_CSR csr = NULL;
    AUTO_CSR leaf_csr = request();
    AUTO_CERT below = NULL;
    AUTO_CERT leaf = NULL;
    struct ca_spec ca = {"below", host, CERT_CLIENT, 30, NULL};
    struct leaf_spec spec = {.common_name = "x", .uri = uri, .usage = CERT_CLIENT, .not_after = clock_real() + USEC_DAY};
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "below", &der, NULL), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, NULL), 0);
    assert_int_equal(cert_sign_intermediate(a->key, a->cert, csr, &ca, &below, NULL), 0);
    assert_int_equal(cert_sign_leaf(key, below, leaf_csr, &spec, &leaf, NULL), 0);
    assert_int_equal(cert_to_pem(leaf, &chain, NULL) + cert_to_pem(below, &chain, NULL), 0);
    assert_int_equal(buf_append_str(&chain, buf_str(&a->pem)), 0);
    assert_int_equal(pki_read(f->user, "root.crt", &root, NULL), 0);
    return cert_verify_chain(buf_str(&chain), buf_str(&root), CERT_CLIENT, clock_real(), NULL, NULL) == 0;
}

static void test_intermediates_are_bound(void **state)
{
    static const struct {
        const char *name, *host, *uri;
        unsigned usage;
    } all[] = {
        {"server-ca", "controlplane", "davit://controlplane", CERT_CLIENT | CERT_SERVER},
        {"agents-ca", "server", "davit://server/0b7e", CERT_CLIENT},
        {"sandboxes-ca", "sandbox", "davit://sandbox/0b7e", CERT_CLIENT | CERT_SERVER},
    };
    struct fixture *f = *state;
    complete(f);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct authority a;
        authority_of(f, all[i].name, &a);
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            assert_int_equal(holds(f, &a, all[k].uri, CERT_CLIENT), i == k && (all[i].usage & CERT_CLIENT));
            assert_int_equal(holds(f, &a, all[k].uri, CERT_SERVER), i == k && (all[i].usage & CERT_SERVER));
        }
        assert_false(holds(f, &a, "davit://cli", CERT_CLIENT));
        assert_false(extends(f, &a, all[i].host, all[i].uri));
        authority_release(&a);
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_steps), T(test_user_keys_stay), T(test_intermediates_are_bound), T(test_repeating_changes_nothing), T(test_leaf_renewed),
        T(test_cli_and_intermediates_renewed),
        T(test_another_user_refused), T(test_lost_root_key), T(test_agent_certificate), T(test_mixed_up_files),
        T(test_made_before_there_were_sandboxes), T(test_wrong_clock), T(test_first_signing_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
