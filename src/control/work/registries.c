/* SPDX-License-Identifier: Apache-2.0 */
/* registries — see registries.h; here also RegistryService. */
#include "control/work/registries.h"

#include <string.h>

#include "base/hmap.h"
#include "base/mem.h"
#include "control/people/passes.h"
#include "control/sealed.h"
#include "davit/control/v1/environment.pb-c.h"
#include "ident/digest.h"
#include "ident/seal.h"

#define HUB_ADDRESS "https://index.docker.io/v1/"

enum { BY_MAX = 136, LOGIN_BYTES_MAX = REGISTRY_PASSWORD_MAX + REGISTRY_USER_MAX + REGISTRY_NAME_SIZE + 64 };

struct login {
    char server[REGISTRY_NAME_SIZE];
    char username[REGISTRY_USER_MAX + 1];
    struct secret *password;
    uint64_t changed;
    char by[BY_MAX];
};

struct registries {
    struct hmap *logins; /* by server */
};

static struct login *login_free(struct login *l)
{
    if (!l)
        return NULL;
    l->password = secret_free(l->password);
    free(l);
    return NULL;
}

struct registries *registries_new(void)
{
    struct registries *r = NEW(struct registries);
    r->logins = hmap_new(REGISTRIES_MAX);
    return r;
}

struct registries *registries_free(struct registries *r)
{
    if (!r)
        return NULL;
    for (struct hmap_entry *e = hmap_first(r->logins); e; e = hmap_next(e))
        (void)login_free(hmap_value(e));
    r->logins = hmap_free(r->logins);
    free(r);
    return NULL;
}

int registries_auth_for(const struct control *c, const char *image, struct registry_login *ret)
{
    struct str written;
    davit__common__v1__registry_auth__init(&ret->auth);
    registry_of_image(str_from(image), ret->server, &written);
    const struct login *l = c->registries ? hmap_get(c->registries->logins, str_from(ret->server)) : NULL;
    if (!l)
        return 1;
    /* As the engine compares it with where it pulls from. */
    if (strcmp(ret->server, REGISTRY_HUB) == 0)
        (void)str_copy(ret->server, sizeof(ret->server), STR(HUB_ADDRESS));
    else
        (void)str_copy(ret->server, sizeof(ret->server), written);
    ret->auth.server = ret->server;
    ret->auth.username = lend(l->username);
    ret->auth.password = lend(secret_reveal(l->password).p);
    return 0;
}

/* --- The store --------------------------------------------------------------------------------------------------------------------- */

/* Binds the envelope to its registry: moved to the row of another one it does not open. */
static void id_of(const char *server, char ret[DIGEST_HEX_SIZE])
{
    AUTO_DIGEST d = digest_new();
    digest_add(d, server, strlen(server));
    digest_hex(d, ret);
}

static int seal_login(const struct control *c, const struct login *l, struct buf *out, struct err *err)
{
    Davit__Common__V1__RegistryAuth m = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    AUTO_SECRET_BUF wire = BUF_INIT(LOGIN_BYTES_MAX);
    char id[DIGEST_HEX_SIZE];
    BUG_ON(!buf_reserve(&wire, LOGIN_BYTES_MAX));
    m.server = lend(l->server);
    m.username = lend(l->username);
    m.password = lend(secret_reveal(l->password).p);
    if (rpc_pack(&m.base, &wire) != 0)
        return err_set(err, ERR_EXHAUSTED, "the login is too large");
    id_of(l->server, id);
    return sealed_put(c, SEALED_REGISTRY, id, buf_str(&wire), out, err);
}

static int from_row(const struct control *c, const struct rows *r, struct login **ret, struct err *err)
{
    AUTO_SECRET wire = NULL;
    ProtobufCMessage *m = NULL;
    char id[DIGEST_HEX_SIZE];
    struct login *l = NEW(struct login);
    (void)str_copy(l->server, sizeof(l->server), row_text(r, 0));
    (void)str_copy(l->by, sizeof(l->by), row_text(r, 3));
    l->changed = (uint64_t)row_i64(r, 2);
    id_of(l->server, id);
    int rc = sealed_get(c, SEALED_REGISTRY, id, row_blob(r, 1), &wire, err);
    if (rc == 0 && rpc_unpack(&davit__common__v1__registry_auth__descriptor, secret_reveal(wire), &m, NULL) < 0)
        rc = err_set(err, ERR_DATA_LOSS, "the login for %s cannot be read", l->server);
    if (rc < 0 || !m) {
        (void)login_free(l);
        return rc;
    }
    Davit__Common__V1__RegistryAuth *auth = (Davit__Common__V1__RegistryAuth *)m;
    (void)str_copy(l->username, sizeof(l->username), str_from(auth->username));
    l->password = secret_new(str_from(auth->password));
    explicit_bzero(auth->password, strlen(auth->password));
    rpc_message_free(m);
    *ret = l;
    return 0;
}

static int load(struct db *db, void *arg, struct err *err)
{
    struct control *c = arg;
    AUTO_ROWS rows = NULL;
    void *old = NULL;
    int rc = db_query(db, &rows, err, "SELECT server, login, changed_us, changed_by FROM registries ORDER BY server LIMIT 256", "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct login *l = NULL;
        rc = from_row(c, rows, &l, err);
        if (rc == 0)
            rc = hmap_put(c->registries->logins, str_from(l->server), l, &old);
        (void)login_free(old);
    }
    return rc;
}

int registries_load(struct control *c, struct err *err)
{
    return store_read_sync(c->store, load, c, err);
}

struct login_change {
    const struct login *login;
    struct str sealed;
};

static int write_login(struct db *db, void *arg, struct err *err)
{
    const struct login_change *j = arg;
    char id[DIGEST_HEX_SIZE];
    id_of(j->login->server, id);
    return db_exec(db, err,
                   "INSERT INTO registries (id, server, login, changed_us, changed_by) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                   " SET login = excluded.login, changed_us = excluded.changed_us, changed_by = excluded.changed_by",
                   "ttbit", id, j->login->server, j->sealed, (int64_t)j->login->changed, j->login->by);
}

static int delete_login(struct db *db, void *arg, struct err *err)
{
    const char *server = arg;
    return db_exec(db, err, "DELETE FROM registries WHERE server = ?", "t", server);
}

/* --- RegistryService ---------------------------------------------------------------------------------------------------------------- */

static int answer(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

/* What a header can carry, and nothing that a terminal obeys. */
static bool plain(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static int check(const Davit__Control__V1__SetRegistryRequest *r, struct err *err)
{
    size_t user = strlen(text(r->username)), password = strlen(text(r->password));
    if (!user || user > REGISTRY_USER_MAX || !plain(r->username))
        return err_set(err, ERR_INVALID, "username: 1 to %d bytes without control characters", REGISTRY_USER_MAX);
    if (!password || password > REGISTRY_PASSWORD_MAX || !plain(r->password))
        return err_set(err, ERR_INVALID, "password: 1 to %d bytes without control characters", REGISTRY_PASSWORD_MAX);
    return 0;
}

static int set_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__SetRegistryRequest *r = (const Davit__Control__V1__SetRegistryRequest *)request;
    Davit__Control__V1__SetRegistryResponse m = DAVIT__CONTROL__V1__SET_REGISTRY_RESPONSE__INIT;
    struct hmap *logins = c->registries->logins;
    AUTO_BUF sealed = BUF_INIT(LOGIN_BYTES_MAX + SEAL_OVERHEAD);
    struct login *l = NULL;
    void *old = NULL;
    char server[REGISTRY_NAME_SIZE];
    int rc = registry_name(str_from(r->server), server, err);
    if (rc == 0)
        rc = check(r, err);
    if (rc == 0 && !hmap_get(logins, str_from(server)) && hmap_count(logins) >= REGISTRIES_MAX)
        rc = err_set(err, ERR_EXHAUSTED, "there are logins for %d registries already", REGISTRIES_MAX);
    if (rc < 0)
        return rc;
    l = NEW(struct login);
    (void)str_copy(l->server, sizeof(l->server), str_from(server));
    (void)str_copy(l->username, sizeof(l->username), str_from(r->username));
    (void)str_copy(l->by, sizeof(l->by), str_from(caller_name(call)));
    l->password = secret_new(str_from(r->password));
    l->changed = clock_real();
    struct login_change j = {.login = l};
    rc = seal_login(c, l, &sealed, err);
    j.sealed = buf_str(&sealed);
    if (rc == 0)
        rc = store_write(c->store, write_login, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        rc = hmap_put(logins, str_from(l->server), l, &old);
    if (rc < 0) {
        (void)login_free(l);
        return err_ensure(err, rc);
    }
    (void)login_free(old);
    m.server = server;
    return answer(call, &m.base, err);
}

static int list_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__ListRegistriesResponse m = DAVIT__CONTROL__V1__LIST_REGISTRIES_RESPONSE__INIT;
    const struct hmap *logins = c->registries->logins;
    size_t n = hmap_count(logins);
    /* Copies: sending may wait, and the table change meanwhile. */
    AUTO_FREE struct login *rows = mem_zalloc(n + 1, sizeof(*rows));
    AUTO_FREE Davit__Control__V1__Registry *all = mem_zalloc(n + 1, sizeof(*all));
    AUTO_FREE Davit__Control__V1__Registry **v = mem_zalloc(n + 1, sizeof(Davit__Control__V1__Registry *));
    (void)request;
    for (struct hmap_entry *e = hmap_first(logins); e; e = hmap_next(e)) {
        struct login *l = &rows[m.n_registries];
        Davit__Control__V1__Registry *out = v[m.n_registries] = &all[m.n_registries];
        *l = *(const struct login *)hmap_value(e);
        l->password = NULL;
        davit__control__v1__registry__init(out);
        out->server = lend(l->server);
        out->username = lend(l->username);
        out->changed_us = l->changed;
        out->changed_by = lend(l->by);
        m.n_registries++;
    }
    m.registries = v;
    return answer(call, &m.base, err);
}

static int remove_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RemoveRegistryRequest *r = (const Davit__Control__V1__RemoveRegistryRequest *)request;
    Davit__Control__V1__RemoveRegistryResponse m = DAVIT__CONTROL__V1__REMOVE_REGISTRY_RESPONSE__INIT;
    char server[REGISTRY_NAME_SIZE];
    int rc = registry_name(str_from(r->server), server, err);
    if (rc < 0)
        return rc;
    if (!hmap_get(c->registries->logins, str_from(server))) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no login for %s", server);
        err_hint(err, "davit registry ls shows what there is");
        return -(int)ERR_NOT_FOUND;
    }
    rc = store_write(c->store, delete_login, server, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    (void)login_free(hmap_remove(c->registries->logins, str_from(server)));
    return answer(call, &m.base, err);
}

CONTROL_HANDLER(set_run)
CONTROL_HANDLER(list_run)
CONTROL_HANDLER(remove_run)

const struct rpc_handler registries_handlers[] = {
    {.run = set_run_tracked},
    {.run = list_run_tracked},
    {.run = remove_run_tracked},
};
