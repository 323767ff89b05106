/* SPDX-License-Identifier: Apache-2.0 */
/* What a server shall run: kept over a restart, sealed, bound to its server, within its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/work/desired.h"
#include "ident/seal.h"
#include "store/store.h"

struct fixture {
    char dir[64], path[96], key[96];
    struct desired *d;
};

static struct {
    Davit__Link__V1__Deploy msg;
    Davit__Common__V1__ServiceSpec spec;
    Davit__Common__V1__EnvVar env, *envs[1];
    Davit__Common__V1__RegistryAuth auth;
} m;

/* A deployment of @project/@name. */
static struct desired_service service(const char *project, const char *name, uint32_t replicas)
{
    davit__link__v1__deploy__init(&m.msg);
    davit__common__v1__service_spec__init(&m.spec);
    davit__common__v1__env_var__init(&m.env);
    davit__common__v1__registry_auth__init(&m.auth);
    m.env.name = (char *)"TOKEN";
    m.env.value = (char *)"very-secret-value";
    m.envs[0] = &m.env;
    m.spec.project = (char *)project;
    m.spec.name = (char *)name;
    m.spec.image = (char *)"web:1";
    m.spec.env = m.envs;
    m.spec.n_env = 1;
    m.auth.password = (char *)"registry-password";
    m.msg.deployment_id = (char *)"0f9c7d1e-0000";
    m.msg.spec = &m.spec;
    m.msg.registry_auth = &m.auth;
    return (struct desired_service){.deploy = &m.msg, .replicas = replicas, .image_digest = "sha256:abc"};
}

static int put(struct fixture *f, const char *project, const char *name, uint32_t replicas)
{
    struct desired_service s = service(project, name, replicas);
    return desired_put(f->d, &s, NULL);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/davit-desired-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/desired.db", f->dir);
    (void)snprintf(f->key, sizeof(f->key), "%s/journal.key", f->dir);
    assert_int_equal(seal_make(f->key, NULL), 0);
    assert_int_equal(desired_open(NULL, f->path, &f->d, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)desired_close(f->d);
    assert_int_equal(fd_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static int reopen(struct fixture *f)
{
    f->d = desired_close(f->d);
    return desired_open(NULL, f->path, &f->d, NULL);
}

/* req: WK-16 */
static void test_what_is_desired_outlives_the_agent(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(desired_count(f->d), 0);
    assert_int_equal(put(f, "shop", "web", 3), 0);
    assert_int_equal(put(f, "shop", "db", 1), 0);
    assert_int_equal(put(f, "blog", "web", 1), 0);
    assert_int_equal(desired_set_stopped(f->d, "shop", "db", true, NULL), 0);
    assert_int_equal(desired_set_stopped(f->d, "no", "such", true, NULL), 0);
    assert_int_equal(desired_drop(f->d, "blog", "web", NULL), 0);
    assert_int_equal(desired_drop(f->d, "blog", "web", NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(desired_count(f->d), 2);
        const struct desired_service *s = desired_get(f->d, "shop", "web");
        assert_non_null(s);
        assert_int_equal(s->replicas, 3);
        assert_false(s->stopped);
        assert_string_equal(s->image_digest, "sha256:abc");
        assert_string_equal(s->deploy->deployment_id, "0f9c7d1e-0000");
        assert_string_equal(s->deploy->spec->env[0]->value, "very-secret-value");
        assert_null(s->deploy->registry_auth);
        assert_true(desired_get(f->d, "shop", "db")->stopped);
        assert_null(desired_get(f->d, "blog", "web"));
        assert_non_null(desired_at(f->d, 1));
        assert_null(desired_at(f->d, 2));
        assert_int_equal(reopen(f), 0);
    }
    assert_int_equal(put(f, "shop", "db", 2), 0); /* a new deployment runs */
    assert_false(desired_get(f->d, "shop", "db")->stopped);
    assert_int_equal(desired_get(f->d, "shop", "db")->replicas, 2);
    assert_int_equal(desired_count(f->d), 2);
}

static void test_nothing_secret_is_on_the_disk(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF text = BUF_INIT(16 * 1024 * 1024);
    AUTO_FREE char *wal = str_printf("%s-wal", f->path);
    assert_int_equal(put(f, "shop", "web", 1), 0);
    assert_int_equal(fd_read_file(f->path, &text, NULL), 0);
    (void)fd_read_file(wal, &text, NULL);
    assert_true(text.len > 4096);
    assert_null(memmem(text.data, text.len, "very-secret-value", 17));
    assert_null(memmem(text.data, text.len, "registry-password", 17));
    assert_non_null(memmem(text.data, text.len, "shop", 4));
}

static void test_of_another_server_it_is_emptied(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(desired_set_server(f->d, "srv-1", NULL), 0);
    assert_int_equal(put(f, "shop", "web", 1), 0);
    assert_int_equal(reopen(f), 0);
    assert_int_equal(desired_set_server(f->d, "srv-1", NULL), 0);
    assert_int_equal(desired_count(f->d), 1);
    assert_int_equal(desired_set_server(f->d, "srv-2", NULL), 1);
    assert_int_equal(desired_count(f->d), 0);
    assert_int_equal(reopen(f), 0);
    assert_int_equal(desired_count(f->d), 0);
    assert_int_equal(desired_set_server(f->d, "srv-2", NULL), 0);
}

static int spoil_fn(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    /* Moved to another row, an envelope does not open. */
    return db_exec(db, err, "UPDATE service SET name = 'other' WHERE name = 'web'", "");
}

static void test_what_does_not_open_hides_nothing_else(void **state)
{
    static const struct store_migration none[] = {{"services", "SELECT 1"}};
    struct fixture *f = *state;
    struct store *store = NULL;
    assert_int_equal(put(f, "shop", "web", 1), 0);
    assert_int_equal(put(f, "shop", "db", 1), 0);
    f->d = desired_close(f->d);
    assert_int_equal(store_open(NULL, f->path, none, 1, &store, NULL), 0);
    assert_int_equal(store_write_sync(store, spoil_fn, NULL, NULL), 0);
    store = store_close(store);
    assert_int_equal(desired_open(NULL, f->path, &f->d, NULL), 1);
    assert_int_equal(desired_count(f->d), 1);
    assert_non_null(desired_get(f->d, "shop", "db"));
    /* Without the key there is nothing to read. */
    f->d = desired_close(f->d);
    assert_int_equal(remove(f->key), 0);
    assert_int_equal(desired_open(NULL, f->path, &f->d, NULL), -ERR_NOT_FOUND);
    assert_int_equal(seal_make(f->key, NULL), 0);
    assert_int_equal(desired_open(NULL, f->path, &f->d, NULL), 1);
    assert_int_equal(desired_count(f->d), 0);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    struct desired_service s = service("shop", "web", 0);
    assert_int_equal(desired_put(f->d, &s, NULL), -ERR_INVALID);
    AUTO_FREE char *big = mem_zalloc(1, DESIRED_BYTES_MAX + 1);
    s = service("shop", "web", 1);
    m.msg.registry_auth = NULL;
    m.env.value = big;
    memset(big, 'x', DESIRED_BYTES_MAX - 128);
    size_t rest = DESIRED_BYTES_MAX - davit__link__v1__deploy__get_packed_size(&m.msg);
    memset(big, 'x', DESIRED_BYTES_MAX - 128 + rest);
    assert_int_equal(davit__link__v1__deploy__get_packed_size(&m.msg), DESIRED_BYTES_MAX);
    assert_int_equal(desired_put(f->d, &s, NULL), 0);
    big[strlen(big)] = 'x';
    assert_int_equal(desired_put(f->d, &s, NULL), -ERR_INVALID);
    assert_int_equal(desired_drop(f->d, "shop", "web", NULL), 0);
    for (int i = 0; i < DESIRED_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "s%d", i);
        assert_int_equal(put(f, "shop", name, 1), 0);
    }
    assert_int_equal(put(f, "shop", "one-more", 1), -ERR_EXHAUSTED);
    assert_int_equal(put(f, "shop", "s7", 2), 0);
    assert_int_equal(desired_count(f->d), DESIRED_MAX);
    assert_null(desired_get(f->d, "shop", "one-more"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_desired_outlives_the_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_secret_is_on_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_another_server_it_is_emptied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_does_not_open_hides_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
