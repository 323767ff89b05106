/* SPDX-License-Identifier: Apache-2.0 */
/* idle_conns — what an idle agent costs its server: N connections with mTLS, an HTTP/2 session and one open stream each, over loopback, from
 * a process of their own.  usage: net-idle-conns N.  Prints "N BYTES": private memory of the server per connection, in bytes.
 * The first tenth of the connections warms up what is there once for all. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/fiber.h"
#include "net/h2.h"
#include "net/testcert.h"

#define SETTLE (2 * USEC_SEC) /* longer than idle memory is kept */

static struct loop *loop;
static struct tls_ctx *tls;
static unsigned n_wanted;

static void die(const char *what, const struct err *err)
{
    (void)fprintf(stderr, "idle_conns: %s: %s\n", what, err->msg);
    _exit(1);
}

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end);
static void on_data(void *arg, struct h2_stream *st, struct str bytes)
{
    (void)arg;
    h2_consume(st, bytes.n);
}
static void on_stream(void *arg, struct h2_stream *st)
{
    (void)arg;
    (void)st;
}
static void on_closed(void *arg, struct h2_stream *st, uint32_t code)
{
    (void)arg;
    (void)st;
    (void)code;
}
static void on_dead(void *arg, const struct err *why)
{
    (void)arg;
    die("a connection ended", why);
}

static const struct h2_handler handler = {on_head, on_data, on_stream, on_closed, on_stream, NULL, on_dead};

/* --- The server: this process ---------------------------------------------------------------------------------------------------- */

static unsigned n_streams;
static size_t warm_bytes;
static struct timer settled;

static size_t private_bytes(void)
{
    (void)malloc_trim(0);
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    unsigned long kb = 0, sum = 0;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "Private_Dirty: %lu kB", &kb) == 1)
            sum += kb;
    if (f)
        (void)fclose(f);
    return sum * 1024;
}

static void on_settled(void *arg)
{
    (void)arg;
    unsigned warm = n_wanted / 10;
    if (n_streams < n_wanted) {
        warm_bytes = private_bytes();
        return;
    }
    (void)printf("%u %zu\n", n_wanted, (private_bytes() - warm_bytes) / (n_wanted - warm));
    (void)fflush(stdout);
    loop_stop(loop);
}

static void on_head(void *arg, struct h2_stream *st, struct h2_head *head, bool end)
{
    const struct h2_field answer = {":status", "200"};
    (void)head;
    (void)end;
    if (arg) /* the client's */
        return;
    if (h2_respond(st, &answer, 1) != 0)
        _exit(1);
    n_streams++;
    if (n_streams == n_wanted / 10 || n_streams == n_wanted)
        timer_set(&settled, SETTLE);
}

static void on_ready(void *arg, struct conn *c)
{
    (void)arg;
    struct h2 *h = h2_new(c, true, &handler, NULL);
    h2_keepalive(h, 60 * USEC_SEC);
}

static void on_failed(void *arg, const char *peer, const struct err *err)
{
    (void)arg;
    (void)peer;
    die("handshake", err);
}

static void on_accept(void *arg, struct stream *s)
{
    (void)arg;
    (void)conn_accept_tls(s, tls, 60 * USEC_SEC, on_ready, on_failed, NULL);
}

/* --- The clients: a child ---------------------------------------------------------------------------------------------------------- */

static const char *server_addr;

static void run_clients(void *arg)
{
    (void)arg;
    static const struct h2_field fields[] = {{":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/a.B/C"},
                                             {"content-type", "application/grpc"}, {"te", "trailers"}};
    for (unsigned i = 0; i < n_wanted; i++) {
        struct err err = ERR_INIT;
        struct conn *c = NULL;
        struct h2_stream *st = NULL;
        if (conn_dial(loop, server_addr, tls, NULL, deadline_in(60 * USEC_SEC), &c, &err) != 0)
            die("dial", &err);
        struct h2 *h = h2_new(c, false, &handler, loop);
        if (h2_request(h, fields, ARRAY_LEN(fields), &st) != 0)
            die("request", &err);
        if (i + 1 == n_wanted / 10) /* the server takes its measure */
            (void)fiber_sleep(SETTLE + USEC_SEC);
    }
}

static void client(const char *addr, const struct testcert *root, const struct testcert *cert)
{
    struct err err = ERR_INIT;
    const struct tls_config config = {.cert_pem = str_from(cert->cert_pem), .key_pem = str_from(cert->key_pem),
                                      .ca_pem = str_from(root->cert_pem), .alpn = "h2"};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    server_addr = addr;
    if (tls_ctx_new(&config, &tls, &err) != 0 || fiber_spawn(loop, "clients", run_clients, NULL, NULL) != 0)
        die("client", &err);
    loop_run(loop);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct testcert root, server, agent;
    struct rlimit files;
    struct listener *listener = NULL;
    uint64_t n = 0;
    if (argc != 2 || str_to_u64(str_from(argv[1]), 100000, &n) != 0 || n < 10)
        return 2;
    n_wanted = (unsigned)n;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    testcert_make(&root, "root", NULL, NULL, NULL, 3600);
    testcert_make(&server, "server", &root, "davit://controlplane", NULL, 3600);
    testcert_make(&agent, "agent", &root, "davit://server/0192f0c1-2233-7abc-8def-0123456789ab", NULL, 3600);
    const struct tls_config config = {.server = true, .cert_pem = str_from(server.chain_pem), .key_pem = str_from(server.key_pem),
                                      .ca_pem = str_from(root.cert_pem), .verify = TLS_VERIFY_REQUIRED, .alpn = "h2"};
    int pipe_fd[2];
    if (pipe(pipe_fd) != 0)
        return 1;
    pid_t pid = fork(); /* before a loop exists: each process makes its own */
    loop = loop_new();
    if (pid == 0) {
        char addr[64] = "";
        if (read(pipe_fd[0], addr, sizeof(addr) - 1) <= 0)
            _exit(1);
        client(addr, &root, &agent);
    }
    timer_init(&settled, loop, on_settled, NULL);
    if (tls_ctx_new(&config, &tls, &err) != 0 || listener_open(loop, "127.0.0.1:0", 0, on_accept, NULL, &listener, &err) != 0)
        die("server", &err);
    const char *addr = listener_addr(listener);
    if (write(pipe_fd[1], addr, strlen(addr)) < 0)
        return 1;
    loop_run(loop);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    _exit(0); /* the connections are not worth taking down one by one */
}
