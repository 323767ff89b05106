/* SPDX-License-Identifier: Apache-2.0 */
/* desired — a table of services in a store of its own, and the same in memory, which is changed once the disk has it. */
#include "host/work/desired.h"

#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "ident/seal.h"
#include "loop/fiber.h"
#include "store/store.h"

enum { NAME_MAX_BYTES = 63, REPLICAS_MAX = 1000 };
#define DESIRED_WAIT (30 * USEC_SEC)

struct desired {
    struct store *store;
    struct seal *seal;
    struct desired_service **items; /* each owned */
    size_t n;
    bool waits; /* has a loop */
};

static const struct store_migration MIGRATIONS[] = {
    {"services", "CREATE TABLE service (project TEXT NOT NULL, name TEXT NOT NULL, deploy BLOB NOT NULL, replicas INTEGER NOT NULL,"
                 " stopped INTEGER NOT NULL, image_digest TEXT NOT NULL, PRIMARY KEY (project, name)) STRICT;"
                 "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"},
};

/* What one call carries into its unit of work. */
struct call {
    struct desired *d;
    const char *project, *service, *server;
    const struct desired_service *s;
    struct str sealed;
    bool flag; /* result of a load, value of a change */
};

static int run_write(struct desired *d, store_fn *fn, struct call *call, struct err *err)
{
    return d->waits ? store_write(d->store, fn, call, deadline_in(DESIRED_WAIT), err) : store_write_sync(d->store, fn, call, err);
}

/* --- In memory ---- */

static struct desired_service *service_free(struct desired_service *s)
{
    if (!s)
        return NULL;
    if (s->deploy->spec)
        for (size_t i = 0; i < s->deploy->spec->n_env; i++)
            explicit_bzero(s->deploy->spec->env[i]->value, strlen(s->deploy->spec->env[i]->value));
    davit__link__v1__deploy__free_unpacked(s->deploy, NULL);
    free(s);
    return NULL;
}

static struct desired_service **find(const struct desired *d, const char *project, const char *service)
{
    for (size_t i = 0; i < d->n; i++) {
        const Davit__Common__V1__ServiceSpec *spec = d->items[i]->deploy->spec;
        if (strcmp(spec->project, project) == 0 && strcmp(spec->name, service) == 0)
            return &d->items[i];
    }
    return NULL;
}

static void forget(struct desired *d, const char *project, const char *service)
{
    struct desired_service **at = find(d, project, service);
    if (!at)
        return;
    (void)service_free(*at);
    *at = d->items[--d->n];
}

/* Takes @s. */
static void remember(struct desired *d, struct desired_service *s)
{
    struct desired_service **at = find(d, s->deploy->spec->project, s->deploy->spec->name);
    if (at) {
        (void)service_free(*at);
        *at = s;
        return;
    }
    d->items = mem_resize(d->items, d->n + 1, sizeof(struct desired_service *));
    d->items[d->n++] = s;
}

static void forget_all(struct desired *d)
{
    for (size_t i = 0; i < d->n; i++)
        (void)service_free(d->items[i]);
    free(d->items);
    d->items = NULL;
    d->n = 0;
}

/* NULL: these bytes are no deployment of that service. */
static struct desired_service *service_new(struct str packed, const char *project, const char *service)
{
    Davit__Link__V1__Deploy *m = davit__link__v1__deploy__unpack(NULL, packed.n, (const uint8_t *)packed.p);
    if (m && m->spec && strcmp(m->spec->project, project) == 0 && strcmp(m->spec->name, service) == 0) {
        struct desired_service *s = NEW(struct desired_service);
        s->deploy = m;
        return s;
    }
    davit__link__v1__deploy__free_unpacked(m, NULL);
    return NULL;
}

/* --- On disk ---- */

static char *place_of(const char *project, const char *service)
{
    return str_printf("desired.deploy/%s/%s", project, service);
}

static struct desired_service *read_row(struct desired *d, struct rows *rows)
{
    AUTO_FREE char *project = str_dup(row_text(rows, 0)), *service = str_dup(row_text(rows, 1));
    AUTO_FREE char *place = place_of(project, service);
    AUTO_SECRET packed = NULL;
    if (seal_open(d->seal, place, row_blob(rows, 2), &packed, NULL) < 0)
        return NULL;
    struct desired_service *s = service_new(secret_reveal(packed), project, service);
    if (!s)
        return NULL;
    int64_t replicas = row_i64(rows, 3);
    s->replicas = replicas < 1 ? 1 : replicas > REPLICAS_MAX ? REPLICAS_MAX : (uint32_t)replicas;
    s->stopped = row_i64(rows, 4) != 0;
    (void)str_copy(s->image_digest, sizeof(s->image_digest), row_text(rows, 5));
    return s;
}

/* One that does not open must not hide the others. */
static int load_fn(struct db *db, void *arg, struct err *err)
{
    struct call *c = arg;
    AUTO_ROWS rows = NULL;
    forget_all(c->d);
    int rc = db_query(db, &rows, err, "SELECT project, name, deploy, replicas, stopped, image_digest FROM service", "");
    if (rc < 0)
        return rc;
    while ((rc = rows_next(rows, err)) == 1) {
        struct desired_service *s = read_row(c->d, rows);
        if (s)
            remember(c->d, s);
        c->flag = c->flag || !s;
    }
    return rc;
}

struct desired *desired_close(struct desired *d)
{
    if (!d)
        return NULL;
    forget_all(d);
    (void)store_close(d->store);
    (void)seal_free(d->seal);
    free(d);
    return NULL;
}

int desired_open(struct loop *loop, const char *path, struct desired **ret, struct err *err)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *key = str_printf("%.*sjournal.key", slash ? (int)(slash - path) + 1 : 0, path);
    struct desired *d = NEW(struct desired);
    struct call c = {.d = d};
    d->waits = loop != NULL;
    int rc = seal_load(key, &d->seal, err);
    if (rc == 0)
        rc = store_open(loop, path, MIGRATIONS, ARRAY_LEN(MIGRATIONS), &d->store, err);
    if (rc == 0)
        rc = store_read_sync(d->store, load_fn, &c, err);
    if (rc < 0) {
        (void)desired_close(d);
        return rc;
    }
    *ret = d;
    return c.flag ? 1 : 0;
}

static int set_server_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err, "SELECT value FROM meta WHERE name = 'server_id'", "");
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc < 0 || (rc == 1 && str_eq(row_text(rows, 0), str_from(c->server))))
        return rc < 0 ? rc : 1; /* as before: nothing to write */
    rows = rows_done(rows);
    rc = db_exec(db, err, "DELETE FROM service", "");
    return rc < 0 ? rc : db_exec(db, err, "INSERT INTO meta (name, value) VALUES ('server_id', ?)"
                                          " ON CONFLICT (name) DO UPDATE SET value = excluded.value", "t", c->server);
}

int desired_set_server(struct desired *d, const char *server_id, struct err *err)
{
    struct call c = {.server = server_id};
    bool some = d->n > 0;
    int rc = run_write(d, set_server_fn, &c, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    forget_all(d);
    return some;
}

static int put_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    int64_t n = 0;
    int rc = db_get_i64(db, &n, err, "SELECT count(*) FROM service WHERE NOT (project = ? AND name = ?)", "tt", c->project, c->service);
    if (rc == 0 && n >= DESIRED_MAX)
        return err_set(err, ERR_EXHAUSTED, "this server runs %d services and can keep no more", DESIRED_MAX);
    return rc < 0 ? rc
                  : db_exec(db, err,
                            "INSERT INTO service (project, name, deploy, replicas, stopped, image_digest) VALUES (?, ?, ?, ?, ?, ?)"
                            " ON CONFLICT (project, name) DO UPDATE SET deploy = excluded.deploy, replicas = excluded.replicas,"
                            " stopped = excluded.stopped, image_digest = excluded.image_digest",
                            "ttbiit", c->project, c->service, c->sealed, (int64_t)c->s->replicas, (int64_t)c->s->stopped, c->s->image_digest);
}

static bool is_name(const char *s)
{
    return s && *s && strlen(s) <= NAME_MAX_BYTES;
}

int desired_put(struct desired *d, const struct desired_service *s, struct err *err)
{
    Davit__Link__V1__Deploy m = *s->deploy;
    if (!m.spec || !is_name(m.spec->project) || !is_name(m.spec->name) || s->replicas < 1 || s->replicas > REPLICAS_MAX)
        return err_set(err, ERR_INVALID, "a service without a name, or with %u containers", s->replicas);
    m.registry_auth = NULL;
    size_t n = davit__link__v1__deploy__get_packed_size(&m);
    if (n > DESIRED_BYTES_MAX)
        return err_set(err, ERR_INVALID, "a deployment of %zu bytes (at most %d)", n, DESIRED_BYTES_MAX);
    AUTO_SECRET packed = secret_blank(n);
    (void)davit__link__v1__deploy__pack(&m, (uint8_t *)secret_writable(packed));
    AUTO_BUF sealed = BUF_INIT(DESIRED_BYTES_MAX + SEAL_OVERHEAD);
    AUTO_FREE char *place = place_of(m.spec->project, m.spec->name);
    int rc = seal_close(d->seal, place, secret_reveal(packed), &sealed, err);
    if (rc < 0)
        return rc;
    struct desired_service *copy = service_new(secret_reveal(packed), m.spec->project, m.spec->name);
    if (!copy)
        return err_set(err, ERR_INVALID, "a deployment that cannot be read back");
    copy->replicas = s->replicas;
    copy->stopped = s->stopped;
    (void)str_copy(copy->image_digest, sizeof(copy->image_digest), str_from(s->image_digest));
    struct call c = {.project = copy->deploy->spec->project, .service = copy->deploy->spec->name, .s = copy, .sealed = buf_str(&sealed)};
    rc = run_write(d, put_fn, &c, err);
    if (rc < 0)
        (void)service_free(copy);
    else
        remember(d, copy);
    return rc;
}

static int drop_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    return db_exec(db, err, "DELETE FROM service WHERE project = ? AND name = ?", "tt", c->project, c->service);
}

int desired_drop(struct desired *d, const char *project, const char *service, struct err *err)
{
    struct call c = {.project = project, .service = service};
    int rc = run_write(d, drop_fn, &c, err);
    if (rc == 0)
        forget(d, project, service);
    return rc;
}

static int stopped_fn(struct db *db, void *arg, struct err *err)
{
    const struct call *c = arg;
    return db_exec(db, err, "UPDATE service SET stopped = ? WHERE project = ? AND name = ?", "itt", (int64_t)c->flag, c->project, c->service);
}

int desired_set_stopped(struct desired *d, const char *project, const char *service, bool stopped, struct err *err)
{
    struct desired_service **at = find(d, project, service);
    struct call c = {.project = project, .service = service, .flag = stopped};
    if (!at || (*at)->stopped == stopped)
        return 0;
    int rc = run_write(d, stopped_fn, &c, err);
    if (rc == 0 && (at = find(d, project, service)))
        (*at)->stopped = stopped;
    return rc;
}

const struct desired_service *desired_get(const struct desired *d, const char *project, const char *service)
{
    struct desired_service **at = find(d, project, service);
    return at ? *at : NULL;
}

size_t desired_count(const struct desired *d)
{
    return d->n;
}

const struct desired_service *desired_at(const struct desired *d, size_t i)
{
    return i < d->n ? d->items[i] : NULL;
}
