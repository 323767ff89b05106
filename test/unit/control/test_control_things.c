/* SPDX-License-Identifier: Apache-2.0 */
/* What a server has beside services, against an agent that speaks the link by hand: containers of others, images, plans of clean-ups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/work/cleaning.h"
#include "control_fixture.h"
#include "davit/control/v1/containers.davit.h"
#include "davit/control/v1/doctor.davit.h"
#include "davit/control/v1/images.davit.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define IMAGES       (&davit_control_v1_image_service)
#define WORK         (&davit_control_v1_workload_service)
#define CONTAINERS   (&davit_control_v1_container_service)
#define DIGEST_A     "sha256:00000000000000000000000000000000000000000000000000000000000000aa"

/* --- The inventory ------------------------------------------------------------------------------------------------------------------- */

static Davit__Common__V1__Container container(const char *id, bool foreign, const char *role)
{
    Davit__Common__V1__Container k = DAVIT__COMMON__V1__CONTAINER__INIT;
    k.id = W(id);
    k.name = W(id);
    k.state = W("running");
    k.project = W("shop");
    k.service = W("web");
    k.foreign = foreign;
    k.role = W(role);
    return k;
}

/* req: WK-15 */
static void test_foreign_ones_are_kept_apart(void **state)
{
    (void)state;
    struct inventory inv = {0};
    Davit__Link__V1__ContainerStates m = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    /* Whatever names of services it claims. */
    Davit__Common__V1__Container ours = container("ours", false, ""), other = container("other", true, ""), own = container("own", false, "ingress");
    Davit__Common__V1__Container *all[] = {&ours, &other, &own};
    char *removed[] = {W("other"), W("ours")};
    inventory_init(&inv);
    m.full = true;
    m.containers = all;
    m.n_containers = 3;
    inventory_containers(&inv, &m);
    assert_int_equal(hmap_count(inv.containers), 1);
    assert_int_equal(hmap_count(inv.foreign), 2);
    assert_int_equal(inventory_running(&inv), 1);
    assert_non_null(inventory_find(&inv, "ours"));
    assert_null(inventory_find(&inv, "other"));
    /* What changes sides is on one of them. */
    ours.foreign = true;
    other.foreign = false;
    m.full = false;
    inventory_containers(&inv, &m);
    assert_null(inventory_find(&inv, "ours"));
    assert_non_null(inventory_find(&inv, "other"));
    assert_int_equal(hmap_count(inv.containers) + hmap_count(inv.foreign), 3);
    m.n_containers = 0;
    m.removed_ids = removed;
    m.n_removed_ids = 2;
    inventory_containers(&inv, &m);
    assert_int_equal(hmap_count(inv.containers), 0);
    assert_int_equal(hmap_count(inv.foreign), 1);
    m.full = true;
    m.n_removed_ids = 0;
    inventory_containers(&inv, &m);
    assert_int_equal(hmap_count(inv.foreign), 0);
    inventory_release(&inv);
}

/* --- Plans --------------------------------------------------------------------------------------------------------------------------- */

/* req: CB-13 */
static void test_plans(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct plans *p = plans_new();
    Davit__Common__V1__PrunePlan *taken = NULL;
    char *ids[PLANS_MAX + 1];
    bool volumes = false;
    for (size_t i = 0; i <= PLANS_MAX; i++) {
        Davit__Common__V1__PrunePlan m = DAVIT__COMMON__V1__PRUNE_PLAN__INIT;
        Davit__Common__V1__PruneItem item = DAVIT__COMMON__V1__PRUNE_ITEM__INIT, *items[] = {&item};
        AUTO_FREE char *id = str_printf("container-%zu", i);
        item.id = id;
        m.items = items;
        m.n_items = 1;
        assert_int_equal(plans_keep(p, "server", true, &m, &err), 0);
        ids[i] = m.plan_id;
        if (i)
            assert_string_not_equal(ids[i], ids[i - 1]);
    }
    /* The oldest went; one is of its server only, and is applied once. */
    assert_int_equal(plans_take(p, "server", ids[0], &volumes, &taken, &err), -ERR_NOT_FOUND);
    assert_int_equal(plans_take(p, "another", ids[1], &volumes, &taken, &err), -ERR_NOT_FOUND);
    assert_int_equal(plans_take(p, "server", "", &volumes, &taken, &err), -ERR_NOT_FOUND);
    assert_int_equal(plans_take(p, "server", ids[1], &volumes, &taken, &err), 0);
    assert_true(volumes);
    assert_string_equal(taken->items[0]->id, "container-1");
    (void)rpc_message_free(taken);
    assert_int_equal(plans_take(p, "server", ids[1], &volumes, &taken, &err), -ERR_NOT_FOUND);
    for (size_t i = 0; i <= PLANS_MAX; i++)
        free(ids[i]);
    plans_free(p);
}

/* --- Through the API ----------------------------------------------------------------------------------------------------------------- */

struct pending {
    struct fixture *f;
    const struct rpc_service *service;
    const char *method;
    const ProtobufCMessage *request;
    ProtobufCMessage *answer;
    struct err err;
    int rc;
    struct fiber *fiber;
};

static void pending_run(void *arg)
{
    struct pending *p = arg;
    p->rc = fixture_call(p->f, p->service, p->method, p->request, &p->answer, &p->err);
}

static void begin(struct pending *p, struct fixture *f, const struct rpc_service *service, const char *method, const ProtobufCMessage *request)
{
    *p = (struct pending){.f = f, .service = service, .method = method, .request = request};
    CHECK(fiber_spawn(f->loop, "caller", pending_run, p, &p->fiber) == 0);
}

static void end(struct pending *p)
{
    CHECK(fiber_join(p->fiber, SOON) == 0);
    p->fiber = fiber_unref(p->fiber);
}

static void answer(struct agent *a, uint64_t id, Davit__Link__V1__CallEnd *m)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    m->call_id = id;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_END;
    msg.call_end = m;
    CHECK(agent_put(a, &msg) == 0);
}

static bool has(char *const *list, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], what) == 0)
            return true;
    return false;
}

static void report(struct agent *a)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__ContainerStates m = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    Davit__Common__V1__Container ours = container("c1", false, ""), other = container("other", true, ""), *all[] = {&ours, &other};
    m.full = true;
    m.containers = all;
    m.n_containers = 2;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS;
    msg.containers = &m;
    CHECK(agent_put(a, &msg) == 0);
}

static bool has_foreign(void *arg)
{
    struct fixture *f = arg;
    return hmap_count(servers_local(f->c)->inventory.foreign) == 1;
}

static void containers_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct pending p;
    ProtobufCMessage *m = NULL;
    Davit__Control__V1__ListContainersRequest list = DAVIT__CONTROL__V1__LIST_CONTAINERS_REQUEST__INIT;
    Davit__Control__V1__ControlContainerRequest act = DAVIT__CONTROL__V1__CONTROL_CONTAINER_REQUEST__INIT;
    work_connect(f, &a, 1, 0);
    report(&a);
    fixture_until(has_foreign, f);
    CHECK_OK(fixture_call(f, CONTAINERS, "ListContainers", &list.base, &m, &err));
    const Davit__Control__V1__ListContainersResponse *l = (const Davit__Control__V1__ListContainersResponse *)m;
    CHECK(l->n_containers == 1 && !l->containers[0]->foreign && *l->containers[0]->server_id);
    (void)rpc_message_free(m);
    list.all = true;
    CHECK_OK(fixture_call(f, CONTAINERS, "ListContainers", &list.base, &m, &err));
    l = (const Davit__Control__V1__ListContainersResponse *)m;
    CHECK(l->n_containers == 2 && l->containers[1]->foreign);
    (void)rpc_message_free(m);
    /* The agent is asked for one by its name; what it refuses is told. */
    act.container = W("other");
    act.action = W("remove");
    begin(&p, f, CONTAINERS, "ControlContainer", &act.base);
    Davit__Link__V1__ControlMessage *got = GET(&a, CALL_OPEN);
    CHECK(got && got->call_open->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_CONTAINER);
    CHECK_STR(got->call_open->container->container, "other");
    CHECK(got->call_open->container->action == DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_REMOVE && !got->call_open->container->force);
    Davit__Link__V1__CallEnd e = DAVIT__LINK__V1__CALL_END__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    failure.code = ERR_PRECONDITION;
    failure.message = W("container other is running");
    e.failure = &failure;
    answer(&a, got->call_open->call_id, &e);
    end(&p);
    CHECK(p.rc == -(int)ERR_PRECONDITION && strstr(p.err.msg, "is running"));
    (void)rpc_message_free(got);
    act.action = W("kill");
    CHECK(fixture_call(f, CONTAINERS, "ControlContainer", &act.base, &m, &err) == -(int)ERR_INVALID);
    act.action = W("stop");
    act.container = W("");
    CHECK(fixture_call(f, CONTAINERS, "ControlContainer", &act.base, &m, &err) == -(int)ERR_INVALID);
    act.container = W("other");
    act.stop_timeout_s = 301;
    CHECK(fixture_call(f, CONTAINERS, "ControlContainer", &act.base, &m, &err) == -(int)ERR_INVALID);
    agent_close(&a);
}

/* req: WK-15 */
static void test_containers(void **state)
{
    (void)state;
    fixture_run(containers_body);
}

/* Makes shop/web:N active with an image of its own digest. */
static void deploy_image(struct fixture *f, struct agent *a, unsigned n, char ret_id[40])
{
    struct err err = ERR_INIT;
    AUTO_FREE char *image = str_printf("app/web:%u", n), *digest = str_printf("%.*s%02x", 69, DIGEST_A, n);
    Davit__Control__V1__DeployResponse *d = work_deploy(f, image, false);
    Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CommandResult r = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    CHECK(m);
    r.seq = m->command->seq;
    r.id = m->command->id;
    r.image_digest = digest;
    r.outcome = W("running");
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT;
    msg.result = &r;
    CHECK(agent_put(a, &msg) == 0);
    (void)str_copy(ret_id, 40, str_from(d->deployment_id));
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(a, RESULT_ACK));
    (void)rpc_message_free(d);
}

/* While a rollback to the oldest is under way its image is needed, by the digest: it may have no name any more. */
static void a_rollback_keeps_its_image(struct fixture *f, struct agent *a, const char *first)
{
    struct err err = ERR_INIT;
    struct pending p;
    ProtobufCMessage *m = NULL;
    Davit__Control__V1__RollbackRequest r = DAVIT__CONTROL__V1__ROLLBACK_REQUEST__INIT;
    Davit__Control__V1__PlanPruneRequest ask = DAVIT__CONTROL__V1__PLAN_PRUNE_REQUEST__INIT;
    Davit__Link__V1__CallEnd e = DAVIT__LINK__V1__CALL_END__INIT;
    Davit__Common__V1__PrunePlan plan = DAVIT__COMMON__V1__PRUNE_PLAN__INIT;
    AUTO_FREE char *digest = str_printf("%.*s%02x", 69, DIGEST_A, 1);
    r.project = W("shop");
    r.service = W("web");
    r.deployment_id = W(first);
    CHECK_OK(fixture_call(f, WORK, "Rollback", &r.base, &m, &err));
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(a, COMMAND));
    begin(&p, f, IMAGES, "PlanPrune", &ask.base);
    Davit__Link__V1__ControlMessage *got = GET(a, CALL_OPEN);
    CHECK(got && has(got->call_open->prune_plan->keep_images, got->call_open->prune_plan->n_keep_images, digest));
    e.result_case = DAVIT__LINK__V1__CALL_END__RESULT_PRUNE_PLAN;
    e.prune_plan = &plan;
    answer(a, got->call_open->call_id, &e);
    end(&p);
    CHECK(p.rc == 0);
    (void)rpc_message_free(p.answer);
    (void)rpc_message_free(got);
}

static void check_ask(const Davit__Link__V1__PrunePlanCall *k, bool volumes)
{
    CHECK(k->containers && k->networks && k->images && k->volumes == volumes);
    CHECK(k->n_known_services == 1 && has(k->known_services, 1, "shop/web") && k->n_known_deployments == 1);
    /* Five were active once: the present one and three before it are kept. */
    CHECK(k->n_old_digests == 5 && k->n_old_images == 5 && k->n_keep_images == 8);
    for (unsigned n = 1; n <= 5; n++) {
        AUTO_FREE char *image = str_printf("app/web:%u", n), *digest = str_printf("%.*s%02x", 69, DIGEST_A, n);
        CHECK(has(k->old_digests, k->n_old_digests, digest) && has(k->old_images, k->n_old_images, image));
        CHECK(has(k->keep_images, k->n_keep_images, digest) == (n > 1) && has(k->keep_images, k->n_keep_images, image) == (n > 1));
    }
}

/* What the agent plans. */
static void give_plan(struct agent *a, bool volumes, bool complete)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__CallEnd e = DAVIT__LINK__V1__CALL_END__INIT;
    Davit__Common__V1__PrunePlan plan = DAVIT__COMMON__V1__PRUNE_PLAN__INIT;
    Davit__Common__V1__PruneItem item = DAVIT__COMMON__V1__PRUNE_ITEM__INIT, *items[] = {&item};
    Davit__Link__V1__ControlMessage *m = GET(a, CALL_OPEN);
    CHECK(m && m->call_open->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_PRUNE_PLAN);
    check_ask(m->call_open->prune_plan, volumes);
    item.kind = W("image");
    item.id = W("sha256:1");
    item.name = W("app/web:1");
    plan.complete = complete;
    plan.items = items;
    plan.n_items = 1;
    e.result_case = DAVIT__LINK__V1__CALL_END__RESULT_PRUNE_PLAN;
    e.prune_plan = &plan;
    answer(a, m->call_open->call_id, &e);
    (void)rpc_message_free(m);
}

static void prune_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct pending p;
    ProtobufCMessage *m = NULL;
    Davit__Control__V1__PlanPruneRequest ask = DAVIT__CONTROL__V1__PLAN_PRUNE_REQUEST__INIT;
    Davit__Control__V1__ApplyPruneRequest apply = DAVIT__CONTROL__V1__APPLY_PRUNE_REQUEST__INIT;
    char id[5][40];
    work_connect(f, &a, 1, 0);
    for (unsigned n = 1; n <= 5; n++)
        deploy_image(f, &a, n, id[n - 1]);
    begin(&p, f, IMAGES, "PlanPrune", &ask.base);
    give_plan(&a, false, false);
    end(&p);
    CHECK(p.rc == 0 && !*((Davit__Control__V1__PlanPruneResponse *)p.answer)->plan->plan_id); /* nothing can be done with it */
    (void)rpc_message_free(p.answer);
    ask.volumes = true;
    begin(&p, f, IMAGES, "PlanPrune", &ask.base);
    give_plan(&a, true, true);
    end(&p);
    CHECK(p.rc == 0);
    Davit__Control__V1__PlanPruneResponse *shown = (Davit__Control__V1__PlanPruneResponse *)p.answer;
    apply.plan_id = W("0123");
    CHECK(fixture_call(f, IMAGES, "ApplyPrune", &apply.base, &m, &err) == -(int)ERR_NOT_FOUND);
    apply.plan_id = shown->plan->plan_id;
    begin(&p, f, IMAGES, "ApplyPrune", &apply.base);
    Davit__Link__V1__ControlMessage *got = GET(&a, CALL_OPEN);
    CHECK(got && got->call_open->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_PRUNE_APPLY);
    const Davit__Link__V1__PruneApplyCall *k = got->call_open->prune_apply;
    CHECK(k->plan->n_items == 1 && k->plan->complete);
    CHECK_STR(k->plan->items[0]->id, "sha256:1");
    check_ask(k->now, true);
    Davit__Link__V1__CallEnd e = DAVIT__LINK__V1__CALL_END__INIT;
    Davit__Common__V1__PruneResult result = DAVIT__COMMON__V1__PRUNE_RESULT__INIT;
    result.kept = k->plan->items;
    result.n_kept = 1;
    e.result_case = DAVIT__LINK__V1__CALL_END__RESULT_PRUNE_RESULT;
    e.prune_result = &result;
    answer(&a, got->call_open->call_id, &e);
    end(&p);
    CHECK(p.rc == 0 && ((Davit__Control__V1__ApplyPruneResponse *)p.answer)->result->n_kept == 1);
    (void)rpc_message_free(p.answer);
    (void)rpc_message_free(got);
    /* Once. */
    CHECK(fixture_call(f, IMAGES, "ApplyPrune", &apply.base, &m, &err) == -(int)ERR_NOT_FOUND && err.hint[0]);
    (void)rpc_message_free(shown);
    a_rollback_keeps_its_image(f, &a, id[0]);
    agent_close(&a);
    fixture_until(work_offline, f);
    CHECK(fixture_call(f, IMAGES, "PlanPrune", &ask.base, &m, &err) == -(int)ERR_UNAVAILABLE);
}

/* req: CB-13 */
static void test_prune(void **state)
{
    (void)state;
    fixture_run(prune_body);
}

static void images_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct pending p;
    ProtobufCMessage *m = NULL;
    Davit__Control__V1__ListImagesRequest list = DAVIT__CONTROL__V1__LIST_IMAGES_REQUEST__INIT;
    Davit__Control__V1__RemoveImageRequest rm = DAVIT__CONTROL__V1__REMOVE_IMAGE_REQUEST__INIT;
    work_connect(f, &a, 1, 0);
    begin(&p, f, IMAGES, "ListImages", &list.base);
    Davit__Link__V1__ControlMessage *got = GET(&a, CALL_OPEN);
    CHECK(got && got->call_open->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_LIST);
    /* An answer of another kind is none. */
    Davit__Link__V1__CallEnd e = DAVIT__LINK__V1__CALL_END__INIT;
    e.result_case = DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME;
    e.outcome = W("removed");
    answer(&a, got->call_open->call_id, &e);
    end(&p);
    CHECK(p.rc == -(int)ERR_DATA_LOSS);
    (void)rpc_message_free(got);
    CHECK(fixture_call(f, IMAGES, "RemoveImage", &rm.base, &m, &err) == -(int)ERR_INVALID);
    rm.image = W("app/web:1");
    begin(&p, f, IMAGES, "RemoveImage", &rm.base);
    got = GET(&a, CALL_OPEN);
    CHECK(got && got->call_open->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_REMOVE);
    CHECK_STR(got->call_open->image_remove->image, "app/web:1");
    answer(&a, got->call_open->call_id, &e);
    end(&p);
    CHECK(p.rc == 0);
    CHECK_STR(((Davit__Control__V1__RemoveImageResponse *)p.answer)->outcome, "removed");
    (void)rpc_message_free(p.answer);
    (void)rpc_message_free(got);
    agent_close(&a);
}

/* req: WK-5 */
static void test_images(void **state)
{
    (void)state;
    fixture_run(images_body);
}

/* A caller that waits for a doctor does not outlive the control plane, nor does it hold up its end. */
static void doctor_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct pending p;
    Davit__Control__V1__RunDoctorRequest r = DAVIT__CONTROL__V1__RUN_DOCTOR_REQUEST__INIT;
    work_connect(f, &a, 1, 0);
    AUTO_FREE char *name = str_dup(str_from(servers_local(f->c)->name));
    r.server = name;
    (void)fiber_sleep(300 * USEC_MSEC); /* what follows a connect has ended */
    unsigned before = f->c->fibers;
    begin(&p, f, &davit_control_v1_doctor_service, "RunDoctor", &r.base);
    (void)rpc_message_free(GET(&a, DOCTOR_RUN));
    CHECK(f->c->fibers == before + 1);
    usec_t began = clock_mono();
    f->c = control_stop(f->c);
    CHECK(clock_mono() - began < 10 * USEC_SEC);
    end(&p);
    CHECK(p.rc == -(int)ERR_UNAVAILABLE);
    agent_close(&a);
    fixture_restart(f);
}

static void test_a_doctor_that_is_asked_at_the_end(void **state)
{
    (void)state;
    fixture_run(doctor_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_ones_are_kept_apart),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_prune),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_a_doctor_that_is_asked_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
