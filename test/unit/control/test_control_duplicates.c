/* SPDX-License-Identifier: Apache-2.0 */
/* Two agents with one identity: what is a copy, what is only an agent that came back, and who stays; and clocks that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/servers/duplicates.h"
#include "control/link/links.h"
#include "control_fixture.h"
#include "identity_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)

static struct server *edge(struct fixture *f)
{
    struct server *s = servers_by_name(f->c, "edge");
    CHECK(s);
    return s;
}

static void enroll_edge(struct fixture *f, struct identity *id)
{
    struct err err = ERR_INIT;
    char *token = create(f, "edge", false);
    identity_make(id);
    CHECK_OK(enroll(f, token, id, &err));
    free(token);
}

static void hello(struct fixture *f, struct agent *a, const struct identity *id, const char *instance, uint64_t epoch)
{
    struct err err = ERR_INIT;
    struct tls_ctx *tls = fixture_tls(f, buf_str(&id->chain), secret_reveal(id->pem), &err);
    const struct agent_self self = {.epoch = epoch, .instance = instance};
    CHECK_OK(agent_open(f, a, tls, &err));
    tls_ctx_unref(tls);
    agent_hello_as(a, &self);
}

static void welcome(struct agent *a)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__ControlMessage *m = GET(a, WELCOME);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_heartbeat(a);
}

static void fenced(struct agent *a)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__ControlMessage *m = GET(a, FENCED);
    CHECK(m && *m->fenced->reason);
    (void)rpc_message_free(m);
    CHECK(!GET(a, FENCED) && err.code == ERR_ABORTED);
    agent_close(a);
}

static void renew(struct agent *a, struct identity *id)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CredentialRequest r = DAVIT__LINK__V1__CREDENTIAL_REQUEST__INIT;
    identity_make(id);
    r.csr_der = (ProtobufCBinaryData){id->csr.len, (uint8_t *)id->csr.data};
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CREDENTIAL_REQUEST;
    m.credential_request = &r;
    CHECK(agent_put(a, &m) == 0);
    Davit__Link__V1__ControlMessage *c = GET(a, CREDENTIAL);
    CHECK(c && buf_append_cstr(&id->chain, c->credential->certificate_pem) == 0);
    (void)rpc_message_free(c);
}

static bool shown(void *arg)
{
    struct fixture *f = arg;
    return duplicate_shown(edge(f), clock_real());
}

/* A copied disk: the copy takes over, the first one comes again, and that is the proof. */
static void copy_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, next;
    struct agent first, second;
    struct server_view v;
    enroll_edge(f, &id);
    hello(f, &first, &id, "one", 5);
    welcome(&first);
    hello(f, &second, &id, "two", 6);
    welcome(&second);
    fenced(&first);
    CHECK(!shown(f));
    hello(f, &first, &id, "one", 5);
    fenced(&first);
    CHECK(shown(f) && f->c->counters.duplicates == 1);
    server_describe(edge(f), &v);
    CHECK(v.m.duplicate && v.m.duplicate->generation == 1);
    CHECK_STR(v.m.duplicate->address, "127.0.0.1");
    CHECK_STR(v.m.duplicate->connected_address, "127.0.0.1");
    CHECK_STR(v.m.duplicate->hostname, "Box.example");
    CHECK_STR(v.m.health, "warning");
    /* The one that is connected is asked to renew; the other one's are worth nothing from then on. */
    Davit__Link__V1__ControlMessage *m = GET(&second, CREDENTIAL_ROTATE);
    CHECK(m);
    CHECK_STR(m->credential_rotate->reason, "duplicate");
    (void)rpc_message_free(m);
    renew(&second, &next);
    agent_close(&second);
    hello(f, &second, &next, "two", 7);
    welcome(&second);
    for (uint64_t epoch = 5; epoch < 20; epoch += 5) { /* however it counts */
        hello(f, &first, &id, "one", epoch);
        m = GET(&first, FENCED);
        CHECK(m && strstr(m->fenced->reason, "was replaced by generation 2"));
        (void)rpc_message_free(m);
        agent_close(&first);
    }
    CHECK(edge(f)->duplicate.generation == 1 && f->c->counters.duplicates == 1 && links_live(f->c) == 1);
    agent_close(&second);
    /* Also when nobody else is there: restored snapshots are found after a restart too. */
    fixture_restart(f);
    CHECK(!shown(f));
    hello(f, &first, &id, "three", 30);
    m = GET(&first, FENCED);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_close(&first);
    CHECK(shown(f));
    identity_release(&id);
    identity_release(&next);
}

/* req: CB-8 */
static void copy(void **state)
{
    (void)state;
    fixture_run(copy_body);
}

/* A restored snapshot: it counts lower, is turned away, and the next word of the one that is connected is the proof. */
static void snapshot_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id;
    struct agent live, old;
    enroll_edge(f, &id);
    hello(f, &live, &id, "one", 9);
    welcome(&live);
    hello(f, &old, &id, "two", 3);
    fenced(&old);
    CHECK(!shown(f));
    hello(f, &old, &id, "two", 3);
    fenced(&old);
    CHECK(!shown(f)); /* the other one may be dead and not yet missed */
    agent_heartbeat(&live);
    fixture_until(shown, f);
    Davit__Link__V1__ControlMessage *m = GET(&live, CREDENTIAL_ROTATE);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_close(&live);
    identity_release(&id);
}

/* req: CB-8 */
static void snapshot(void **state)
{
    (void)state;
    fixture_run(snapshot_body);
}

/* One agent that comes back is no copy: by another connection, or as another process. */
static void returns_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id;
    struct agent a, b;
    enroll_edge(f, &id);
    hello(f, &a, &id, "one", 1);
    welcome(&a);
    hello(f, &b, &id, "one", 2);
    welcome(&b);
    CHECK(!GET(&a, COMMAND) && err.code == ERR_UNAVAILABLE); /* not fenced: it is the same process */
    agent_close(&a);
    for (uint64_t epoch = 3; epoch < 8; epoch++) {
        char instance[16];
        (void)snprintf(instance, sizeof(instance), "p%u", (unsigned)epoch);
        hello(f, &a, &id, instance, epoch);
        welcome(&a);
        fenced(&b);
        b = a;
    }
    agent_heartbeat(&b);
    Davit__Link__V1__ControlMessage *m = agent_get(&b, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK, &err);
    CHECK(m && !shown(f) && f->c->counters.duplicates == 0);
    (void)rpc_message_free(m);
    agent_close(&b);
    identity_release(&id);
}

/* req: CB-8 */
static void returns(void **state)
{
    (void)state;
    fixture_run(returns_body);
}

static bool tells(struct fixture *f, const char *word)
{
    struct server_view v;
    server_describe(edge(f), &v);
    for (size_t i = 0; i < v.m.n_health_reasons; i++)
        if (strstr(v.m.health_reasons[i], word))
            return true;
    return false;
}

static void heartbeat(struct agent *a, const char *error, usec_t clock)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__Heartbeat h = DAVIT__LINK__V1__HEARTBEAT__INIT;
    struct err err = ERR_INIT;
    h.credential_error = W(error);
    h.clock_us = clock;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
    m.heartbeat = &h;
    CHECK(agent_put(a, &m) == 0);
    Davit__Link__V1__ControlMessage *ack = agent_get(a, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK, &err);
    CHECK(ack && ack->heartbeat_ack->clock_us); /* the time that it lacks */
    (void)rpc_message_free(ack);
}

/* A machine whose clock stands at 1970 connects, is shown as such, and gets certificates by our clock. */
static void clock_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct identity id, next;
    struct agent a;
    enroll_edge(f, &id);
    struct tls_ctx *tls = fixture_tls(f, buf_str(&id.chain), secret_reveal(id.pem), &err);
    const struct agent_self self = {.epoch = 1, .instance = "one", .clock = 12345 * USEC_SEC, .clock_unsure = true};
    CHECK_OK(agent_open(f, &a, tls, &err));
    tls_ctx_unref(tls);
    agent_hello_as(&a, &self);
    Davit__Link__V1__ControlMessage *m = GET(&a, WELCOME);
    CHECK(m && m->welcome->clock_us > self.clock);
    (void)rpc_message_free(m);
    heartbeat(&a, "", self.clock);
    CHECK(tells(f, "its clock is not set") && !tells(f, "behind"));
    CHECK(edge(f)->skew < -(int64_t)USEC_DAY);
    renew(&a, &next);
    AUTO_CERT cert = NULL;
    struct cert_info info;
    CHECK(cert_from_pem(buf_str(&next.chain), &cert, &err) == 0 && cert_info(cert, &info, &err) == 0);
    CHECK(info.not_before > self.clock + USEC_DAY && info.not_after > clock_real() + 80 * USEC_DAY);
    /* The rest of what health tells of credentials. */
    heartbeat(&a, "the disk is full", clock_real());
    CHECK(tells(f, "the last renewal failed: the disk is full"));
    heartbeat(&a, "", clock_real());
    CHECK(!tells(f, "renewal"));
    usec_t now = clock_real();
    edge(f)->certificate_issued = now - 79 * USEC_DAY;
    edge(f)->certificate_expires = now + 21 * USEC_DAY; /* a fifth of its life and a day are left */
    CHECK(!tells(f, "certificate"));
    edge(f)->certificate_issued = now - 81 * USEC_DAY;
    edge(f)->certificate_expires = now + 19 * USEC_DAY;
    CHECK(tells(f, "its certificate ends in 4"));
    edge(f)->certificate_expires = now - 1;
    CHECK(tells(f, "has expired"));
    agent_close(&a);
    identity_release(&id);
    identity_release(&next);
}

/* req: CB-10 */
static void clock_of_1970(void **state)
{
    (void)state;
    fixture_run(clock_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy),
        cmocka_unit_test(snapshot),
        cmocka_unit_test(returns),
        cmocka_unit_test(clock_of_1970),
    };
    return cmocka_run_group_tests_name("control_duplicates", tests, NULL, NULL);
}
