/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's directory: config.yaml both ways, modes, locks, and what is said about credentials that do not fit. */
#include "host/link/agent_config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/cert.h"

struct ctx {
    char dir[64];
    struct agent_config c;
    struct err err;
};

static int setup(void **state)
{
    struct ctx *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    (void)str_copy(x->dir, sizeof(x->dir), STR("/tmp/davit-config-XXXXXX"));
    assert_non_null(mkdtemp(x->dir));
    AUTO_FREE char *inner = str_printf("%s/agent", x->dir);
    assert_int_equal(agent_config_init(&x->c, inner, &x->err), 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct ctx *x = *state;
    agent_config_release(&x->c);
    assert_int_equal(fd_remove_tree(x->dir, NULL), 0);
    free(x);
    return 0;
}

static mode_t mode_of(const struct agent_config *c, const char *name)
{
    AUTO_FREE char *path = agent_config_path(c, name);
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void lock(struct ctx *x, int *ret_fd)
{
    int machine;
    assert_int_equal(agent_config_lock(&x->c, ret_fd, &machine, &x->err), 0);
    assert_int_equal(machine, -1);
}

/* req: CL-45 */
static void test_file_keeps_what_was_set(void **state)
{
    struct ctx *x = *state;
    int fd;
    lock(x, &fd);
    agent_config_set(&x->c.server_id, "0b5a");
    agent_config_set(&x->c.server_name, "gr\xc3\xbcn: one");
    agent_config_set(&x->c.grpc_endpoint, "[2001:db8::1]:7442");
    agent_config_set(&x->c.auth_mode, "mtls");
    x->c.generation = 4;
    assert_int_equal(agent_config_save(&x->c, &x->err), 0);
    assert_int_equal(mode_of(&x->c, "config.yaml"), 0600);
    assert_int_equal(mode_of(&x->c, "."), 0700);
    struct agent_config again;
    assert_int_equal(agent_config_init(&again, x->c.dir, &x->err), 0);
    assert_int_equal(agent_config_load(&again, &x->err), 0);
    assert_string_equal(again.server_id, "0b5a");
    assert_string_equal(again.server_name, "gr\xc3\xbcn: one");
    assert_string_equal(again.grpc_endpoint, "[2001:db8::1]:7442");
    assert_string_equal(again.cert_dir, x->c.dir);
    assert_string_equal(again.public_ip_url, "");
    assert_int_equal(again.generation, 4);
    agent_config_release(&again);
    (void)close(fd);
}

static void test_absent_file_is_no_failure(void **state)
{
    struct ctx *x = *state;
    assert_int_equal(agent_config_load(&x->c, &x->err), 1);
}

static void test_reader_is_strict_and_names_the_line(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"server_id: a\nserver_idd: b\n", "line 2"},
        {"server_id: a\n\nserver_id: b\n", "twice"},
        {"just text\n", "line 1"},
        {"auth_mode: token\n", "auth_mode"},
        {"generation: x\n", "generation"},
        {"generation: 4294967296\n", "generation"},
        {"server_name: \x01\n", "server_name"},
        {"server_name: \xff\n", "server_name"},
    };
    struct ctx *x = *state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        x->err = ERR_INIT;
        assert_int_equal(agent_config_parse(&x->c, str_from(bad[i].text), &x->err), -ERR_INVALID);
        assert_non_null(strstr(x->err.msg, bad[i].says));
    }
    assert_int_equal(agent_config_parse(&x->c, STR("# a\n\n  server_id:  b \nauth_mode: local"), &x->err), 0);
    assert_string_equal(x->c.server_id, "b");
}

static void test_values_have_a_limit(void **state)
{
    struct ctx *x = *state;
    char text[AGENT_VALUE_MAX + 64] = "server_name: ";
    size_t n = strlen(text);
    memset(text + n, 'a', AGENT_VALUE_MAX);
    assert_int_equal(agent_config_parse(&x->c, (struct str){text, n + AGENT_VALUE_MAX}, &x->err), 0);
    memset(text + n, 'a', AGENT_VALUE_MAX + 1);
    assert_int_equal(agent_config_parse(&x->c, (struct str){text, n + AGENT_VALUE_MAX + 1}, &x->err), -ERR_INVALID);
    agent_config_set(&x->c.server_name, "two\nlines: x");
    assert_int_equal(agent_config_save(&x->c, &x->err), -ERR_INVALID);
}

/* req: CL-2 */
static void test_a_second_one_is_refused_by_the_lock(void **state)
{
    struct ctx *x = *state;
    int fd, second = 7, machine;
    lock(x, &fd);
    assert_int_equal(agent_config_lock(&x->c, &second, &machine, &x->err), -ERR_EXISTS);
    assert_int_equal(second, -1);
    AUTO_FREE char *pid = str_printf("%d", (int)getpid());
    assert_non_null(strstr(x->err.msg, pid));
    (void)close(fd);
    lock(x, &fd);
    (void)close(fd);
}

static void write_text(const struct agent_config *c, const char *name)
{
    AUTO_FREE char *path = agent_config_path(c, name);
    assert_int_equal(fd_write_file(path, "x", 1, 0600, NULL), 0);
}

static bool exists(const struct agent_config *c, const char *name)
{
    AUTO_FREE char *path = agent_config_path(c, name);
    return access(path, F_OK) == 0;
}

/* req: MA-5 */
static void test_the_lock_removes_what_a_crash_left_half_written(void **state)
{
    static const char *const left[] = {"client.key.0123456789abcdef.tmp", "config.yaml.0123456789abcdef.tmp", "ca.crt.fedcba9876543210.tmp",
                                       "client.crt.0123456789abcdef.tmp", "client.key.new.57bfd849-78fb-42ce-aa35-43fe4d4d6ad0"};
    /* What is whole, or nobody's of ours. */
    static const char *const kept[] = {"client.key.new", "client.key", "config.yaml", "client.key.old", "notes.0123456789abcdef.tmp",
                                       "config.yaml.tmp", "client.key.new.57bfd849", "config.yaml.0123456789abcdeg.tmp"};
    struct ctx *x = *state;
    int fd;
    lock(x, &fd);
    (void)close(fd);
    for (size_t i = 0; i < ARRAY_LEN(left); i++)
        write_text(&x->c, left[i]);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        write_text(&x->c, kept[i]);
    lock(x, &fd);
    for (size_t i = 0; i < ARRAY_LEN(left); i++)
        assert_false(exists(&x->c, left[i]));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        assert_true(exists(&x->c, kept[i]));
    (void)close(fd);
    /* The key's first name, where only its removal is missing. */
    AUTO_FREE char *key = agent_config_path(&x->c, "client.key");
    AUTO_FREE char *fresh = agent_config_path(&x->c, "client.key.new");
    assert_int_equal(unlink(fresh), 0);
    assert_int_equal(link(key, fresh), 0);
    lock(x, &fd);
    assert_false(exists(&x->c, "client.key.new"));
    assert_true(exists(&x->c, "client.key"));
    (void)close(fd);
}

static void write_file(const struct agent_config *c, const char *name, const struct buf *b)
{
    AUTO_FREE char *path = agent_config_path(c, name);
    assert_int_equal(fd_write_file(path, b->data, b->len, 0600, NULL), 0);
}

/* A root that signs for @uri, valid until @not_after. */
static void make_files(struct ctx *x, const char *uri, usec_t not_after)
{
    AUTO_KEY root_key = NULL;
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    AUTO_CERT leaf = NULL;
    AUTO_CSR csr = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX), pem = BUF_INIT(CERT_PEM_MAX), ca = BUF_INIT(CERT_PEM_MAX);
    AUTO_FREE char *path = agent_config_path(&x->c, "client.key");
    struct leaf_spec spec = {.common_name = "x", .uri = uri, .usage = CERT_CLIENT, .not_after = not_after};
    assert_int_equal(fd_mkdir_p(x->c.dir, 0700, NULL), 0);
    assert_int_equal(key_generate(&root_key, &x->err), 0);
    assert_int_equal(cert_make_root(root_key, "root", 10, &root, &x->err), 0);
    (void)unlink(path);
    assert_int_equal(key_load_or_make(path, &key, &x->err), 0);
    assert_int_equal(csr_make(key, "x", &der, &x->err), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, &x->err), 0);
    if (cert_sign_leaf(root_key, root, csr, &spec, &leaf, &x->err) != 0)
        fail_msg("%s", x->err.msg);
    assert_int_equal(cert_to_pem(leaf, &pem, &x->err), 0);
    assert_int_equal(cert_to_pem(root, &ca, &x->err), 0);
    write_file(&x->c, "client.crt", &pem);
    write_file(&x->c, "ca.crt", &ca);
}

static void refuses(struct ctx *x, const char *says)
{
    struct agent_identity id;
    x->err = ERR_INIT;
    assert_int_equal(agent_identity_load(&x->c, &id, &x->err), -ERR_PRECONDITION);
    assert_non_null(strstr(x->err.msg, says));
    assert_true(*x->err.hint);
}

/* req: CL-44 */
static void test_credentials_must_fit_together(void **state)
{
    struct ctx *x = *state;
    struct agent_identity id;
    usec_t soon = clock_real() + USEC_DAY;
    agent_config_set(&x->c.server_id, "11111111-2222-3333-4444-555555555555");
    assert_int_equal(agent_identity_load(&x->c, &id, &x->err), -ERR_NOT_FOUND);
    make_files(x, "davit://server/11111111-2222-3333-4444-555555555555", soon);
    if (agent_identity_load(&x->c, &id, &x->err) != 0)
        fail_msg("%s", x->err.msg);
    assert_true(secret_len(id.key_pem) > 0);
    agent_identity_release(&id);
    assert_int_equal(mode_of(&x->c, "client.key"), 0600);
    agent_config_set(&x->c.server_id, "21111111-2222-3333-4444-555555555555");
    refuses(x, "is not the certificate of the server");
    agent_config_set(&x->c.server_id, "11111111-2222-3333-4444-555555555555");
    AUTO_FREE char *key = agent_config_path(&x->c, "client.key");
    AUTO_KEY other = NULL;
    assert_int_equal(unlink(key), 0);
    assert_int_equal(key_load_or_make(key, &other, &x->err), 0);
    refuses(x, "is not the key");
    make_files(x, "davit://server/11111111-2222-3333-4444-555555555555", soon);
    AUTO_BUF nothing = BUF_INIT(64);
    assert_int_equal(buf_append_cstr(&nothing, "no certificate"), 0);
    write_file(&x->c, "client.crt", &nothing);
    refuses(x, "no certificate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_keeps_what_was_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_file_is_no_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_is_strict_and_names_the_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_have_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_second_one_is_refused_by_the_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_lock_removes_what_a_crash_left_half_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_credentials_must_fit_together, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
