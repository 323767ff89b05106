/* SPDX-License-Identifier: Apache-2.0 */
/* What a clean-up may remove: on an engine full of what others made, with labels that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "host/work/prune.h"
#include "host/work/work_internal.h"

#define SERVER "server-1"
#define OLD    "sha256:00000000000000000000000000000000000000000000000000000000000000aa"
#define KEPT   "sha256:00000000000000000000000000000000000000000000000000000000000000bb"
#define OTHER  "sha256:00000000000000000000000000000000000000000000000000000000000000cc"

/* Labels of an object: NULL ends them. */
struct labels {
    struct docker_pair items[8];
};

static struct docker_map map_of(struct labels *l)
{
    struct docker_map m = {.items = l->items};
    while (m.n < ARRAY_LEN(l->items) && l->items[m.n].name)
        m.n++;
    return m;
}

#define MANAGED {"davit.managed", "true"}
#define HERE    {"davit.server", SERVER}
#define THERE   {"davit.server", "server-2"}
#define PROJECT(name) {"davit.project", name}
#define SERVICE(name) {"davit.service", name}
#define DEPLOYMENT(name) {"davit.deployment", name}
#define VOLUME(name) {"davit.volume", name}
#define LEFT    {{MANAGED, HERE, PROJECT("shop"), SERVICE("web"), DEPLOYMENT("d-unknown")}}

/* Each is one of the engine's containers; `gone`: it stands in the plan. */
static struct container_case {
    const char *id;
    enum docker_state state;
    struct labels labels;
    const char *volume, *network, *image;
    bool gone;
} containers[] = {
    {"known", DOCKER_STATE_EXITED, {{MANAGED, HERE, PROJECT("shop"), SERVICE("web"), DEPLOYMENT("d-active")}}, "davit-old-used", "davit-used",
     "sha256:used", false},
    {"left", DOCKER_STATE_EXITED, LEFT, NULL, NULL, "sha256:x", true},
    {"made", DOCKER_STATE_CREATED, LEFT, NULL, NULL, "sha256:x", true},
    {"dead", DOCKER_STATE_DEAD, LEFT, NULL, NULL, "sha256:x", true},
    /* Whatever the control plane has forgotten: what runs stays. */
    {"runs", DOCKER_STATE_RUNNING, LEFT, NULL, NULL, "sha256:x", false},
    {"paused", DOCKER_STATE_PAUSED, LEFT, NULL, NULL, "sha256:x", false},
    {"restarts", DOCKER_STATE_RESTARTING, LEFT, NULL, NULL, "sha256:x", false},
    /* Others'. */
    {"foreign", DOCKER_STATE_EXITED, {{{"com.example", "x"}}}, "data", "bridge", "sha256:x", false},
    {"spoofed", DOCKER_STATE_EXITED, {{MANAGED}}, NULL, NULL, "sha256:x", false},
    {"half", DOCKER_STATE_EXITED, {{MANAGED, HERE, PROJECT("shop"), SERVICE("web")}}, NULL, NULL, "sha256:x", false},
    {"unmanaged", DOCKER_STATE_EXITED, {{{"davit.managed", "false"}, HERE, PROJECT("shop"), SERVICE("web"), DEPLOYMENT("d")}}, NULL, NULL,
     "sha256:x", false},
    {"server2", DOCKER_STATE_EXITED, {{MANAGED, THERE, PROJECT("shop"), SERVICE("web"), DEPLOYMENT("d-unknown")}}, NULL, NULL, "sha256:x", false},
    {"ingress", DOCKER_STATE_EXITED, {{MANAGED, HERE, {"davit.ingress", "1"}, PROJECT("p"), SERVICE("s"), DEPLOYMENT("d")}}, NULL, NULL,
     "sha256:x", false},
    /* A command for its project is under way. */
    {"busy", DOCKER_STATE_EXITED, {{MANAGED, HERE, PROJECT("busy"), SERVICE("web"), DEPLOYMENT("d-unknown")}}, NULL, NULL, "sha256:x", false},
};

static struct network_case {
    const char *name;
    struct labels labels;
    bool gone;
} networks[] = {
    {"davit-left", {{MANAGED, HERE, PROJECT("left")}}, true},
    {"davit-shop", {{MANAGED, HERE, PROJECT("shop")}}, false},
    {"davit-sho", {{MANAGED, HERE, PROJECT("sho")}}, true}, /* the beginning of another project's name */
    {"davit-used", {{MANAGED, HERE, PROJECT("used")}}, false},
    {"davit-busy", {{MANAGED, HERE, PROJECT("busy")}}, false},
    {"davit-there", {{MANAGED, THERE, PROJECT("there")}}, false},
    {"mine", {{MANAGED, HERE, PROJECT("left")}}, false},
    {"bridge", {{{"x", "y"}}}, false},
    {"davit-spoofed", {{MANAGED, PROJECT("spoofed")}}, false},
};

static struct volume_case {
    const char *name;
    struct labels labels;
    bool gone;
} volumes[] = {
    {"davit-old-data", {{MANAGED, HERE, PROJECT("old"), SERVICE("db"), VOLUME("data")}}, true},
    {"davit-old-used", {{MANAGED, HERE, PROJECT("old"), SERVICE("db"), VOLUME("used")}}, false},
    {"davit-old-shared", {{MANAGED, HERE, PROJECT("old"), SERVICE("db"), VOLUME("shared")}}, false},
    {"davit-shop-data", {{MANAGED, HERE, PROJECT("shop"), SERVICE("web"), VOLUME("data")}}, false},
    {"davit-there-data", {{MANAGED, THERE, PROJECT("there"), SERVICE("db"), VOLUME("data")}}, false},
    {"davit-busy-data", {{MANAGED, HERE, PROJECT("busy"), SERVICE("db"), VOLUME("data")}}, false},
    {"renamed", {{MANAGED, HERE, PROJECT("old"), SERVICE("db"), VOLUME("data")}}, false},
    {"data", {{{"x", "y"}}}, false},
    {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", {{{NULL, NULL}}}, false},
};

static struct image_case {
    const char *id, *tag, *digest, *second_tag;
    bool gone;
} images[] = {
    {"sha256:old", "app/web:1", "app/web@" OLD, NULL, true},
    {"sha256:old2", NULL, "docker.io/app/web@" OLD, NULL, true},
    {"sha256:used", "app/web:1", "app/web@" OLD, NULL, false},      /* a stopped container has it */
    {"sha256:kept", "app/web:2", "app/web@" KEPT, NULL, false},     /* for a rollback */
    {"sha256:tag", "app/web:3", "app/web@" OLD, NULL, false},       /* a name that a kept deployment has */
    {"sha256:local", "app/web:1", NULL, NULL, false},               /* built here */
    {"sha256:mine", "app/web:1", "app/web@" OLD, "backup:1", false}, /* somebody gave it a name */
    {"sha256:other", "app/web:9", "app/web@" OLD, NULL, false},     /* a tag that no deployment had */
    {"sha256:repo", NULL, "another/web@" OLD, NULL, false},
    {"sha256:foreign", "debian:12", "debian@" OTHER, NULL, false},
};

static bool busy(void *arg, const char *project)
{
    (void)arg;
    return strcmp(project, "busy") == 0;
}

static void fill(struct prune_engine *e, const char *lists[2 * ARRAY_LEN(images)][2], struct docker_endpoint *ends)
{
    for (size_t i = 0; i < ARRAY_LEN(containers); i++) {
        struct container_case *k = &containers[i];
        ends[i] = (struct docker_endpoint){.network = k->network, .network_id = ""};
        e->containers.items[i] = (struct docker_summary){.id = k->id, .name = k->id, .image = "", .image_id = k->image, .status = "",
                                                         .state = k->state, .labels = map_of(&k->labels), .volumes = &k->volume,
                                                         .n_volumes = k->volume ? 1 : 0, .networks = &ends[i], .n_networks = k->network ? 1 : 0};
    }
    for (size_t i = 0; i < ARRAY_LEN(networks); i++)
        e->networks.items[i] = (struct docker_network){.id = networks[i].name, .name = networks[i].name, .labels = map_of(&networks[i].labels)};
    for (size_t i = 0; i < ARRAY_LEN(volumes); i++)
        e->volumes.items[i] = (struct docker_volume){.name = volumes[i].name, .labels = map_of(&volumes[i].labels)};
    for (size_t i = 0; i < ARRAY_LEN(images); i++) {
        struct image_case *m = &images[i];
        lists[2 * i][0] = m->tag;
        lists[2 * i][1] = m->second_tag;
        lists[2 * i + 1][0] = m->digest;
        e->images.items[i] = (struct docker_image_summary){.id = m->id, .repo_tags = lists[2 * i], .n_repo_tags = m->second_tag ? 2 : m->tag ? 1 : 0,
                                                           .repo_digests = lists[2 * i + 1], .n_repo_digests = m->digest ? 1 : 0, .size = 7};
    }
}

static char *known_deployments[] = {(char *)"d-active"}, *known_services[] = {(char *)"shop/web"}, *keep_volumes[] = {(char *)"davit-old-shared"};
static char *keep_images[] = {(char *)KEPT, (char *)"app/web:3"}, *old_digests[] = {(char *)OLD, (char *)KEPT};
static char *old_images[] = {(char *)"app/web:1", (char *)"app/web:2", (char *)"app/web:3"};

static void ask_all(Davit__Link__V1__PrunePlanCall *a)
{
    davit__link__v1__prune_plan_call__init(a);
    a->containers = a->networks = a->images = a->volumes = true;
    a->known_deployments = known_deployments;
    a->n_known_deployments = ARRAY_LEN(known_deployments);
    a->known_services = known_services;
    a->n_known_services = ARRAY_LEN(known_services);
    a->keep_volumes = keep_volumes;
    a->n_keep_volumes = ARRAY_LEN(keep_volumes);
    a->keep_images = keep_images;
    a->n_keep_images = ARRAY_LEN(keep_images);
    a->old_digests = old_digests;
    a->n_old_digests = ARRAY_LEN(old_digests);
    a->old_images = old_images;
    a->n_old_images = ARRAY_LEN(old_images);
}

static bool stands(const Davit__Common__V1__PrunePlan *p, const char *kind, const char *id)
{
    for (size_t i = 0; i < p->n_items; i++)
        if (strcmp(p->items[i]->kind, kind) == 0 && strcmp(p->items[i]->id, id) == 0)
            return true;
    return false;
}

struct room {
    struct prune_engine e;
    struct docker_summary containers[ARRAY_LEN(containers)];
    struct docker_network networks[ARRAY_LEN(networks)];
    struct docker_volume volumes[ARRAY_LEN(volumes)];
    struct docker_image_summary images[ARRAY_LEN(images)];
    struct docker_endpoint ends[ARRAY_LEN(containers)];
    const char *lists[2 * ARRAY_LEN(images)][2];
};

static void room_init(struct room *r)
{
    *r = (struct room){.e = {.containers = {.items = r->containers, .n = ARRAY_LEN(containers)},
                             .networks = {.items = r->networks, .n = ARRAY_LEN(networks)},
                             .volumes = {.items = r->volumes, .n = ARRAY_LEN(volumes)},
                             .images = {.items = r->images, .n = ARRAY_LEN(images)}}};
    fill(&r->e, r->lists, r->ends);
}

static Davit__Common__V1__PrunePlan *plan_free(Davit__Common__V1__PrunePlan *p)
{
    protobuf_c_message_free_unpacked(&p->base, NULL);
    return NULL;
}

/* req: CB-13 */
static void test_plan(void **state)
{
    (void)state;
    struct room r;
    Davit__Link__V1__PrunePlanCall ask;
    size_t want = 0;
    room_init(&r);
    ask_all(&ask);
    Davit__Common__V1__PrunePlan *p = prune_plan(SERVER, &ask, &r.e, busy, NULL);
    assert_true(p->complete);
#define EACH(list, kind, key)                                                                                                    \
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {                                                                               \
        if (stands(p, kind, list[i].key) != list[i].gone)                                                                        \
            fail_msg("%s %s: %s", kind, list[i].key, list[i].gone ? "must stand in the plan" : "must not stand in the plan");  \
        want += list[i].gone;                                                                                                    \
    }
    EACH(containers, "container", id)
    EACH(networks, "network", name)
    EACH(volumes, "volume", name)
    EACH(images, "image", id)
    assert_int_equal(p->n_items, want);
    for (size_t i = 0; i < p->n_items; i++)
        assert_true(*p->items[i]->why && *p->items[i]->name);
    plan_free(p);
}

/* req: CB-13 */
static void test_only_what_was_asked_for(void **state)
{
    (void)state;
    struct room r;
    Davit__Link__V1__PrunePlanCall ask;
    room_init(&r);
    ask_all(&ask);
    ask.volumes = false;
    Davit__Common__V1__PrunePlan *p = prune_plan(SERVER, &ask, &r.e, busy, NULL);
    for (size_t i = 0; i < p->n_items; i++)
        assert_string_not_equal(p->items[i]->kind, "volume");
    p = plan_free(p);
    ask.images = ask.networks = ask.containers = false;
    p = prune_plan(SERVER, &ask, &r.e, busy, NULL);
    assert_int_equal(p->n_items, 0);
    p = plan_free(p);
    /* A control plane that knows nothing names no image. */
    davit__link__v1__prune_plan_call__init(&ask);
    ask.images = true;
    p = prune_plan(SERVER, &ask, &r.e, busy, NULL);
    assert_int_equal(p->n_items, 0);
    plan_free(p);
    /* Another server's agent finds its own. */
    ask_all(&ask);
    ask.images = false;
    p = prune_plan("server-2", &ask, &r.e, busy, NULL);
    assert_int_equal(p->n_items, 3);
    assert_true(stands(p, "container", "server2") && stands(p, "network", "davit-there") && stands(p, "volume", "davit-there-data"));
    plan_free(p);
}

/* req: CB-13 */
static void test_incomplete(void **state)
{
    (void)state;
    struct room r;
    Davit__Link__V1__PrunePlanCall ask;
    ask_all(&ask);
    for (int i = 0; i < 6; i++) {
        room_init(&r);
        if (i == 0)
            r.e.volumes.incomplete = true;
        else if (i == 1)
            r.containers[0].image_id = "";
        else if (i == 2)
            r.containers[0].state = DOCKER_STATE_UNKNOWN;
        else if (i == 3)
            r.images[0].id = "";
        else if (i == 4)
            r.networks[0].id = "";
        else
            r.volumes[0].name = "";
        Davit__Common__V1__PrunePlan *p = prune_plan(SERVER, &ask, &r.e, busy, NULL);
        assert_true(!p->complete && p->n_items == 0);
        plan_free(p);
    }
}

static void test_limit_and_hostile_names(void **state)
{
    (void)state;
    struct labels l = {{MANAGED, HERE, PROJECT("p"), SERVICE("s"), DEPLOYMENT("d")}};
    struct prune_engine e = {0};
    Davit__Link__V1__PrunePlanCall ask;
    size_t n = PRUNE_ITEMS_MAX + 1;
    struct docker_summary *items = mem_zalloc(n, sizeof(*items));
    ask_all(&ask);
    for (size_t i = 0; i < n; i++)
        items[i] = (struct docker_summary){
            .id = "id", .name = "name", .image_id = "x", .status = "", .state = DOCKER_STATE_EXITED, .labels = map_of(&l)};
    e.containers = (struct docker_summaries){.items = items, .n = PRUNE_ITEMS_MAX};
    Davit__Common__V1__PrunePlan *p = prune_plan(SERVER, &ask, &e, busy, NULL);
    assert_int_equal(p->n_items, PRUNE_ITEMS_MAX);
    p = plan_free(p);
    e.containers.n = n;
    p = prune_plan(SERVER, &ask, &e, busy, NULL);
    assert_int_equal(p->n_items, PRUNE_ITEMS_MAX);
    p = plan_free(p);
    e.containers.n = 2;
    items[0].name = "\033[2J";
    items[1].name = "\xff";
    p = prune_plan(SERVER, &ask, &e, busy, NULL);
    assert_int_equal(p->n_items, 0);
    plan_free(p);
    free(items);
}

/* req: CX-7 */
/* A rollback names the image by the digest that is known where its name leads, whatever other registries call it. */
static void test_digest_of_the_name(void **state)
{
    const char *digests[] = {"other.example/web@sha256:1", "127.0.0.1:5000/web@sha256:2", "docker.io/library/web@sha256:3",
                             "127.0.0.1:5000/web@sha256:4"};
    const struct docker_image m = {.id = "sha256:id", .repo_digests = digests, .n_repo_digests = ARRAY_LEN(digests)};
    (void)state;
    assert_string_equal(image_digest_from(&m, "other.example/web:5", ""), "sha256:1");
    assert_string_equal(image_digest_from(&m, "web:5", ""), "sha256:3");
    assert_string_equal(image_digest_from(&m, "127.0.0.1:5000/web:5@sha256:2", "sha256:2"), "sha256:2");
    assert_string_equal(image_digest_from(&m, "127.0.0.1:5000/other:5", ""), "");
    assert_string_equal(image_digest_from(&m, "", ""), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_only_what_was_asked_for),
        cmocka_unit_test(test_incomplete),
        cmocka_unit_test(test_limit_and_hostile_names),
        cmocka_unit_test(test_digest_of_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
