/* SPDX-License-Identifier: Apache-2.0 */
/* session — see session.h: the wire to PID 1, the listener, the beginning and the end. */
#include "session/session.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "loop/lane.h"
#include "session/session_internal.h"

/* The connection of the agent and its successor. The rest is for who is being refused: what one address may hold by not shaking hands (64 at once,
 * and 4 a second for the 10 s that a handshake may take) must not be all. */
enum { CONNS_MAX = 128, ACCEPT_BURST = 256, ACCEPT_PER_SEC = 32, RUNNING_MAX = 16 };

/* Of what init grants for the end, the part that may be waited for a peer that reads slowly. */
#define STOP_SHARE(ms)  ((usec_t)(ms) * USEC_MSEC / 4 * 3)
#define FLUSH_STEP      (5 * USEC_MSEC)
#define REST_WAIT       (2 * USEC_SEC)
#define REFUSALS_WINDOW (10 * USEC_SEC)
enum { REFUSALS_TOLD = 20, LOG_PIECE = 4096 };

int session_tell_init(struct session *s, const union wire_frame *f)
{
    (void)s;
    /* One that does not fit now would be lost without a word: the caller says so to the agent. */
    return wire_send(WIRE_FD, f) == 0 ? 0 : -(int)ERR_UNAVAILABLE;
}

void session_use_tls(struct session *s, struct tls_ctx *tls)
{
    (void)tls_ctx_unref(s->tls);
    s->tls = tls;
    if (s->server)
        (void)rpc_server_set_tls(s->server, s->options->listen, tls);
}

int session_disk(struct session *s, int (*fn)(void *arg), void *arg, usec_t deadline, struct err *err)
{
    if (s->disk_busy)
        return err_set(err, ERR_EXHAUSTED, "the material is being read or written");
    s->disk_busy = true;
    struct lane *lane = lane_try_new(s->loop, "material", 1, 1);
    int rc = lane ? lane_call(lane, fn, arg, deadline) : err_set(err, ERR_EXHAUSTED, "no thread for the material");
    (void)lane_free(lane);
    s->disk_busy = false;
    return rc;
}

/* The log's reader may be slow: pieces that a pipe with room takes whole. */
void session_print(const char *bytes, size_t n)
{
    while (n > 0) {
        struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (poll(&log, 1, 0) != 1 || !(log.revents & POLLOUT))
            return;
        ssize_t done = write(STDERR_FILENO, bytes, n < LOG_PIECE ? n : LOG_PIECE);
        if (done <= 0)
            return;
        bytes += done;
        n -= (size_t)done;
    }
}

/* --- Rest ------------------------------------------------------------------------------------------------------------------------- */

/* What cannot be written of a program or a library is in its file: the pages come back when they are needed. */
static int let_go(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (info->dlpi_addr + h->p_vaddr) & ~(page - 1);
        if (h->p_type == PT_LOAD && !(h->p_flags & PF_W))
            (void)madvise((void *)from, info->dlpi_addr + h->p_vaddr + h->p_memsz - from, MADV_DONTNEED); // NOLINT(performance-no-int-to-ptr)
    }
    return 0;
}

/* There is one of these in each sandbox, and most of the time it has nothing to do: what a handshake or a flood took is given back. */
static void on_rest(void *arg)
{
    struct session *s = arg;

    if (s->n_pipelines > 0)
        return;
    (void)malloc_trim(0);
    (void)dl_iterate_phdr(let_go, NULL);
}

void session_rests(struct session *s)
{
    timer_set(&s->rest, REST_WAIT);
}

/* --- Who may come --------------------------------------------------------------------------------------------------------------- */

static int authorize(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method, struct err *err)
{
    const struct session *s = ctx;
    const struct conn *c = rpc_call_conn(call);

    (void)service;
    (void)method;
    if (c && conn_peer(c)->present && str_eq(str_from(conn_peer(c)->uri), str_from(s->options->peer)))
        return 0;
    log_event(LOG_WARN, "refused a caller", "event", "tls_refused", "peer", c ? conn_peer_addr(c) : NULL, "identity",
              c ? conn_peer(c)->uri : NULL, NULL);
    return err_set(err, ERR_UNAUTHENTICATED, "this is not the agent of this sandbox");
}

/* Whoever can reach the port can have it refused as often as it likes: the log says so a few times, and then how often. */
static void on_refused(void *arg, const char *peer, const struct err *err)
{
    static usec_t began;
    static unsigned n;
    usec_t now = clock_mono();

    (void)arg;
    if (now - began > REFUSALS_WINDOW) {
        if (n > REFUSALS_TOLD)
            log_printf(LOG_WARN, "%u more TLS handshakes failed", n - REFUSALS_TOLD);
        began = now;
        n = 0;
    }
    if (++n <= REFUSALS_TOLD)
        log_err(LOG_WARN, err, "TLS handshake failed", "event", "tls_refused", "peer", peer, NULL);
}

static int open_listener(struct session *s)
{
    const struct rpc_limits limits = {
        .conns = CONNS_MAX, .accept_burst = ACCEPT_BURST, .accept_per_sec = ACCEPT_PER_SEC, .running = RUNNING_MAX, .h2_only = true};

    s->server = rpc_server_new(s->loop, authorize, s);
    rpc_server_set_limits(s->server, &limits);
    rpc_server_limit_sockets(s->server, 0);
    rpc_server_on_refused(s->server, on_refused, s);
    rpc_server_add(s->server, &davit_session_v1_session_service, session_handlers, s);
    int rc = rpc_server_listen(s->server, s->options->listen, 0, s->tls, &s->err);
    if (rc == 0)
        log_event(LOG_INFO, "listening", "addr", rpc_server_addr(s->server, 0), "peer", s->options->peer, NULL);
    session_rests(s);
    return rc;
}

/* --- The end ---------------------------------------------------------------------------------------------------------------------- */

static void stop_now(struct session *s, int rc)
{
    s->rc = rc;
    loop_stop(s->loop);
}

/* What was said last goes out, if the agent reads it in time. */
static void say_goodbye(void *arg)
{
    struct session *s = arg;

    while (s->live && !talk_flushed(s->live) && clock_mono() < s->stop_by)
        if (fiber_sleep(FLUSH_STEP) < 0)
            break;
    if (s->live)
        talk_end(s->live, NULL);
    (void)fiber_sleep(FLUSH_STEP);
    stop_now(s, 0);
}

static void stop(struct session *s, uint32_t within_ms)
{
    if (s->stopping)
        return;
    s->stopping = true;
    s->stop_by = clock_mono() + STOP_SHARE(within_ms);
    if (s->server)
        rpc_server_drain(s->server);
    /* What still runs for the agent is killed when this program is gone; its output must not stand before the last word. */
    if (s->live)
        pipelines_lost(s, s->live);
    talk_send_state(s->live);
    if (fiber_spawn(s->loop, "goodbye", say_goodbye, s, NULL) < 0)
        stop_now(s, 0);
}

/* --- The wire --------------------------------------------------------------------------------------------------------------------- */

static void on_hello(struct session *s, const struct wire_hello *hello)
{
    bool first = !s->greeted;

    s->state = *hello;
    s->greeted = true;
    if (!first) {
        talk_send_state(s->live);
        return;
    }
    /* Once the main program has ended nobody connects any more. */
    if (hello->state == WIRE_ENDED)
        return;
    int rc = open_listener(s);
    if (rc < 0)
        stop_now(s, rc);
}

static void on_refusal(struct session *s, const struct wire_refused *f)
{
    log_printf(LOG_INFO, "PID 1 does not act on a frame of type %u, reason %u", f->type, f->reason);
    /* Whoever asked did not know how things stand. */
    talk_send_state(s->live);
}

static void on_frame(struct session *s, const union wire_frame *f)
{
    switch ((enum wire_type)f->head.type) {
    case WIRE_HELLO: on_hello(s, &f->hello); return;
    case WIRE_STARTED:
        s->state.state = WIRE_RUNNING;
        s->state.main_pid = f->started.pid;
        break;
    case WIRE_EXITED:
        s->state.state = WIRE_ENDED;
        s->state.main_pid = 0;
        s->state.end = f->exited.end;
        if (s->server)
            rpc_server_drain(s->server);
        break;
    case WIRE_ZOMBIES: s->zombies = f->zombies; break;
    case WIRE_STOPPING: stop(s, f->stopping.within_ms); return;
    case WIRE_REFUSED: on_refusal(s, &f->refused); return;
    default: return;
    }
    talk_send_state(s->live);
}

static void on_wire(void *arg)
{
    struct session *s = arg;
    union wire_frame f;
    int rc;

    while ((rc = wire_recv(WIRE_FD, WIRE_TO_SESSION, &f)) == 0)
        on_frame(s, &f);
    if (rc == 1)
        return;
    s->wire = watch_close(s->wire);
    if (rc < 0)
        log_event(LOG_ERROR, "PID 1 said what cannot be understood", NULL);
    /* Without PID 1 there is no sandbox. */
    stop(s, 0);
}

static void on_child(int signum, void *arg)
{
    (void)signum;
    pipelines_reap(arg);
}

/* --- The beginning ---------------------------------------------------------------------------------------------------------------- */

static int load(struct session *s, struct err *err)
{
    struct material m;
    struct secret *assertion = NULL;
    int rc;

    material_init(&m);
    rc = material_read(s->options->material, &m, err);
    if (rc == 0)
        rc = material_tls(&m, s->options->peer, true, &s->tls, err);
    material_release(&m);
    if (rc == 0 && material_take_assertion(s->options->material, &assertion, err) < 0)
        rc = -(int)ERR_PRECONDITION;
    s->registration = registration_new(s, assertion);
    return rc;
}

/* The C library opens the file of the time zone at the first date that it reads, /etc/localtime where none is named; this value names no file. What
 * runs for the agent has the container's own. */
static int leave_time_zone(struct session *s, struct err *err)
{
    size_t n = 0;

    while (environ[n])
        n++;
    s->environment = mem_zalloc(n + 1, sizeof(*s->environment));
    memcpy(s->environment, environ, n * sizeof(*s->environment));
    return setenv("TZ", ":", 1) == 0 ? 0 : err_sys(err, errno, "cannot set a variable");
}

static int begin(struct session *s, struct err *err)
{
    int rc = leave_time_zone(s, err);

    if (rc == 0)
        rc = load(s, err);
    if (rc == 0 && fcntl(WIRE_FD, F_SETFD, FD_CLOEXEC) < 0)
        rc = err_set(err, ERR_PRECONDITION, "there is no PID 1 at descriptor %d: davit-init starts this program", (int)WIRE_FD);
    if (rc == 0)
        rc = watch_open(s->loop, WIRE_FD, on_wire, s, &s->wire, err);
    if (rc == 0)
        rc = loop_signal(s->loop, SIGCHLD, on_child, s, err);
    return rc;
}

/* Fibers that were cut off unwind: they still know `s`. */
static void settled(void *arg)
{
    struct session *s = arg;

    if (fiber_count(s->loop) == 0 || clock_mono() >= s->stop_by)
        loop_stop(s->loop);
    else
        timer_set(&s->settle, USEC_MSEC);
}

static void end(struct session *s)
{
    s->wire = watch_close(s->wire);
    s->server = rpc_server_free(s->server);
    registration_cancel(s->registration);
    pipelines_free(s);
    timer_stop(&s->rest);
    (void)loop_signal(s->loop, SIGCHLD, NULL, NULL, NULL);
    s->stop_by = deadline_in(USEC_SEC);
    timer_init(&s->settle, s->loop, settled, s);
    timer_set(&s->settle, 0);
    loop_run(s->loop);
    timer_stop(&s->settle);
    s->registration = registration_free(s->registration);
    s->tls = tls_ctx_unref(s->tls);
    s->loop = loop_free(s->loop);
    free(s->environment);
}

int session_run(const struct session_options *options, struct err *err)
{
    struct session s = {.loop = loop_new(), .options = options};
    int rc;

    list_init(&s.pipelines);
    timer_init(&s.rest, s.loop, on_rest, &s);
    rc = begin(&s, err);
    if (rc == 0) {
        loop_run(s.loop);
        rc = s.rc;
        if (rc < 0 && err)
            *err = s.err;
    }
    end(&s);
    return rc;
}
