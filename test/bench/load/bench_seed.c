/* SPDX-License-Identifier: Apache-2.0 */
/* bench_seed — a control plane that knows N servers already, as if each had enrolled: keys of a user and of the control plane, rows, one
 * certificate a server. usage: bench_seed USER_DIR STATE_DIR N OUT_DIR
 * OUT_DIR gets root.crt, agent.key (one key for all: its making is not what is measured), one <i>.crt a server and `ids`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "control/schema.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"
#include "store/store.h"

enum { SERVERS_MAX = 10000, STATE_OFFLINE = 3 };
static const usec_t LIFETIME = 90 * 24 * 3600 * USEC_SEC;

struct seed {
    const char *state, *out;
    struct buf csr;
    unsigned n;
    usec_t now;
    FILE *ids;
};

static int put_rows(struct db *db, const struct seed *s, unsigned i, const char *id, const struct pki_issued *issued, struct err *err)
{
    char name[32];
    const char *serial = issued->serial + strspn(issued->serial, "0"); /* as the control plane keeps it */
    (void)snprintf(name, sizeof(name), "s%u", i);
    int rc = db_exec(db, err,
                     "INSERT INTO servers (id, name, state, reason, profile, preferred, local, system, seen, mode, created_us, enrolled_us,"
                     " heartbeat_us, skew_us, generation, oldest, last_seq)"
                     " VALUES (?, ?, ?, 'seeded', 1, '', 0, ?, '', 'direct', ?, ?, ?, 0, 1, 1, 0)",
                     "ttibiii", id, name, (int64_t)STATE_OFFLINE, STR(""), (int64_t)s->now, (int64_t)s->now, (int64_t)s->now);
    if (rc == 0)
        rc = db_exec(db, err,
                     "INSERT INTO certificates (serial, server_id, generation, issued_us, expires_us, revoked_us) VALUES (?, ?, 1, ?, ?, 0)",
                     "ttii", serial, id, (int64_t)s->now, (int64_t)issued->not_after);
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO services (project, name, server_id, newest, active, updated_us) VALUES ('bench', ?, ?, '', '', ?)",
                     "tti", name, id, (int64_t)s->now);
    return rc;
}

static int seed_rows(struct db *db, void *arg, struct err *err)
{
    struct seed *s = arg;
    for (unsigned i = 0; i < s->n; i++) {
        AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
        AUTO_FREE char *path = str_printf("%s/%u.crt", s->out, i);
        struct pki_issued issued;
        char id[37];
        rng_uuid(id);
        int rc = pki_control_sign_agent(s->state, buf_str(&s->csr), id, 1, LIFETIME, &pem, &issued, err);
        if (rc == 0)
            rc = fd_write_file(path, pem.data, pem.len, 0600, err);
        if (rc == 0)
            rc = put_rows(db, s, i, id, &issued, err);
        if (rc < 0)
            return rc;
        (void)fprintf(s->ids, "%s\n", id);
    }
    return 0;
}

static int make_keys(struct seed *s, const char *user, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    AUTO_FREE char *key_path = str_printf("%s/agent.key", s->out), *root_path = str_printf("%s/root.crt", s->out);
    int rc = fd_mkdir_p(user, 0700, err);
    if (rc >= 0)
        rc = fd_mkdir_p(s->state, 0700, err);
    if (rc >= 0)
        rc = fd_mkdir_p(s->out, 0700, err);
    if (rc >= 0)
        rc = pki_user_init(user, err);
    if (rc >= 0)
        rc = pki_control_prepare(s->state, err);
    if (rc >= 0)
        rc = pki_user_sign(user, s->state, err);
    if (rc >= 0)
        rc = key_load_or_make(key_path, &key, err);
    if (rc >= 0)
        rc = csr_make(key, "agent", &s->csr, err);
    if (rc >= 0)
        rc = pki_read(s->state, "root.crt", &root, err);
    return rc < 0 ? rc : fd_write_file(root_path, root.data, root.len, 0644, err);
}

static int seed(struct seed *s, const char *user, struct err *err)
{
    struct store *store = NULL;
    AUTO_FREE char *db = str_printf("%s/control.db", s->state), *ids = str_printf("%s/ids", s->out);
    int rc = make_keys(s, user, err);
    if (rc < 0)
        return rc;
    s->ids = fopen(ids, "we");
    if (!s->ids)
        return err_sys(err, errno, "cannot write %s", ids);
    rc = store_open(NULL, db, schema_migrations, schema_n_migrations, &store, err);
    if (rc == 0)
        rc = store_write_sync(store, seed_rows, s, err);
    store_close(store);
    return fclose(s->ids) == 0 ? rc : err_sys(err, errno, "cannot write %s", ids);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    uint64_t n = 0;
    if (argc != 5 || str_to_u64(str_from(argv[3]), SERVERS_MAX, &n) != 0 || n == 0) {
        (void)fputs("usage: bench_seed USER_DIR STATE_DIR N OUT_DIR\n", stderr);
        return 2;
    }
    struct seed s = {.state = argv[2], .out = argv[4], .csr = BUF_INIT(CSR_MAX), .n = (unsigned)n, .now = clock_real()};
    int rc = seed(&s, argv[1], &err);
    buf_release(&s.csr);
    if (rc < 0)
        (void)fprintf(stderr, "bench_seed: %s\n", err.msg);
    return rc < 0 ? 1 : 0;
}
