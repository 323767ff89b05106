/* SPDX-License-Identifier: Apache-2.0 */
/* The guard in front of protobuf-c, at its limits; and what the plugin made of the schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/status.davit.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/link/v1/link.davit.h"
#include "echo.davit.h"

#define ALL  (&davit__test__v1__all_types__descriptor)
#define ECHO (&davit__test__v1__echo_request__descriptor)

static int unpack(const ProtobufCMessageDescriptor *type, const void *p, size_t n)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    int rc = rpc_unpack(type, (struct str){p, n}, &m, &err);
    assert_int_equal(rc == 0, m != NULL);
    assert_int_equal(rc, -(int)err.code);
    (void)rpc_message_free(m);
    return rc;
}

#define UNPACK(type, lit) unpack(type, lit, sizeof(lit) - 1)

static void test_malformed(void **state)
{
    (void)state;
    assert_int_equal(UNPACK(ECHO, ""), 0);
    assert_int_equal(UNPACK(ECHO, "\x0a\x03"
                                  "abc"),
                     0);
    assert_int_equal(UNPACK(ECHO, "\x0a\x04"
                                  "abc"),
                     -ERR_INVALID); /* cut off */
    assert_int_equal(UNPACK(ECHO, "\x0a"), -ERR_INVALID);
    assert_int_equal(UNPACK(ECHO, "\x80"), -ERR_INVALID);
    assert_int_equal(UNPACK(ECHO, "\x00"), -ERR_INVALID);     /* field 0 */
    assert_int_equal(UNPACK(ECHO, "\x0b\x0c"), -ERR_INVALID); /* group */
    assert_int_equal(UNPACK(ECHO, "\x08\x01"), -ERR_INVALID); /* a string as varint */
    assert_int_equal(UNPACK(ECHO, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -ERR_INVALID);
    assert_int_equal(UNPACK(ECHO, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), -ERR_INVALID); /* 70 bits */
    assert_int_equal(UNPACK(ECHO, "\xf8\xff\xff\xff\x0f\x01"), 0);                                /* unknown, highest number */
    assert_int_equal(UNPACK(ALL, "\x92\x01\x02\x01\x80"), -ERR_INVALID);                          /* packed varint cut off */
    assert_int_equal(UNPACK(ALL, "\x92\x01\x02\x01\x02"), 0);
    assert_int_equal(UNPACK(ALL, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 0); /* -1 */
}

static void test_text(void **state)
{
    (void)state;
    assert_int_equal(UNPACK(ECHO, "\x0a\x02\xc3\x28"), -ERR_INVALID);     /* no UTF-8 */
    assert_int_equal(UNPACK(ECHO, "\x0a\x03\x61\x00\x62"), -ERR_INVALID); /* protobuf-c would see "a" */
    assert_int_equal(UNPACK(ECHO, "\x12\x03\x61\x00\x62"), 0);            /* bytes may */
    assert_int_equal(UNPACK(ECHO, "\x0a\x03\xed\xa0\x80"), -ERR_INVALID); /* surrogate */
}

static void test_size_limit(void **state)
{
    (void)state;
    char *p = calloc(1, RPC_MESSAGE_MAX + 1);
    assert_non_null(p);
    /* One payload that fills it. */
    p[0] = 0x12;
    size_t n = RPC_MESSAGE_MAX - 5;
    for (size_t i = 0, v = n; i < 4; i++, v >>= 7)
        p[1 + i] = (char)((v & 0x7f) | (i < 3 ? 0x80 : 0));
    assert_int_equal(unpack(ECHO, p, RPC_MESSAGE_MAX), 0);
    assert_int_equal(unpack(ECHO, p, RPC_MESSAGE_MAX + 1), -ERR_EXHAUSTED);
    /* A million empty sub-messages: three megabytes on the wire, a hundred in memory. */
    for (size_t i = 0; i < 3000000; i += 3)
        memcpy(p + i, "\xaa\x01\x00", 3);
    assert_int_equal(unpack(ALL, p, 3000000), -ERR_EXHAUSTED);
    /* What is allocated for one, its place in the array, and the note of the parser. */
    size_t each = sizeof(Davit__Test__V1__Inner) + 16 + 8 + 48;
    size_t fit = (8 * 1024 * 1024 - sizeof(Davit__Test__V1__AllTypes) - 16) / each;
    assert_int_equal(unpack(ALL, p, 3 * fit), 0);
    assert_int_equal(unpack(ALL, p, 3 * (fit + 1)), -ERR_EXHAUSTED);
    free(p);
}

/* Elements of a packed field cost a byte on the wire and eight in memory. */
static void test_packed_limit(void **state)
{
    (void)state;
    size_t n = 1024 * 1024 - 100;
    uint8_t *p = calloc(1, n + 200);
    assert_non_null(p);
    for (size_t more = 0; more <= 200; more += 200) {
        size_t inner = n + more, at = 0;
        p[at++] = 0x12; /* numbers of Inner */
        for (size_t v = inner; v; v >>= 7)
            p[at++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        struct buf m = BUF_INIT(RPC_MESSAGE_MAX);
        assert_int_equal(buf_append(&m, p, at), 0);
        memset(p, 0, at);
        while (m.len < at + inner)
            assert_int_equal(buf_append_byte(&m, 1), 0);
        assert_int_equal(unpack(&davit__test__v1__inner__descriptor, m.data, m.len), more ? -ERR_EXHAUSTED : 0);
        buf_release(&m);
    }
    free(p);
}

/* A sub-message may come in parts, which are merged: each time all that is there is copied. */
static void test_parts_limit(void **state)
{
    (void)state;
    char p[66 * 6];
    for (size_t i = 0; i < 66; i++)
        memcpy(p + 6 * i, "\x8a\x01\x03\x12\x01\x05", 6); /* an_inner { numbers: 5 } */
    ProtobufCMessage *m = NULL;
    assert_int_equal(rpc_unpack(ALL, (struct str){p, 65 * 6}, &m, NULL), 0);
    assert_int_equal(((const Davit__Test__V1__AllTypes *)(void *)m)->an_inner->n_numbers, 65);
    m = rpc_message_free(m);
    assert_int_equal(unpack(ALL, p, 66 * 6), -ERR_EXHAUSTED);
}

/* A descriptor that contains itself, which our plugin would refuse: the depth limit is tested on it. */
struct self {
    ProtobufCMessage base;
    struct self *child;
};
extern const ProtobufCMessageDescriptor self_type;
static const ProtobufCFieldDescriptor self_fields[] = {{.name = "child",
                                                        .id = 1,
                                                        .label = PROTOBUF_C_LABEL_NONE,
                                                        .type = PROTOBUF_C_TYPE_MESSAGE,
                                                        .offset = offsetof(struct self, child),
                                                        .descriptor = &self_type}};
static const unsigned self_by_name[] = {0};
static const ProtobufCIntRange self_ranges[] = {{1, 0}, {0, 1}};
static void self_real_init(ProtobufCMessage *m)
{
    *(struct self *)(void *)m = (struct self){.base = PROTOBUF_C_MESSAGE_INIT(&self_type)};
}
const ProtobufCMessageDescriptor self_type = {.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
                                              .name = "Self",
                                              .short_name = "Self",
                                              .c_name = "Self",
                                              .package_name = "",
                                              .sizeof_message = sizeof(struct self),
                                              .n_fields = 1,
                                              .fields = self_fields,
                                              .fields_sorted_by_name = self_by_name,
                                              .n_field_ranges = 1,
                                              .field_ranges = self_ranges,
                                              .message_init = self_real_init};

static void test_depth_limit(void **state)
{
    (void)state;
    char p[2 * RPC_DEPTH_MAX];
    for (int i = 0; i < RPC_DEPTH_MAX; i++) {
        p[2 * i] = 0x0a;
        p[2 * i + 1] = (char)(2 * (RPC_DEPTH_MAX - 1 - i));
    }
    /* N pairs are N + 1 messages. */
    assert_int_equal(unpack(&self_type, p + 2, sizeof(p) - 2), 0);
    assert_int_equal(unpack(&self_type, p, sizeof(p)), -ERR_INVALID);
    /* Ten thousand levels, built from the innermost out. */
    enum { LEVELS = 10000 };
    char *deep = malloc(LEVELS * 4), *at = deep + LEVELS * 4;
    assert_non_null(deep);
    for (size_t n = 0; n < LEVELS; n++) {
        size_t len = (size_t)(deep + LEVELS * 4 - at);
        size_t bytes = len < 128 ? 1 : len < 16384 ? 2 : 3;
        at -= bytes + 1;
        at[0] = 0x0a;
        for (size_t i = 0, v = len; i < bytes; i++, v >>= 7)
            at[1 + i] = (char)((v & 0x7f) | (i + 1 < bytes ? 0x80 : 0));
    }
    assert_int_equal(unpack(&self_type, at, (size_t)(deep + LEVELS * 4 - at)), -ERR_INVALID);
    free(deep);
}

static void test_copy(void **state)
{
    (void)state;
    Davit__Link__V1__Hello hello = DAVIT__LINK__V1__HELLO__INIT;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    hello.boot_id = (char *)(uintptr_t) "boot";
    hello.epoch = 7;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO;
    m.hello = &hello;
    ProtobufCMessage *copy;
    assert_int_equal(rpc_copy(&m.base, &copy), 0);
    const Davit__Link__V1__AgentMessage *c = (const void *)copy;
    assert_int_equal(c->body_case, DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO);
    assert_string_equal(c->hello->boot_id, "boot");
    assert_int_equal(c->hello->epoch, 7);
    struct buf out = BUF_INIT(4);
    assert_int_equal(rpc_pack(copy, &out), -ERR_EXHAUSTED);
    buf_release(&out);
    copy = rpc_message_free(copy);
}

/* req: MA-4 */
static void test_tables(void **state)
{
    (void)state;
    const struct rpc_service *s = &davit_link_v1_link_service;
    assert_string_equal(s->name, "davit.link.v1.LinkService");
    assert_int_equal(s->n_methods, 1);
    assert_string_equal(s->methods[0].name, "Connect");
    assert_ptr_equal(s->methods[0].input, &davit__link__v1__agent_message__descriptor);
    assert_ptr_equal(s->methods[0].output, &davit__link__v1__control_message__descriptor);
    assert_true(s->methods[0].client_streams && s->methods[0].server_streams);
    assert_string_equal(s->methods[0].scope, "link");
    s = &davit_test_v1_echo_service;
    assert_int_equal(s->n_methods, davit_test_v1_echo_service_METHODS);
    assert_true(davit_control_v1_status_service.methods[0].no_side_effects &&
                !davit_control_v1_workload_service.methods[0].no_side_effects);
    assert_true(!s->methods[2].client_streams && s->methods[2].server_streams);
    for (size_t i = 0; i < davit_control_v1_server_service.n_methods; i++)
        assert_true(strlen(davit_control_v1_server_service.methods[i].scope) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),    cmocka_unit_test(test_text),        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_packed_limit), cmocka_unit_test(test_parts_limit), cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_copy),         cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
