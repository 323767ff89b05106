/* SPDX-License-Identifier: Apache-2.0 */
/* work_driver — src/host/work behind a pipe, for tests: reads messages of the control plane (ControlMessage as JSON, one per line) from
 * stdin and prints those of the agent the same way, plus {"journal": ...} lines for what would be journaled.
 *
 * work_driver SOCKET [--usage-ms N] [--die INDEX:STATE] [--resume INDEX:STATE] [--full] [--desired DIR]
 *             [--ingress FOLDER IMAGE ADDR:PORT] [--disk-reserve BYTES]
 *             [--sandboxes FOLDER RUNTIME] [--server ID]
 * --die kills the process the moment before (STATE "before") or after (STATE a number) that record is written; --resume makes the first
 * command a resumed one; --desired keeps what shall run in DIR, and keeps it running. End of stdin: stops the module and ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/hmap.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/contain/contain.h"
#include "host/reach/ingress.h"
#include "host/work/desired.h"
#include "host/work/work.h"
#include "ident/seal.h"
#include "loop/stream.h"
#include "rpc/rpc.h"

enum { LINE_MAX_BYTES = 1024 * 1024, STATE_BEFORE = 99 };

struct driver {
    struct loop *loop;
    struct docker *docker;
    struct work *work;
    struct desired *desired;
    struct ingress *ingress;
    struct contain *contain;
    struct stream *in;
    struct buf line;
    int die_index, resume_index;
    unsigned die_state, resume_state;
    bool failed;
};

struct command_run {
    struct driver *d;
    Davit__Link__V1__ControlMessage *msg;
    struct job_journal journal;
    int resume;
};

static void print_message(void *arg, const Davit__Link__V1__AgentMessage *msg)
{
    AUTO_BUF out = BUF_INIT(8 * 1024 * 1024);
    struct err err = ERR_INIT;

    (void)arg;
    if (rpc_to_json(&msg->base, &out, &err) < 0) {
        fprintf(stderr, "work_driver: %s\n", err.msg);
        return;
    }
    printf("%s\n", buf_cstr(&out));
    fflush(stdout);
}

static int journal_step(void *arg, unsigned index, const char *name, enum step_state state)
{
    struct driver *d = arg;

    if (d->die_index == (int)index && d->die_state == STATE_BEFORE && state == STEP_RUNNING)
        (void)raise(SIGKILL);
    printf("{\"journal\":{\"index\":%u,\"name\":\"%s\",\"state\":%d}}\n", index, name, (int)state);
    fflush(stdout);
    if (d->die_index == (int)index && d->die_state == (unsigned)state)
        (void)raise(SIGKILL);
    return 0;
}

static void run_command(void *arg)
{
    struct command_run *r = arg;
    Davit__Link__V1__CommandResult result;
    Davit__Link__V1__AgentMessage out = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;

    int rc = work_command(r->d->work, r->msg->command, &r->journal, r->resume, &result);
    if (rc == 0) {
        out.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_RESULT;
        out.result = &result;
        print_message(NULL, &out);
        work_result_release(&result);
    } else {
        printf("{\"suspended\":%d}\n", -rc);
        fflush(stdout);
    }
    rpc_message_free(r->msg);
    free(r);
}

static void take_message(struct driver *d, Davit__Link__V1__ControlMessage *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_COMMAND: {
        struct command_run *r = NEW(struct command_run);
        *r = (struct command_run){.d = d, .msg = m, .resume = d->resume_index, .journal = {.step = journal_step, .arg = d}};
        r->journal.resume_state = (enum step_state)d->resume_state;
        d->resume_index = -1;
        d->resume_state = STEP_NONE;
        BUG_ON(fiber_spawn(d->loop, "command", run_command, r, NULL) < 0);
        return;
    }
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CANCEL_COMMAND:
        work_cancel(d->work, m->cancel_command->seq, m->cancel_command->id);
        break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_OPEN: work_log_open(d->work, m->log_open); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CREDIT: work_log_credit(d->work, m->log_credit); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_OPEN: work_call_open(d->work, m->call_open); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_DATA: work_call_data(d->work, m->call_data); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CREDIT: work_call_credit(d->work, m->call_credit); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_CLOSE: work_call_close(d->work, m->call_close); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CALL_RESIZE: work_call_resize(d->work, m->call_resize); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_CERTIFIED:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_COUNT:
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT: work_sandbox_message(d->work, m); break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED: /* stands for a link that went down */
        work_calls_reset(d->work);
        break;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CLOSE: work_log_close(d->work, m->log_close); break;
    default:
        /* A Welcome stands for a link that came up. */
        work_containers_full(d->work);
        break;
    }
    rpc_message_free(m);
}

static void take_line(struct driver *d, struct str line)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;

    if (line.n == 0)
        return;
    if (rpc_from_json(&davit__link__v1__control_message__descriptor, line, &m, &err) < 0) {
        fprintf(stderr, "work_driver: %s\n", err.msg);
        d->failed = true;
        return;
    }
    take_message(d, (Davit__Link__V1__ControlMessage *)m);
}

static void on_read(void *arg, const void *p, size_t n)
{
    struct driver *d = arg;

    BUG_ON(buf_append(&d->line, p, n) < 0);
    for (;;) {
        const char *end = d->line.len > 0 ? memchr(d->line.data, '\n', d->line.len) : NULL;
        if (!end)
            return;
        size_t len = (size_t)(end - d->line.data);
        take_line(d, (struct str){d->line.data, len});
        buf_consume(&d->line, len + 1);
    }
}

static void stop(void *arg)
{
    struct driver *d = arg;

    d->in = stream_close(d->in);
    if (work_stop(d->work, deadline_in(20 * USEC_SEC)) < 0) {
        fprintf(stderr, "work_driver: the module did not stop\n");
        exit(3);
    }
    if (contain_stop(d->contain, deadline_in(20 * USEC_SEC)) < 0)
        exit(3);
    d->contain = contain_free(d->contain);
    d->work = work_free(d->work);
    d->ingress = ingress_free(d->ingress);
    d->docker = docker_free(d->docker);
    d->desired = desired_close(d->desired);
}

static void on_eof(void *arg)
{
    struct driver *d = arg;
    BUG_ON(fiber_spawn(d->loop, "stop", stop, d, NULL) < 0);
}

static void on_error(void *arg, int rc)
{
    (void)rc;
    on_eof(arg);
}

/* "INDEX:STATE", STATE a number or "before". */
static void parse_point(const char *text, int *ret_index, unsigned *ret_state)
{
    struct str s = str_from(text);
    struct str index = str_cut(&s, ':');
    uint64_t i = 0, state = STATE_BEFORE;

    if (str_to_u64(index, 100, &i) < 0 || (!str_eq(s, STR("before")) && str_to_u64(s, 100, &state) < 0)) {
        fprintf(stderr, "work_driver: bad point %s\n", text);
        exit(2);
    }
    *ret_index = (int)i;
    *ret_state = (unsigned)state;
}

static void open_desired(struct driver *d, const char *dir)
{
    AUTO_FREE char *key = str_printf("%s/journal.key", dir), *path = str_printf("%s/desired.db", dir);
    struct err err = ERR_INIT;

    (void)seal_make(key, NULL); /* may be there */
    if (desired_open(d->loop, path, &d->desired, &err) != 0) {
        fprintf(stderr, "work_driver: %s\n", err.msg);
        exit(1);
    }
}

static void open_ingress(struct driver *d, char *const *words)
{
    const struct ingress_config config = {.loop = d->loop,
                                          .docker = d->docker,
                                          .server_id = "srv-test",
                                          .folder = words[0],
                                          .image = words[1],
                                          .listen = words[2]};
    d->ingress = ingress_new(&config);
}

static void open_sandboxes(struct driver *d, char *const *words)
{
    AUTO_FREE char *key = str_printf("%s.key", words[0]);
    const struct contain_config config = {.loop = d->loop, .work = d->work, .folder = words[0], .key = key, .runtime_dir = words[1]};
    struct err err = ERR_INIT;

    (void)seal_make(key, NULL); /* may be there */
    if (contain_new(&config, &d->contain, &err) < 0) {
        fprintf(stderr, "work_driver: %s\n", err.msg);
        exit(1);
    }
}

static void open_engine(struct driver *d, const char *socket)
{
    AUTO_FREE char *addr = str_printf("unix:%s", socket);
    struct err err = ERR_INIT;

    if (docker_new(d->loop, addr, &d->docker, &err) == 0 && fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK) == 0 &&
        stream_from_fd(d->loop, 0, &d->in, &err) == 0)
        return;
    fprintf(stderr, "work_driver: %s\n", err.msg);
    exit(1);
}

int main(int argc, char **argv)
{
    static const struct stream_handler handler = {.on_read = on_read, .on_eof = on_eof, .on_error = on_error};
    struct driver d = {.line = BUF_INIT(LINE_MAX_BYTES), .die_index = -1, .resume_index = -1};
    struct work_config config = {.server_id = "srv-test", .send = print_message};
    uint64_t ms = 0;
    const char *desired = NULL;
    bool full = false;
    char *const *ingress = NULL, *const *sandboxes = NULL;

    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--usage-ms") == 0 && str_to_u64(str_from(value), 1000000, &ms) == 0)
            i++;
        else if (strcmp(argv[i], "--disk-reserve") == 0 && str_to_u64(str_from(value), UINT64_MAX, &config.disk_reserve) == 0)
            i++;
        else if (strcmp(argv[i], "--die") == 0)
            parse_point(argv[++i < argc ? i : 0], &d.die_index, &d.die_state);
        else if (strcmp(argv[i], "--resume") == 0)
            parse_point(argv[++i < argc ? i : 0], &d.resume_index, &d.resume_state);
        else if (strcmp(argv[i], "--policy") == 0)
            config.policy = argv[++i < argc ? i : 0];
        else if (strcmp(argv[i], "--desired") == 0)
            desired = argv[++i < argc ? i : 0];
        else if (strcmp(argv[i], "--ingress") == 0 && i + 3 < argc)
            ingress = &argv[(i += 3) - 2];
        else if (strcmp(argv[i], "--full") == 0)
            full = true;
        else if (strcmp(argv[i], "--sandboxes") == 0 && i + 2 < argc)
            sandboxes = &argv[(i += 2) - 1];
        else if (strcmp(argv[i], "--server") == 0)
            config.server_id = argv[++i < argc ? i : 0];
        else
            return 2;
    }
    if (argc < 2)
        return 2;
    d.loop = loop_new();
    open_engine(&d, argv[1]);
    if (ingress)
        open_ingress(&d, ingress);
    config.ingress = d.ingress;
    config.loop = d.loop;
    config.docker = d.docker;
    config.usage_interval = ms * USEC_MSEC;
    if (desired)
        open_desired(&d, desired);
    config.desired = d.desired;
    d.work = work_new(&config);
    if (sandboxes)
        open_sandboxes(&d, sandboxes);
    work_heal(d.work);
    if (full)
        work_containers_full(d.work);
    stream_set_handler(d.in, &handler, &d);
    stream_read_start(d.in);
    loop_run(d.loop);
    buf_release(&d.line);
    d.loop = loop_free(d.loop);
    return d.failed ? 1 : 0;
}
