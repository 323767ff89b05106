/* SPDX-License-Identifier: Apache-2.0 */
/* cleaning — see cleaning.h: the question. The plans are in cleaning_plans.c. */
#include "control/work/cleaning.h"

#include <string.h>

#include "base/mem.h"
#include "control/work/deployments.h"
#include "control/sealed.h"

/* A list without repetitions. */
struct texts {
    struct hmap *seen;
    char **items;
    size_t n, max;
};

static void texts_add(struct texts *t, struct str s)
{
    if (!s.n || hmap_get(t->seen, s) || hmap_put(t->seen, s, t, NULL) != 0)
        return;
    if (t->n == t->max) {
        t->max = t->max ? 2 * t->max : 16;
        t->items = mem_resize(t->items, t->max, sizeof(*t->items));
    }
    t->items[t->n++] = str_dup(s);
}

enum { DEPLOYMENTS, SERVICES, VOLUMES, KEEP, OLD_DIGESTS, OLD_IMAGES, LISTS };
enum { TEXTS_MAX = 8 * CLEANING_ROWS_MAX };

struct ask_job {
    const struct control *c;
    const char *server_id;
    struct texts lists[LISTS];
    size_t rows;
    bool too_many;
    char service[160]; /* whose deployments are being read */
    unsigned kept;     /* of it, once active and not active now */
};

/* One that is named by its digest, as of a rollback that is under way, may have no tag any more. */
static void keep_image(struct ask_job *j, struct str image)
{
    struct str digest = image;
    (void)str_cut(&digest, '@');
    texts_add(&j->lists[KEEP], image);
    texts_add(&j->lists[KEEP], digest);
}

/* What the deployment @id needs: the name of its image, and its volumes. */
static int add_spec(struct ask_job *j, const char *id, struct str bytes, bool keep, struct err *err)
{
    AUTO_SECRET wire = NULL;
    ProtobufCMessage *m = NULL;
    int rc = sealed_get(j->c, SEALED_SPEC, id, bytes, &wire, err);
    if (rc < 0)
        return rc;
    if (rpc_unpack(&davit__common__v1__service_spec__descriptor, secret_reveal(wire), &m, err) < 0)
        return -(int)ERR_DATA_LOSS; /* who cannot read what is needed must not say what is not */
    const Davit__Common__V1__ServiceSpec *spec = (const Davit__Common__V1__ServiceSpec *)m;
    texts_add(&j->lists[OLD_IMAGES], str_from(spec->image));
    if (keep)
        keep_image(j, str_from(spec->image));
    for (size_t i = 0; keep && i < spec->n_volumes; i++) {
        AUTO_FREE char *name = str_printf("davit-%s-%s", spec->project, spec->volumes[i]->name);
        texts_add(&j->lists[VOLUMES], str_from(name));
    }
    (void)rpc_message_free(m);
    return 0;
}

static int take_row(struct ask_job *j, const struct rows *r, struct err *err)
{
    AUTO_FREE char *id = str_dup(row_text(r, 0));
    AUTO_FREE char *service = str_printf(STR_FMT "/" STR_FMT, STR_ARG(row_text(r, 1)), STR_ARG(row_text(r, 2)));
    int64_t state = row_i64(r, 3);
    bool in_use = row_i64(r, 6) != 0 || (state >= DEPLOYMENT_PENDING && state <= DEPLOYMENT_ACTIVE);
    bool known = row_i64(r, 7) != 0 || in_use, once_active = row_text(r, 5).n > 0;
    if (strcmp(service, j->service) != 0) {
        (void)str_copy(j->service, sizeof(j->service), str_from(service));
        j->kept = 0;
    }
    bool keep = in_use || (known && once_active && j->kept++ < CLEANING_KEEP_IMAGES);
    if (known)
        texts_add(&j->lists[SERVICES], str_from(service));
    if (in_use)
        texts_add(&j->lists[DEPLOYMENTS], str_from(id));
    if (keep)
        texts_add(&j->lists[KEEP], row_text(r, 5));
    texts_add(&j->lists[OLD_DIGESTS], row_text(r, 5));
    return keep || once_active ? add_spec(j, id, row_blob(r, 4), keep, err) : 0;
}

/* Newest first within a service, so that those are kept. */
static int read_ask(struct db *db, void *arg, struct err *err)
{
    struct ask_job *j = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT d.id, d.project, d.service, d.state, d.spec, d.image_digest,"
                      " (SELECT COUNT(*) FROM services s WHERE s.project = d.project AND s.name = d.service"
                      " AND (s.active = d.id OR s.newest = d.id)),"
                      " (SELECT COUNT(*) FROM services s WHERE s.project = d.project AND s.name = d.service AND s.server_id = d.server_id)"
                      " FROM deployments d WHERE d.server_id = ? ORDER BY d.project, d.service, d.created_us DESC, d.id LIMIT ?",
                      "ti", j->server_id, (int64_t)CLEANING_ROWS_MAX + 1);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        if (++j->rows > CLEANING_ROWS_MAX) {
            j->too_many = true;
            return 0;
        }
        rc = take_row(j, rows, err);
    }
    return rc;
}

static void give(struct texts *t, char ***items, size_t *n)
{
    *items = t->items;
    *n = t->n;
    t->items = NULL;
    t->n = 0;
}

static Davit__Link__V1__PrunePlanCall *ask_from(struct ask_job *j, bool volumes)
{
    Davit__Link__V1__PrunePlanCall *m = NEW(Davit__Link__V1__PrunePlanCall);
    davit__link__v1__prune_plan_call__init(m);
    m->containers = m->networks = m->images = true;
    m->volumes = volumes;
    give(&j->lists[DEPLOYMENTS], &m->known_deployments, &m->n_known_deployments);
    give(&j->lists[SERVICES], &m->known_services, &m->n_known_services);
    give(&j->lists[VOLUMES], &m->keep_volumes, &m->n_keep_volumes);
    give(&j->lists[KEEP], &m->keep_images, &m->n_keep_images);
    give(&j->lists[OLD_DIGESTS], &m->old_digests, &m->n_old_digests);
    give(&j->lists[OLD_IMAGES], &m->old_images, &m->n_old_images);
    return m;
}

int cleaning_ask(struct control *c, const char *server_id, bool volumes, Davit__Link__V1__PrunePlanCall **ret, struct err *err)
{
    struct ask_job j = {.c = c, .server_id = server_id};
    for (size_t i = 0; i < LISTS; i++)
        j.lists[i].seen = hmap_new(TEXTS_MAX);
    int rc = store_read(c->store, read_ask, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && j.too_many) {
        /* Who does not see all of them does not know what is left over. */
        rc = err_set(err, ERR_EXHAUSTED, "this server had more than %d deployments, too many to tell what is left over", CLEANING_ROWS_MAX);
    } else if (rc == 0) {
        *ret = ask_from(&j, volumes);
    }
    for (size_t i = 0; i < LISTS; i++) {
        for (size_t k = 0; k < j.lists[i].n; k++)
            free(j.lists[i].items[k]);
        free(j.lists[i].items);
        (void)hmap_free(j.lists[i].seen);
    }
    return rc;
}
