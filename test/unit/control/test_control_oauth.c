/* SPDX-License-Identifier: Apache-2.0 */
/* Forms at their limits; posts of a channel; how many revoked tokens are borne. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "control/people/oauth_internal.h"
#include "control_fixture.h"
#include "davit/admin/v1/admin.davit.h"

static const char *form_fault(const char *body)
{
    static struct err err;
    struct form form;
    err = ERR_INIT;
    if (form_parse(str_from(body), &form, &err) == 0)
        form_release(&form);
    return err.msg;
}

/* req: CW-8 */
static void test_forms(void **state)
{
    struct form form;
    char many[256] = "";
    (void)state;
    assert_int_equal(form_parse(STR("a=1&b=%41%2b+%7E&c=&d&e=x=y"), &form, NULL), 0);
    assert_string_equal(form_get(&form, "a"), "1");
    assert_string_equal(form_get(&form, "b"), "A+ ~");
    assert_null(form_get(&form, "c"));
    assert_null(form_get(&form, "d"));
    assert_string_equal(form_get(&form, "e"), "x=y");
    assert_null(form_get(&form, "f"));
    form_release(&form);
    form_release(&form);
    assert_string_equal(form_fault(""), "");
    assert_string_equal(form_fault("a=1&a=1"), "a parameter stands there twice");
    assert_string_equal(form_fault("a=1&%61=1"), "a parameter stands there twice");
    const char *const bad[] = {"a=%", "a=%4", "a=%4g", "a=%00", "a=%0a", "a=\x01", "a=\x80", "a=%80", "%zz=1", "=1", "a=1&&b=2", "&"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_string_not_equal(form_fault(bad[i]), "");
    for (int i = 0; i < FORM_FIELDS_MAX; i++)
        (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "%sp%d=%d", i ? "&" : "", i, i);
    assert_string_equal(form_fault(many), "");
    (void)snprintf(many + strlen(many), sizeof(many) - strlen(many), "&x=1");
    assert_string_equal(form_fault(many), "too many parameters");
    assert_true(form_type_ok("application/x-www-form-urlencoded"));
    assert_true(form_type_ok("Application/X-WWW-Form-Urlencoded; charset=UTF-8"));
    assert_false(form_type_ok("application/x-www-form-urlencodedx"));
    assert_false(form_type_ok("application/json"));
    assert_false(form_type_ok(NULL));
}

static void posts_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Admin__V1__GetSystemTimeRequest q = DAVIT__ADMIN__V1__GET_SYSTEM_TIME_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    AUTO_BUF out = BUF_INIT(4096), again = BUF_INIT(4096);
    unsigned status = 0;
    CHECK_OK(fixture_call(f, &davit_admin_v1_admin_service, "GetSystemTime", &q.base, &m, &err));
    int64_t t = ((const Davit__Admin__V1__GetSystemTimeResponse *)(const void *)m)->unix_nanos;
    CHECK(t > 0 && (usec_t)t / 1000 <= clock_real() && (usec_t)t / 1000 + 60 * USEC_SEC > clock_real());
    (void)rpc_message_free(m);
    CHECK_OK(rpc_channel_post(f->api, "/oauth2/token", "application/json", STR("{}"), SOON, &status, &out, &err));
    CHECK(status == 400 && memmem(out.data, out.len, "invalid_request", 15));
    AUTO_BUF small = BUF_INIT(out.len - 1), fits = BUF_INIT(out.len);
    CHECK(rpc_channel_post(f->api, "/oauth2/token", "application/json", STR("{}"), SOON, &status, &small, &err) == -(int)ERR_EXHAUSTED);
    CHECK_OK(rpc_channel_post(f->api, "/oauth2/token", "application/json", STR("{}"), SOON, &status, &fits, &err));
    /* What is no page is no call either. */
    CHECK_OK(rpc_channel_post(f->api, "/other", "application/x-www-form-urlencoded", STR("a=1"), SOON, &status, &again, &err));
    CHECK(status == 404 || status == 415);
    CHECK(rpc_channel_post(f->api, "/oauth2/token", "text/plain", STR("x"), clock_mono(), &status, &again, &err) < 0);
    CHECK_OK(fixture_call(f, &davit_admin_v1_admin_service, "GetSystemTime", &q.base, &m, &err)); /* the connection still serves */
    (void)rpc_message_free(m);
}

/* req: CW-16 SA-7 */
static void test_posts(void **state)
{
    (void)state;
    fixture_run(posts_body);
}

static void revoked_body(struct fixture *f)
{
    struct oauth *o = f->c->oauth;
    struct err err = ERR_INIT;
    usec_t now = clock_real();
    CHECK_STR(oauth_issuer(o) + strlen("https://"), control_api_addr(f->c));
    CHECK_OK(oauth_revoke(o, "0123456789abcdef0123456789abcdef", now + USEC_MINUTE, &err));
    while (o->n_revoked < OAUTH_REVOKED_MAX - 1)
        o->revoked[o->n_revoked++] = (struct revoked){.id = "x", .expires = now + USEC_MINUTE};
    CHECK_OK(oauth_revoke(o, "1123456789abcdef0123456789abcdef", now - OAUTH_KEPT / 2, &err));
    CHECK(oauth_revoke(o, "2123456789abcdef0123456789abcdef", now, &err) == 2);
    CHECK_OK(oauth_revoke(o, "0123456789abcdef0123456789abcdef", now, &err)); /* is */
    for (size_t i = 1; i < OAUTH_REVOKED_MAX - 1; i++)
        o->revoked[i].expires = now - OAUTH_KEPT - 1;
    CHECK_OK(oauth_revoke(o, "2123456789abcdef0123456789abcdef", now, &err));
    CHECK(o->n_revoked == 3);
    fixture_restart(f);
    o = f->c->oauth;
    CHECK(o->n_revoked == 3 && oauth_is_revoked(o, "0123456789abcdef0123456789abcdef") && oauth_is_revoked(o, "2123456789abcdef0123456789abcdef"));
}

/* req: CW-8 SA-7 */
static void test_revoked(void **state)
{
    (void)state;
    fixture_run(revoked_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_posts), cmocka_unit_test(test_revoked)};
    return cmocka_run_group_tests_name("control_oauth", tests, NULL, NULL);
}
