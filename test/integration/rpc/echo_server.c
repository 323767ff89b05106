/* SPDX-License-Identifier: Apache-2.0 */
/* echo_server — serves EchoService on the addresses given, prints each address as bound, ends on SIGTERM. For tests with other implementations. */
#include <signal.h>
#include <stdio.h>

#include "rpc/echo_service.h"

static struct loop *loop;

static void on_term(int signum, void *arg)
{
    (void)signum;
    (void)arg;
    loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    loop = loop_new();
    struct rpc_server *s = rpc_server_new(loop, echo_authorize, NULL);
    rpc_server_limit_sockets(s, 256);
    static const char *const origins[] = {"https://dash.example"};
    echo_service_add(s);
    rpc_server_allow_origins(s, origins, 1);
    int rc = loop_signal(loop, SIGTERM, on_term, NULL, &err);
    for (int i = 1; rc == 0 && i < argc; i++) {
        rc = rpc_server_listen(s, argv[i], 0600, NULL, &err);
        if (rc == 0)
            (void)printf("%s\n", rpc_server_addr(s, (size_t)i - 1));
    }
    if (rc < 0) {
        (void)fprintf(stderr, "echo_server: %s\n", err.msg);
        return 1;
    }
    (void)fflush(stdout);
    loop_run(loop);
    s = rpc_server_free(s);
    rc = loop_signal(loop, SIGTERM, NULL, NULL, &err);
    loop_run(loop);
    loop = loop_free(loop);
    return rc < 0;
}
