/* SPDX-License-Identifier: Apache-2.0 */
/* Which answers to our handshake are believed. Key and proof are those of RFC 6455 section 1.3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "net/ws_client.h"

#define KEY   "dGhlIHNhbXBsZSBub25jZQ=="
#define PROOF "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define BASE  "upgrade: websocket\r\nconnection: Upgrade\r\n"
#define SUB   "sec-websocket-protocol: p\r\n"

static struct http_head head;
static bool got;

static int on_head(void *arg, struct http_head *h)
{
    (void)arg;
    head = *h;
    h->store = BUF_INIT(HTTP_HEAD_MAX);
    got = true;
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

static int check(const char *text)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    struct err err = ERR_INIT;
    size_t used;
    struct http_parser *p = http_parser_new(false, &handler, NULL);
    got = false;
    assert_int_equal(http_parser_feed(p, str_from(text), &used, &err), 0);
    assert_true(got);
    int rc = ws_check_answer(&head, KEY, "p", &err);
    assert_int_equal(rc, -(int)err.code);
    http_head_release(&head);
    http_parser_free(p);
    return rc;
}

#define ANSWER(fields) check("HTTP/1.1 101 Switching Protocols\r\n" fields "\r\n")
#define NO             (-(int)ERR_UNIMPLEMENTED)

static void test_answers(void **state)
{
    (void)state;
    assert_int_equal(ANSWER(BASE PROOF SUB), 0);
    assert_int_equal(ANSWER("Upgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n" PROOF SUB "server: x\r\n"), 0);
    assert_int_equal(ANSWER(BASE SUB), NO);
    assert_int_equal(ANSWER(BASE "sec-websocket-accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" SUB), NO);
    assert_int_equal(ANSWER(BASE PROOF PROOF SUB), NO);
    assert_int_equal(ANSWER(BASE PROOF), NO);
    assert_int_equal(ANSWER(BASE PROOF "sec-websocket-protocol: P\r\n"), NO);
    assert_int_equal(ANSWER(BASE PROOF SUB SUB), NO);
    assert_int_equal(ANSWER(BASE PROOF SUB "sec-websocket-extensions: permessage-deflate\r\n"), NO);
    assert_int_equal(ANSWER("upgrade: h2c\r\nconnection: upgrade\r\n" PROOF SUB), NO);
    assert_int_equal(ANSWER("upgrade: websocket\r\nconnection: close\r\n" PROOF SUB), NO);
    assert_int_equal(ANSWER("connection: upgrade\r\n" PROOF SUB), NO);
    assert_int_equal(check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" BASE PROOF SUB "\r\n"), NO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
