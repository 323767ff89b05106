/* SPDX-License-Identifier: Apache-2.0 */
/* calls — see calls.h: the table of kinds, the life of a call, credit both ways. */
#include "host/work/calls.h"

#include "rpc/rpc.h"

/* They are of host/contain. */
static int call_sandbox(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const struct work_extension *x = call_work(c)->extension;

    if (!x) {
        *reason = "unimplemented";
        return err_set(err, ERR_UNIMPLEMENTED, "this agent has no sandboxes");
    }
    if (call_open_message(c)->body_case == DAVIT__LINK__V1__CALL_OPEN__BODY_SANDBOX_ATTACH)
        return x->attach(x->arg, c, end, reason, err);
    return x->fill(x->arg, c, end, reason, err);
}

/* A kind is added here, and its function in a file of its own. */
static const struct kind {
    Davit__Link__V1__CallOpen__BodyCase body;
    const char *name; /* of the fiber */
    call_fn *fn;
    bool always; /* also by an agent that is for sandboxes only; what is no sandbox these refuse themselves */
} kinds[] = {
    {DAVIT__LINK__V1__CALL_OPEN__BODY_EXEC, "call-exec", call_exec, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_LIST, "call-image-list", call_image_list, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_PULL, "call-image-pull", call_image_pull, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_CHECK, "call-image-check", call_image_check, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_IMAGE_REMOVE, "call-image-remove", call_image_remove, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_PRUNE_PLAN, "call-prune-plan", call_prune_plan, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_PRUNE_APPLY, "call-prune-apply", call_prune_apply, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_VOLUME_LIST, "call-volume-list", call_volume_list, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_VOLUME_REMOVE, "call-volume-remove", call_volume_remove, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_CONTAINER, "call-container", call_container, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_FILE, "call-file", call_file, false},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_SANDBOX_ATTACH, "call-sandbox-attach", call_sandbox, true},
    {DAVIT__LINK__V1__CALL_OPEN__BODY_SANDBOX_FILL, "call-sandbox-fill", call_sandbox, true},
};

/* Credit is given back in parts of at least so much, so that keystrokes cost no message each. */
enum { CREDIT_STEP = CALL_CREDIT / 4 };

struct call {
    struct list node;
    struct work *w;
    struct worker *worker;
    const struct kind *kind;
    Davit__Link__V1__CallOpen *open;
    bool closed;     /* nothing may be sent any more */
    bool overstepped; /* more input came than was allowed */
    uint64_t credit; /* of output */
    struct event more;

    struct buf input, taken; /* not yet taken; borrowed by the function */
    size_t owed;             /* input that was taken and for which no credit was given */
    bool input_last;
    struct event came;

    unsigned rows, columns;
    struct event resized;
};

struct calls {
    struct list open;
    unsigned n;
};

static struct call *find(struct work *w, uint64_t id)
{
    struct call *c;

    list_each(c, &w->calls->open, struct call, node)
        if (c->open->call_id == id && !c->closed)
            return c;
    return NULL;
}

/* --- For the functions ---- */

struct work *call_work(struct call *c)
{
    return c->w;
}

const Davit__Link__V1__CallOpen *call_open_message(const struct call *c)
{
    return c->open;
}

static void send(struct call *c, Davit__Link__V1__AgentMessage *m)
{
    if (!c->closed)
        work_send(c->w, m);
}

static int wait_to_send(struct call *c, usec_t deadline)
{
    while (c->credit == 0 && !c->closed) {
        int rc = event_wait(&c->more, deadline);
        if (rc < 0)
            return rc;
    }
    int rc = c->closed || !c->w->wait_room ? 0 : c->w->wait_room(c->w->arg);
    return rc < 0 || c->closed || fiber_cancelled() ? -(int)ERR_CANCELLED : 0;
}

int call_send(struct call *c, unsigned output, struct str bytes)
{
    return call_send_within(c, output, bytes, USEC_INFINITY);
}

int call_send_within(struct call *c, unsigned output, struct str bytes, usec_t stall)
{
    while (bytes.n > 0) {
        Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
        Davit__Link__V1__CallData data = DAVIT__LINK__V1__CALL_DATA__INIT;
        int rc = wait_to_send(c, stall == USEC_INFINITY ? stall : deadline_in(stall));
        if (rc < 0)
            return rc;
        size_t n = bytes.n < CALL_PIECE ? bytes.n : CALL_PIECE;
        n = n < c->credit ? n : c->credit;
        data.call_id = c->open->call_id;
        data.output = output;
        data.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)bytes.p};
        m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_DATA;
        m.call_data = &data;
        c->credit -= n;
        send(c, &m);
        bytes = (struct str){bytes.p + n, bytes.n - n};
    }
    return 0;
}

static void give_credit(struct call *c, size_t bytes)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CallCredit credit = DAVIT__LINK__V1__CALL_CREDIT__INIT;

    credit.call_id = c->open->call_id;
    credit.bytes = (uint32_t)bytes;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_CREDIT;
    m.call_credit = &credit;
    send(c, &m);
}

int call_input(struct call *c, struct str *ret, usec_t deadline)
{
    *ret = (struct str){0};
    c->owed += c->taken.len;
    buf_clear(&c->taken);
    if (c->owed >= CREDIT_STEP) {
        size_t owed = c->owed;
        c->owed = 0;
        give_credit(c, owed);
    }
    while (c->input.len == 0) {
        if (c->input_last)
            return 1;
        event_reset(&c->came);
        int rc = event_wait(&c->came, deadline);
        if (rc < 0)
            return rc;
    }
    struct buf full = c->input;
    c->input = c->taken;
    c->taken = full;
    *ret = buf_str(&c->taken);
    return fiber_cancelled() ? -(int)ERR_CANCELLED : 0;
}

void call_progress(struct call *c, const Davit__Common__V1__StepProgress *p)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__CallProgress progress = DAVIT__LINK__V1__CALL_PROGRESS__INIT;

    progress.call_id = c->open->call_id;
    progress.progress = (Davit__Common__V1__StepProgress *)(uintptr_t)p;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_PROGRESS;
    m.call_progress = &progress;
    send(c, &m);
}

void call_size(const struct call *c, unsigned *ret_rows, unsigned *ret_columns)
{
    *ret_rows = c->rows;
    *ret_columns = c->columns;
}

struct event *call_resized(struct call *c)
{
    return &c->resized;
}

/* --- The end ---- */

static void send_end(struct work *w, uint64_t id, Davit__Link__V1__CallEnd *end, const struct err *err, const char *reason)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;

    end->call_id = id;
    if (err) {
        failure.code = (uint32_t)err->code;
        failure.message = (char *)(uintptr_t)err->msg;
        failure.hint = (char *)(uintptr_t)err->hint;
        failure.reason = (char *)(uintptr_t)(reason ? reason : reason_of(err));
        end->failure = &failure;
    }
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_END;
    m.call_end = end;
    work_send(w, &m);
    end->failure = NULL;
}

/* All of the results that are messages share their place. */
static void release_result(Davit__Link__V1__CallEnd *end)
{
    if (end->result_case == DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME || end->result_case == DAVIT__LINK__V1__CALL_END__RESULT_IMAGE_DIGEST)
        free(end->outcome);
    else if (end->result_case != DAVIT__LINK__V1__CALL_END__RESULT__NOT_SET)
        (void)rpc_message_free(end->exec);
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT__NOT_SET;
}

static void free_call(struct call *c)
{
    event_release(&c->more);
    event_release(&c->came);
    event_release(&c->resized);
    buf_release(&c->input);
    buf_release(&c->taken);
    (void)rpc_message_free(c->open);
    free(c);
}

static void call_run(void *arg)
{
    struct call *c = arg;
    struct err err = ERR_INIT;
    Davit__Link__V1__CallEnd end = DAVIT__LINK__V1__CALL_END__INIT;
    const char *reason = NULL;

    give_credit(c, CALL_CREDIT);
    int rc = fiber_cancelled() ? -(int)ERR_CANCELLED : c->kind->fn(c, &end, &reason, &err);
    if (rc < 0)
        (void)err_ensure(&err, rc);
    if (c->overstepped) {
        rc = err_set(&err, ERR_INVALID, "the control plane sent more input than it was allowed to");
        reason = "invalid";
    }
    if (!c->closed && (c->overstepped || !fiber_cancelled())) {
        if (rc < 0)
            release_result(&end);
        send_end(c->w, c->open->call_id, &end, rc < 0 ? &err : NULL, reason);
    }
    release_result(&end);
    list_remove(&c->node);
    if (!c->closed)
        c->w->calls->n--;
    free_call(c);
}

/* --- For the link ---- */

static void close_call(struct call *c)
{
    if (c->closed)
        return;
    c->closed = true;
    c->w->calls->n--;
    fiber_cancel(c->worker->fiber);
}

static void refuse(struct work *w, uint64_t id, enum err_code code, const char *text, const char *hint)
{
    Davit__Link__V1__CallEnd end = DAVIT__LINK__V1__CALL_END__INIT;
    struct err err = ERR_INIT;

    (void)err_set(&err, code, "%s", text);
    err_hint(&err, "%s", hint);
    send_end(w, id, &end, &err, code == ERR_UNIMPLEMENTED ? "unimplemented" : NULL);
}

static const struct kind *kind_of(const Davit__Link__V1__CallOpen *open)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].body == open->body_case)
            return &kinds[i];
    return NULL;
}

int work_check_role(const struct work *w, struct err *err)
{
    if (!w->sandboxes_only)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the agent of this server runs in a container and looks after sandboxes only (role sandbox)");
    err_hint(err, "services need it as a process of the machine: davit down, then as root davit up --mode native");
    return -ERR_PRECONDITION;
}

void work_call_open(struct work *w, const Davit__Link__V1__CallOpen *open)
{
    const struct kind *kind = kind_of(open);
    ProtobufCMessage *copy = NULL;
    Davit__Link__V1__CallEnd end = DAVIT__LINK__V1__CALL_END__INIT;
    struct err err = ERR_INIT;

    if (!kind) {
        refuse(w, open->call_id, ERR_UNIMPLEMENTED, "this agent does not know this call", "update davit-agent on this server");
        return;
    }
    if (!kind->always && work_check_role(w, &err) < 0) {
        send_end(w, open->call_id, &end, &err, "role");
        return;
    }
    if (find(w, open->call_id)) {
        refuse(w, open->call_id, ERR_INVALID, "there is a call of this number already", "");
        return;
    }
    if (w->calls->n >= CALLS_MAX || rpc_copy(&open->base, &copy) != 0) {
        refuse(w, open->call_id, ERR_EXHAUSTED, "too many calls are open on this server", "try again when some have ended");
        return;
    }
    struct call *c = NEW(struct call);
    *c = (struct call){.w = w,
                       .kind = kind,
                       .open = (Davit__Link__V1__CallOpen *)copy,
                       .credit = open->credit_bytes,
                       .input = BUF_INIT(CALL_CREDIT),
                       .taken = BUF_INIT(CALL_CREDIT)};
    list_init(&c->node);
    event_init(&c->more, w->loop);
    event_init(&c->came, w->loop);
    event_init(&c->resized, w->loop);
    c->worker = work_spawn(w, kind->name, call_run, c);
    if (!c->worker) {
        refuse(w, open->call_id, ERR_EXHAUSTED, "too much runs at once on this server", "try again later");
        free_call(c);
        return;
    }
    list_push(&w->calls->open, &c->node);
    w->calls->n++;
}

void work_call_data(struct work *w, const Davit__Link__V1__CallData *m)
{
    struct call *c = find(w, m->call_id);

    if (!c || c->input_last || c->overstepped)
        return;
    bool fits = c->input.len + c->taken.len + c->owed + m->data.len <= CALL_CREDIT;
    if (!fits || buf_append(&c->input, m->data.data, m->data.len) != 0) {
        c->overstepped = true;
        fiber_cancel(c->worker->fiber);
        return;
    }
    c->input_last = m->last;
    event_signal(&c->came);
}

void work_call_credit(struct work *w, const Davit__Link__V1__CallCredit *m)
{
    struct call *c = find(w, m->call_id);

    if (!c || c->credit > UINT64_MAX / 2)
        return;
    c->credit += m->bytes;
    event_pulse(&c->more);
}

void work_call_resize(struct work *w, const Davit__Link__V1__CallResize *m)
{
    struct call *c = find(w, m->call_id);

    if (!c)
        return;
    c->rows = m->rows;
    c->columns = m->columns;
    event_pulse(&c->resized);
}

void work_call_close(struct work *w, const Davit__Link__V1__CallClose *m)
{
    struct call *c = find(w, m->call_id);

    if (c)
        close_call(c);
}

void work_calls_reset(struct work *w)
{
    struct call *c;

    list_each(c, &w->calls->open, struct call, node)
        close_call(c);
    if (w->extension)
        w->extension->unlinked(w->extension->arg);
}

void calls_start(struct work *w)
{
    w->calls = NEW(struct calls);
    list_init(&w->calls->open);
}

void calls_free(struct work *w)
{
    free(w->calls);
    w->calls = NULL;
}
