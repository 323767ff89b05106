/* SPDX-License-Identifier: Apache-2.0 */
/* How a service is asked whether it is fit: what counts where its spec says nothing, and how long the grace is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/work/deploy.h"

#define HTTP   DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP
#define TCP    DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_TCP
#define DOCKER DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER
#define NONE   DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE
#define NOW    (1000 * USEC_SEC)

static Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
static Davit__Common__V1__HealthCheck check;
static struct deploy d = {.spec = &spec};

static struct health set_up(void)
{
    struct health h;
    clock_fake(NOW, NOW);
    health_setup(&h, &d, NULL, clock_mono());
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    return h;
}

static int fresh(void **state)
{
    (void)state;
    davit__common__v1__health_check__init(&check);
    spec.health = &check;
    d.image.has_healthcheck = false;
    return 0;
}

static void is(const struct health *h, const char *path, unsigned retries, const usec_t seconds[3])
{
    assert_string_equal(h->path, path);
    assert_int_equal(h->retries, retries);
    assert_int_equal(h->interval, seconds[0] * USEC_SEC);
    assert_int_equal(h->timeout, seconds[1] * USEC_SEC);
    assert_int_equal(h->grace_end, NOW + seconds[2] * USEC_SEC);
    assert_int_equal(h->failures, 0);
    assert_true(h->first);
}

/* req: CX-6 */
static void test_what_counts_where_nothing_is_said(void **state)
{
    static const Davit__Common__V1__HealthKind kinds[] = {HTTP, TCP, DOCKER};
    static const usec_t usual[3] = {10, 5, 30}, skipped[3] = {10, 5, 2};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        check.kind = kinds[i];
        struct health h = set_up();
        assert_int_equal(h.kind, kinds[i]);
        is(&h, "/health", 3, usual);
    }
    check.kind = NONE; /* what an empty path has become: nothing is asked, it has to run for a moment */
    struct health h = set_up();
    assert_int_equal(h.kind, NONE);
    is(&h, "/health", 3, skipped);
    spec.health = NULL; /* the image may have its own */
    h = set_up();
    assert_int_equal(h.kind, NONE);
    d.image.has_healthcheck = true;
    h = set_up();
    assert_int_equal(h.kind, DOCKER);
    is(&h, "/health", 3, usual);
}

/* req: CX-6 */
static void test_what_is_said_counts(void **state)
{
    static const usec_t own[3] = {1, 2, 7};
    (void)state;
    check.kind = HTTP;
    check.path = (char *)(uintptr_t)"/up";
    check.retries = 9;
    check.interval_ms = 1000;
    check.timeout_ms = 2000;
    check.grace_ms = 7000;
    struct health h = set_up();
    is(&h, "/up", 9, own);
    check.kind = NONE;
    h = set_up();
    is(&h, "/up", 9, own);
}

/* req: CX-6 */
static void test_an_agent_is_not_told_to_ask_for_an_empty_path(void **state)
{
    Davit__Link__V1__Deploy msg = DAVIT__LINK__V1__DEPLOY__INIT;
    struct err err = ERR_INIT;
    (void)state;
    msg.deployment_id = (char *)(uintptr_t)"0f9c7d1e-0000";
    msg.spec = &spec;
    spec.project = (char *)(uintptr_t)"shop";
    spec.name = (char *)(uintptr_t)"web";
    spec.image = (char *)(uintptr_t)"web:1";
    check.kind = HTTP;
    assert_int_equal(deploy_check(&msg, &err), -ERR_INVALID);
    assert_non_null(strstr(err.msg, "health.path"));
    check.path = (char *)(uintptr_t)"/";
    assert_int_equal(deploy_check(&msg, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_counts_where_nothing_is_said, fresh),
        cmocka_unit_test_setup(test_what_is_said_counts, fresh),
        cmocka_unit_test_setup(test_an_agent_is_not_told_to_ask_for_an_empty_path, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
