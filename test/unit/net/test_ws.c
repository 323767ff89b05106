/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests may become a WebSocket. The rest of src/net/ws.c is tested from outside, by test_rpc_ws.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "net/ws.h"

#define FIELDS                                                                                                                   \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"  \
    "Sec-WebSocket-Protocol: p\r\n"

static struct http_head head;

static int on_head(void *arg, struct http_head *h)
{
    (void)arg;
    head = *h;
    h->store = BUF_INIT(HTTP_HEAD_MAX);
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    (void)arg;
    (void)bytes;
    return 0;
}

static int on_end(void *arg)
{
    (void)arg;
    return 0;
}

/* Status that a request is refused by, or 0. */
static int check(const char *text, bool tls)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    static const char *const origins[] = {"https://a.example", "https://b.example:8443"};
    struct err err = ERR_INIT;
    size_t used;
    int status;
    struct http_parser *p = http_parser_new(true, &handler, NULL);
    assert_int_equal(http_parser_feed(p, str_from(text), &used, &err), 0);
    int rc = ws_check(&head, tls, "p", origins, 2, &status, &err);
    assert_int_equal(rc, -(int)err.code);
    http_head_release(&head);
    http_parser_free(p);
    return rc < 0 ? status : 0;
}

#define CHECK(request, extra, tls) check(request " HTTP/1.1\r\nHost: h.example:7443\r\n" FIELDS extra "\r\n", tls)

static void test_origin(void **state)
{
    (void)state;
    assert_int_equal(CHECK("GET /", "", true), 0);
    assert_int_equal(CHECK("GET /", "Origin: https://h.example:7443\r\n", true), 0);
    assert_int_equal(CHECK("GET /", "Origin: http://h.example:7443\r\n", true),
                     403); /* a page that anybody on the way may have written */
    assert_int_equal(CHECK("GET /", "Origin: http://h.example:7443\r\n", false), 0);
    assert_int_equal(CHECK("GET /", "Origin: https://h.example:7443\r\n", false), 0); /* TLS may end before us */
    assert_int_equal(CHECK("GET /", "Origin: https://h.example\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: https://h.example:7444\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: https://h.example:7443.evil\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: https://a.example\r\n", true), 0);
    assert_int_equal(CHECK("GET /", "Origin: HTTPS://B.example:8443\r\n", true), 0);
    assert_int_equal(CHECK("GET /", "Origin: http://a.example\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: https://b.example\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: null\r\n", true), 403);
    assert_int_equal(CHECK("GET /", "Origin: \r\n", true), 403);
}

static void test_request(void **state)
{
    (void)state;
    assert_int_equal(CHECK("POST /", "", false), 400);
    assert_int_equal(CHECK("GET /", "Content-Length: 0\r\n", false), 0);
    assert_int_equal(CHECK("GET /", "Sec-WebSocket-Version: 13\r\n", false), 426); /* twice */
    assert_int_equal(CHECK("GET /", "Sec-WebSocket-Extensions: permessage-deflate\r\n", false), 0);
    assert_int_equal(check("GET / HTTP/1.1\r\nHost: h\r\n\r\n", false), 400);
    assert_int_equal(check("GET / HTTP/1.0\r\nHost: h\r\n" FIELDS "\r\n", false), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_origin), cmocka_unit_test(test_request)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
