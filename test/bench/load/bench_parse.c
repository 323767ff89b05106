/* SPDX-License-Identifier: Apache-2.0 */
/* bench_parse — throughput of what reads and writes foreign bytes, on one core: JSON reader (beside jansson), HTTP/1.1 requests, checked unpacking
 * beside protobuf-c's own, and the JSON transcoder both ways. Each figure is the best of some rounds. usage: bench_parse */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "davit/link/v1/link.davit.h"
#include "net/http.h"
#include "rpc/rpc.h"
#include "base/oracle_jansson.h"

enum { ROUNDS = 15, OBJECTS = 2000, CONTAINERS = 200, REQUESTS = 2000 };

static usec_t best_of(bool (*fn)(void *arg), void *arg)
{
    usec_t best = USEC_INFINITY;
    for (unsigned i = 0; i < ROUNDS; i++) {
        usec_t began = clock_mono();
        if (!fn(arg)) {
            (void)fputs("bench_parse: a round failed\n", stderr);
            exit(1);
        }
        usec_t took = clock_mono() - began;
        best = took < best ? took : best;
    }
    return best ? best : 1;
}

static void say(const char *what, size_t bytes, usec_t took)
{
    (void)printf("%-58s %14.0f MB/s   %.2f ms for %.2f MB\n", what, (double)bytes / (double)took, (double)took / 1000, (double)bytes / 1e6);
}

/* --- JSON: a list as the engine answers it --- */

static void make_json(struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_array(&w);
    for (unsigned i = 0; i < OBJECTS; i++) {
        jsonw_object(&w);
        jsonw_key(&w, "Id");
        jsonw_string(&w, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        jsonw_key(&w, "Created");
        jsonw_u64(&w, 1795000000u + i);
        jsonw_key(&w, "Labels");
        jsonw_object(&w);
        for (unsigned k = 0; k < 12; k++) {
            char key[48];
            (void)snprintf(key, sizeof(key), "org.example.label.number.%u", k);
            jsonw_key(&w, key);
            jsonw_string(&w, "a value with \"quotes\", a line\nand some more text to read over");
        }
        jsonw_object_end(&w);
        jsonw_key(&w, "Running");
        jsonw_bool(&w, i % 2 == 0);
        jsonw_object_end(&w);
    }
    jsonw_array_end(&w);
    if (jsonw_end(&w) != 0)
        exit(1);
}

static bool read_json(void *arg)
{
    struct json j;
    enum json_type type = JSON_NULL;
    json_init(&j, *(struct str *)arg);
    int rc = 0;
    while (rc == 0 && type != JSON_END)
        rc = json_next(&j, &type, NULL);
    json_release(&j);
    return rc == 0;
}

static bool read_jansson(void *arg)
{
    const struct str *s = arg;
    return jansson_accepts(s->p, s->n);
}

static void bench_json(void)
{
    AUTO_BUF text = BUF_INIT(8 * 1024 * 1024);
    make_json(&text);
    struct str s = buf_str(&text);
    say("JSON, read to the last string", s.n, best_of(read_json, &s));
    say("  jansson, whole tree", s.n, best_of(read_jansson, &s));
}

/* --- HTTP/1.1 --- */

static int on_head(void *arg, struct http_head *head)
{
    (void)arg, (void)head;
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    (void)arg, (void)bytes;
    return 0;
}

static int on_end(void *arg)
{
    ++*(unsigned *)arg;
    return 0;
}

static bool read_http(void *arg)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    struct str s = *(struct str *)arg;
    unsigned ends = 0;
    struct http_parser *p = http_parser_new(true, &handler, &ends);
    int rc = 0;
    while (s.n && rc == 0) {
        size_t used = 0;
        rc = http_parser_feed(p, s, &used, NULL);
        s.p += used;
        s.n -= used;
        http_parser_reset(p);
    }
    http_parser_free(p);
    return rc == 0 && ends == REQUESTS;
}

static void bench_http(void)
{
    static const char request[] = "POST /davit.control.v1.WorkloadService/ListServices HTTP/1.1\r\nHost: davit.example:7440\r\n"
                                  "User-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\nConnect-Protocol-Version: 1\r\n"
                                  "Cookie: session=0123456789abcdef0123456789\r\nContent-Length: 33\r\n\r\n{\"project\": \"shop\", \"server\": \"\"}";
    AUTO_BUF text = BUF_INIT(8 * 1024 * 1024);
    for (unsigned i = 0; i < REQUESTS; i++)
        if (buf_append(&text, request, sizeof(request) - 1) != 0)
            exit(1);
    struct str s = buf_str(&text);
    usec_t took = best_of(read_http, &s);
    say("HTTP/1.1 requests", s.n, took);
    (void)printf("%-58s %14.0f requests/s\n", "", REQUESTS * 1e6 / (double)took);
}

/* --- Messages --- */

struct sample {
    Davit__Link__V1__ContainerStates *states;
    struct buf wire, json;
};

static void make_states(struct sample *s)
{
    static Davit__Common__V1__Container containers[CONTAINERS], *list[CONTAINERS];
    static Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    for (unsigned i = 0; i < CONTAINERS; i++) {
        containers[i] = (Davit__Common__V1__Container)DAVIT__COMMON__V1__CONTAINER__INIT;
        containers[i].id = (char *)"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        containers[i].project = (char *)"shop";
        containers[i].service = (char *)"a-service-with-a-name";
        containers[i].deployment_id = (char *)"4f1b2b0b-822c-415d-8c15-b0f00a089f86";
        containers[i].started_at_us = 1795000000000000u + i;
        list[i] = &containers[i];
    }
    states.full = 1;
    states.n_containers = CONTAINERS;
    states.containers = list;
    s->states = &states;
    if (rpc_pack(&states.base, &s->wire) != 0 || rpc_to_json(&states.base, &s->json, NULL) != 0)
        exit(1);
}

static bool pack(void *arg)
{
    struct sample *s = arg;
    AUTO_BUF out = BUF_INIT(4 * 1024 * 1024);
    return rpc_pack(&s->states->base, &out) == 0;
}

static bool unpack(void *arg)
{
    struct sample *s = arg;
    ProtobufCMessage *m = NULL;
    int rc = rpc_unpack(&davit__link__v1__container_states__descriptor, buf_str(&s->wire), &m, NULL);
    rpc_message_free(m);
    return rc == 0;
}

static bool unpack_unchecked(void *arg)
{
    struct sample *s = arg;
    ProtobufCMessage *m = protobuf_c_message_unpack(&davit__link__v1__container_states__descriptor, NULL, s->wire.len, (const uint8_t *)s->wire.data);
    bool ok = m != NULL;
    protobuf_c_message_free_unpacked(m, NULL);
    return ok;
}

static bool to_json(void *arg)
{
    struct sample *s = arg;
    AUTO_BUF out = BUF_INIT(4 * 1024 * 1024);
    return rpc_to_json(&s->states->base, &out, NULL) == 0;
}

static bool from_json(void *arg)
{
    struct sample *s = arg;
    ProtobufCMessage *m = NULL;
    int rc = rpc_from_json(&davit__link__v1__container_states__descriptor, buf_str(&s->json), &m, NULL);
    rpc_message_free(m);
    return rc == 0;
}

static void bench_messages(void)
{
    struct sample s = {.wire = BUF_INIT(4 * 1024 * 1024), .json = BUF_INIT(4 * 1024 * 1024)};
    make_states(&s);
    say("messages, packed", s.wire.len, best_of(pack, &s));
    say("messages, checked and unpacked", s.wire.len, best_of(unpack, &s));
    say("  protobuf-c alone, unchecked", s.wire.len, best_of(unpack_unchecked, &s));
    say("transcoder, message to JSON", s.json.len, best_of(to_json, &s));
    say("transcoder, JSON to message", s.json.len, best_of(from_json, &s));
    buf_release(&s.wire);
    buf_release(&s.json);
}

int main(void)
{
    bench_json();
    bench_http();
    bench_messages();
    return 0;
}
