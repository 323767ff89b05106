/* SPDX-License-Identifier: Apache-2.0 */
/* client — the CLI's connection to davitd: mutual TLS with the user's own key; the control plane is known by its certificate, not by its address. */
#include <string.h>

#include "base/fd.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/wake.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"

enum { PEM_MAX = 64 * 1024 };
static const usec_t CONNECT_TIMEOUT = 10 * USEC_SEC;
static const usec_t CHANGE_WAIT = 5 * USEC_SEC, CHANGE_STEP = 100 * USEC_MSEC; /* of the root, see root_changes */

static int read_pem(const char *dir, const char *name, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    int rc = fd_read_file(path, out, err);

    if (rc == -ERR_NOT_FOUND) {
        rc = err_set(err, ERR_PRECONDITION, "there is no control plane here yet (%s is missing)", path);
        err_hint(err, "run `davit up` first, or point --home to the one you mean");
    } else if (rc == -ERR_DENIED) {
        err_hint(err, "run as the user who ran `davit up`");
    }
    return rc;
}

/* @dir: where our keys are; @cert: our own. */
static int make_context(const char *dir, struct buf *cert, struct tls_ctx **ret, struct err *err)
{
    AUTO_BUF root = BUF_INIT(PEM_MAX);
    AUTO_SECRET_BUF key = BUF_INIT(PEM_MAX);
    int rc;

    /* All at once: a buffer that grows would leave pieces of the key behind. */
    BUG_ON(!buf_reserve(&key, PEM_MAX));

    if ((rc = read_pem(dir, "cli.crt", cert, err)) < 0 || (rc = read_pem(dir, "cli.key", &key, err)) < 0 ||
        (rc = read_pem(dir, "root.crt", &root, err)) < 0)
        return rc;
    struct tls_config config = {
        .cert_pem = buf_str(cert), .key_pem = buf_str(&key), .ca_pem = buf_str(&root), .peer_uri = "davit://controlplane", .alpn = "h2",
    };
    return tls_ctx_new(&config, ret, err);
}

static int dial(struct cli *cli, const char *dir, struct buf *cert, struct err *err)
{
    struct tls_ctx *tls = NULL;
    int rc = make_context(dir, cert, &tls, err);

    if (rc < 0)
        return rc;
    rc = rpc_channel_open(cli->loop, cli->settings.api, tls, 30 * USEC_SEC, deadline_in(CONNECT_TIMEOUT), &cli->channel, err);
    tls_ctx_unref(tls);
    return rc;
}

/* A change of the root that was begun, and whose answer did not reach us, may be over by now: what waits for it is what opens then. */
static int dial_as_next(struct cli *cli, struct err *err)
{
    AUTO_FREE char *next = pki_user_next_dir(cli->paths.config);
    AUTO_BUF cert = BUF_INIT(PEM_MAX);
    uint8_t pin[SPKI_HASH_SIZE];
    int rc = pki_pin(next, pin, err);

    if (rc == 0)
        rc = dial(cli, next, &cert, err);
    if (rc < 0)
        return rc;
    cli->channel = rpc_channel_close(cli->channel);
    rc = pki_user_switch(cli->paths.config, pin, err);
    return rc <= 0 ? rc : err_set(err, ERR_ABORTED, "the next root is another one meanwhile");
}

/* A change of the root is in the files a moment before the control plane serves what they say. */
static bool root_changes(const struct cli *cli)
{
    struct cert_roots roots;

    return pki_control_roots(cli->paths.state, &roots, NULL) == 0 && roots.n > 1;
}

static int connect_once(struct cli *cli, struct err *err)
{
    AUTO_BUF cert = BUF_INIT(PEM_MAX);
    int rc;

    if (cli->channel)
        return 0;
    /* A change of the root that was cut off here, and that the control plane has begun. */
    if ((rc = pki_user_follow(cli->paths.config, cli->paths.state, err)) < 0)
        return rc;
    usec_t patience = deadline_in(CHANGE_WAIT);
    while ((rc = dial(cli, cli->paths.config, &cert, err)) == -ERR_UNAUTHENTICATED && root_changes(cli) && clock_mono() < patience &&
           fiber_sleep(CHANGE_STEP) == 0) {
        *err = ERR_INIT;
        buf_clear(&cert);
    }
    if (rc == -ERR_UNAUTHENTICATED && dial_as_next(cli, NULL) == 0) {
        buf_clear(&cert);
        rc = dial(cli, cli->paths.config, &cert, err);
    }
    if (rc == 0)
        bearer_use(cli, buf_str(&cert));
    if (rc == -ERR_UNAVAILABLE) {
        (void)err_wrap(err, "the control plane does not answer on %s", cli->settings.api);
        err_hint(err, "is it running? `davit up` starts it, `davit status` tells");
    }
    return rc;
}

int cli_connect(struct cli *cli, struct err *err)
{
    int rc = connect_once(cli, err);

    if (rc == 0 || !wake_helps(cli, rc))
        return rc;
    rc = wake(cli, err);
    return rc < 0 ? rc : connect_once(cli, err);
}

static int call_once(struct cli *cli, const struct rpc_service *service, const char *method, const ProtobufCMessage *request, usec_t timeout,
                     ProtobufCMessage **ret, struct err *err)
{
    int rc = cli_connect(cli, err);

    if (rc == 0)
        rc = rpc_unary(cli->channel, service, method, request, deadline_in(timeout), ret, err);
    /* A control plane that lost its keys since the last run. */
    if (rc == -ERR_UNAUTHENTICATED && bearer_refused(cli))
        rc = rpc_unary(cli->channel, service, method, request, deadline_in(timeout), ret, err);
    return rc;
}

/* Nobody is there, or somebody who is about to end. Who is there and cannot has a reason that starting it again does not mend. */
static bool is_over(struct cli *cli)
{
    AUTO_BUF part = BUF_INIT(HEALTH_PART_MAX);
    int health = health_look(cli, &part);

    return health < 0 || (health > 0 && str_eq(buf_str(&part), STR("stopping")));
}

int cli_call(struct cli *cli, const struct rpc_service *service, const char *method, const ProtobufCMessage *request, usec_t timeout,
             ProtobufCMessage **ret, struct err *err)
{
    struct err first = ERR_INIT;
    int rc = call_once(cli, service, method, request, timeout, ret, &first);

    if (rc != -ERR_UNAVAILABLE || !wake_helps(cli, rc) || !is_over(cli)) {
        if (rc < 0 && err)
            *err = first;
        return rc;
    }
    cli->channel = rpc_channel_close(cli->channel);
    rc = wake(cli, err);
    if (rc < 0)
        out_note(cli, "davit: before that: %s", first.msg);
    return rc < 0 ? rc : call_once(cli, service, method, request, timeout, ret, err);
}
