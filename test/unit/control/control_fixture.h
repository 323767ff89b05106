/* SPDX-License-Identifier: Apache-2.0 */
/* control_fixture — a whole control plane on loopback for one test, and agents and callers made of the client half of rpc.
 * The body runs on a fiber; CHECK aborts, for cmocka's assertions must not leave a fiber.  Thread: loop. */
#ifndef DAVIT_TEST_CONTROL_FIXTURE_H
#define DAVIT_TEST_CONTROL_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "control/control_internal.h"
#include "control/servers/servers.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/status.davit.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/link/v1/link.davit.h"

#define CHECK(cond)                                                                                                              \
    do {                                                                                                                         \
        if (!(cond)) {                                                                                                           \
            (void)fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                                             \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

#define CHECK_OK(call)                                                                                                           \
    do {                                                                                                                         \
        int rc_ = (call);                                                                                                        \
        if (rc_ != 0) {                                                                                                          \
            (void)fprintf(stderr, "%s:%d: %s = %d (%s)\n", __FILE__, __LINE__, #call, rc_, err.msg);                             \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

#define CHECK_STR(a, b)                                                                                                          \
    do {                                                                                                                         \
        const char *a_ = (a), *b_ = (b);                                                                                         \
        if (!str_eq(str_from(a_), str_from(b_))) {                                                                               \
            (void)fprintf(stderr, "%s:%d: \"%s\", wanted \"%s\"\n", __FILE__, __LINE__, a_ ? a_ : "-", b_);                      \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

#define W(lit) ((char *)(uintptr_t)(lit))
#define SOON   deadline_in(20 * USEC_SEC)

struct fixture {
    char dir[64], user[80], state[80], socket[96], address[104];
    struct loop *loop;
    struct control_options options;
    struct control *c;
    struct rpc_channel *api;
    char token[2048]; /* that fixture_show_token shows */
    bool shows_token; /* of version_call */
    void (*body)(struct fixture *f);
    struct timer watchdog;
    bool done;
};

/* Makes keys and runs @body against a control plane; cleans up. */
void fixture_run(void (*body)(struct fixture *f));
/* Stops it and starts it again on the same state. */
void fixture_restart(struct fixture *f);
/* One call as the CLI, with its certificate. *ret: rpc_message_free. */
int fixture_call(struct fixture *f, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                 ProtobufCMessage **ret, struct err *err);
/* Calls of @ch show a token of the CLI, for this certificate of its. */
void fixture_show_token(struct fixture *f, struct rpc_channel *ch, struct str cert_pem);
/* TLS of a client with certificate and key (PEM texts; NULL: none). */
struct tls_ctx *fixture_tls(struct fixture *f, struct str cert, struct str key, struct err *err);
/* Waits until @fn(@arg) holds. */
void fixture_until(bool (*fn)(void *arg), void *arg);

struct agent {
    struct rpc_channel *channel;
    struct rpc_stream *stream;
};

/* Connects on the unix socket (tls NULL) or on the TCP listener. */
int agent_open(struct fixture *f, struct agent *a, struct tls_ctx *tls, struct err *err);
void agent_close(struct agent *a);
int agent_put(struct agent *a, Davit__Link__V1__AgentMessage *m);
void agent_hello(struct agent *a, uint64_t epoch, uint64_t last_received);
/* The same with more to tell. */
struct agent_self {
    uint64_t epoch, last_received;
    const char *instance; /* NULL: none */
    usec_t clock;         /* 0: as it is */
    bool clock_unsure;
    bool old; /* knows no calls */
    bool sandboxes, counts; /* runs them; says how many */
};
void agent_hello_as(struct agent *a, const struct agent_self *self);
void agent_heartbeat(struct agent *a);
/* Reports one running container of a service. */
void agent_container(struct agent *a, const char *id, const char *project, const char *service, const char *deployment);
void agent_received(struct agent *a, const Davit__Link__V1__Command *cmd);
void agent_progress(struct agent *a, const Davit__Link__V1__Command *cmd, const char *step);
/* @failure NULL: success, with this digest of the image. */
#define AGENT_DIGEST "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
void agent_result(struct agent *a, const Davit__Link__V1__Command *cmd, const char *failure);
/* The next message of kind @body, passing over heartbeat acknowledgements. NULL: the stream ended, *err says how. */
Davit__Link__V1__ControlMessage *agent_get(struct agent *a, int body, struct err *err);

/* Is the local server of the fixture (@arg) online, offline? For fixture_until. */
bool work_online(void *arg);
bool work_offline(void *arg);
/* Hello, Welcome, first heartbeat; waits until the server is online. */
void work_connect(struct fixture *f, struct agent *a, uint64_t epoch, uint64_t last);
/* Waits: one statement on the store, e.g. a trigger that refuses what is written. */
void fixture_sql(struct fixture *f, const char *sql);
/* Deploys shop/web from @image with one variable. The caller frees the answer. */
Davit__Control__V1__DeployResponse *work_deploy(struct fixture *f, const char *image, bool if_changed);
/* Takes the next command, reports @container (NULL: none) as running for @deployment and answers with success. */
void work_obey(struct agent *a, const char *container, const char *deployment);

#endif
