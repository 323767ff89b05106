/* SPDX-License-Identifier: Apache-2.0 */
/* audit — who did what to what: list entries, verify the chain (there, or of an exported file), export all of it as JSON lines. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/out.h"
#include "davit/control/v1/audit.davit.h"
#include "davit/control/v1/audit.pb-c.h"
#include "ident/chain.h"

enum { LINE_MAX_BYTES = 16 * 1024, PAGE_MAX = 1000 };

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;
static const usec_t VERIFY_TIMEOUT = 10 * USEC_MINUTE;

typedef Davit__Control__V1__AuditEntry entry_message;

struct audit_options {
    struct cli_common common;
    const char *actor, *action, *object, *outcome, *file, *head;
    usec_t since;
    int64_t limit, after;
    bool all;
};

#define AT(field) offsetof(struct audit_options, field)
static const struct opt ls_opts[] = {
    {.name = "since", .type = OPT_USEC, .offset = AT(since), .max = 315360000000000, .arg = "TIME",
     .help = "only entries younger than this, for example 1h"},
    {.name = "object", .type = OPT_STRING, .offset = AT(object), .arg = "NAME",
     .help = "what it was done to, as in shop/web; shop/* matches all that begin so"},
    {.name = "actor", .type = OPT_STRING, .offset = AT(actor), .arg = "WHO",
     .help = "who did it, as in davit://cli or addr:203.0.113.7; * at the end as above"},
    {.name = "action", .type = OPT_STRING, .offset = AT(action), .arg = "WHAT",
     .help = "what was done, as in WorkloadService/Deploy; * at the end as above"},
    {.name = "outcome", .type = OPT_ENUM, .offset = AT(outcome), .choices = "ok|refused|failed|begun", .arg = "HOW",
     .help = "how it ended"},
    {.name = "limit", .letter = 'n', .type = OPT_INT, .offset = AT(limit), .min = 1, .max = PAGE_MAX, .def = "50", .arg = "N",
     .help = "how many, newest first"},
    {.name = "all", .letter = 'a', .type = OPT_BOOL, .offset = AT(all), .help = "also the begin of what has ended"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* ---- ls ---- */

static void ls_row(struct out_table *t, const entry_message *e)
{
    const char *reason = *e->reason ? e->reason : e->code;
    char *cells[] = {
        str_printf("%" PRIu64, e->number),
        out_time(e->time_us),
        str_dup(str_from(e->actor)),
        str_dup(str_from(e->action)),
        str_dup(str_from(e->object)),
        e->count > 1 ? str_printf("%s x%" PRIu64, e->outcome, e->count) : str_dup(str_from(e->outcome)),
        *reason ? str_dup(str_from(reason)) : NULL,
    };

    out_table_row(t, cells);
}

/* Newest first: the end of what began stands before its begin. */
static bool has_ended(const Davit__Control__V1__ListAuditResponse *list, size_t at)
{
    if (strcmp(list->entries[at]->outcome, CHAIN_BEGUN) != 0)
        return false;
    for (size_t i = 0; i < at; i++)
        if (list->entries[i]->begun == list->entries[at]->number)
            return true;
    return false;
}

static void ls_print(struct cli *cli, const struct audit_options *o, const Davit__Control__V1__ListAuditResponse *list)
{
    static const char *const heads[] = {"NUMBER", "TIME", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "REASON", NULL};
    struct out_table t;
    int64_t shown = 0;

    out_table_init(&t, heads);
    for (size_t i = 0; i < list->n_entries && shown < o->limit; i++) {
        if (!o->all && has_ended(list, i))
            continue;
        ls_row(&t, list->entries[i]);
        shown++;
    }
    out_table_print(cli, &t);
    out_table_release(&t);
    if (shown == 0)
        out_note(cli, "No entry matches.");
}

static char *lend(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct audit_options *o = options;
    Davit__Control__V1__ListAuditRequest req = DAVIT__CONTROL__V1__LIST_AUDIT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    /* In a table half of what is asked for may be begins that are not shown. */
    int64_t wanted = cli->json || o->all ? o->limit : 2 * o->limit + 2;

    (void)operands;
    (void)n;
    req.since_us = o->since ? clock_real() - o->since : 0;
    req.actor = lend(o->actor);
    req.action = lend(o->action);
    req.object = lend(o->object);
    req.outcome = lend(o->outcome);
    req.limit = (uint32_t)(wanted < PAGE_MAX ? wanted : PAGE_MAX);
    int rc = cli_call(cli, &davit_control_v1_audit_service, "ListAudit", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        ls_print(cli, o, (const void *)message);
    rpc_message_free(message);
    return rc;
}

/* ---- export ---- */

static const struct opt export_opts[] = {
    {.name = "after", .type = OPT_INT, .offset = AT(after), .min = 0, .max = INT64_MAX, .def = "0", .arg = "N",
     .help = "only what comes after entry N, to go on with an older export"},
    {.name = "file", .letter = 'f', .type = OPT_STRING, .offset = AT(file), .arg = "FILE",
     .help = "write there, for the owner only, instead of to standard output"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static void line_text(struct jsonw *w, const char *key, const char *value)
{
    jsonw_key(w, key);
    jsonw_string(w, value);
}

static void line_number(struct jsonw *w, const char *key, uint64_t value)
{
    jsonw_key(w, key);
    jsonw_u64(w, value);
}

static int export_line(FILE *out, const entry_message *e, struct err *err)
{
    AUTO_BUF text = BUF_INIT(LINE_MAX_BYTES);
    char hash[2 * CHAIN_HASH_SIZE + 1] = "";
    struct jsonw w;

    if (e->hash.len == CHAIN_HASH_SIZE)
        str_hex(e->hash.data, CHAIN_HASH_SIZE, hash);
    jsonw_init(&w, &text);
    jsonw_object(&w);
    line_number(&w, "number", e->number);
    line_number(&w, "time_us", e->time_us);
    line_text(&w, "actor", e->actor);
    line_text(&w, "serial", e->serial);
    line_text(&w, "action", e->action);
    line_text(&w, "object", e->object);
    line_text(&w, "outcome", e->outcome);
    line_text(&w, "code", e->code);
    line_text(&w, "reason", e->reason);
    line_text(&w, "request", e->request_id);
    line_number(&w, "count", e->count);
    line_number(&w, "begun", e->begun);
    line_text(&w, "hash", hash);
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "entry %" PRIu64 " is too long for a line", e->number);
    (void)fwrite(text.data, 1, text.len, out);
    (void)fputc('\n', out);
    return 0;
}

static int export_to(struct cli *cli, FILE *out, uint64_t after, uint64_t *ret_n, struct err *err)
{
    Davit__Control__V1__ExportAuditRequest req = DAVIT__CONTROL__V1__EXPORT_AUDIT_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    int rc = rpc_stream_open(cli->channel, &davit_control_v1_audit_service, "ExportAudit", USEC_INFINITY, &stream, err);

    req.after = after;
    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline_in(CALL_TIMEOUT), err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, USEC_INFINITY, &message, err)) == 0) {
            const Davit__Control__V1__ExportAuditResponse *r = (const void *)message;
            for (size_t i = 0; rc == 0 && i < r->n_entries; i++, ++*ret_n)
                rc = export_line(out, r->entries[i], err);
            if (rc == 0 && fflush(out) != 0)
                rc = err_sys(err, errno, "the export cannot be written");
        }
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

static int run_export(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct audit_options *o = options;
    FILE *out = stdout;
    uint64_t count = 0;
    int rc = cli_connect(cli, err);

    (void)operands;
    (void)n;
    if (rc < 0)
        return rc;
    if (o->file) {
        int fd = open(o->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        out = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (!out) {
            rc = err_sys(err, errno, "%s", o->file);
            if (fd >= 0)
                (void)close(fd);
            return rc;
        }
    }
    rc = export_to(cli, out, (uint64_t)o->after, &count, err);
    if (o->file) {
        bool bad = fsync(fileno(out)) != 0;
        if ((fclose(out) != 0 || bad) && rc == 0)
            rc = err_sys(err, errno, "%s", o->file);
        if (rc == 0)
            out_note(cli, "%" PRIu64 " entries are in %s. `davit audit verify --file %s` checks them.", count, o->file, o->file);
    }
    return rc;
}

/* ---- verify ---- */

static const struct opt verify_opts[] = {
    {.name = "file", .letter = 'f', .type = OPT_STRING, .offset = AT(file), .arg = "FILE",
     .help = "check an exported file, without a control plane; -: standard input"},
    {.name = "head", .type = OPT_STRING, .offset = AT(head), .arg = "HEX",
     .help = "the log must end in this hash, kept elsewhere: shows that nothing was cut off its end"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* One line as it was exported. Texts stay in @kept until the next one. */
struct line {
    struct chain_entry e;
    char *kept[8];
};

static void line_release(struct line *l)
{
    for (size_t i = 0; i < ARRAY_LEN(l->kept); i++)
        free(l->kept[i]);
}

static int line_field(struct line *l, struct json *j, struct str key, struct err *err)
{
    static const char *const names[] = {"actor", "serial", "action", "object", "outcome", "code", "reason", "request"};
    struct chain_entry *e = &l->e;
    struct str *const texts[] = {&e->actor, &e->serial, &e->action, &e->object, &e->outcome, &e->code, &e->reason, &e->request};
    static const char *const number_names[] = {"number", "time_us", "count", "begun"};
    uint64_t *const numbers[] = {&e->number, &e->time_us, &e->count, &e->begun};
    struct str hash;
    size_t size = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(key, str_from(names[i]))) {
            free(l->kept[i]);
            l->kept[i] = NULL;
            int rc = json_read_string(j, &l->kept[i], err);
            *texts[i] = str_from(l->kept[i]);
            return rc;
        }
    for (size_t i = 0; i < ARRAY_LEN(number_names); i++)
        if (str_eq(key, str_from(number_names[i])))
            return json_read_u64(j, numbers[i], err);
    if (!str_eq(key, STR("hash")))
        return json_skip(j, err);
    int rc = json_read_str(j, &hash, err);
    if (rc == 0 && (hash.n != 2 * (size_t)CHAIN_HASH_SIZE || str_unhex(hash, e->hash, CHAIN_HASH_SIZE, &size) < 0))
        rc = err_set(err, ERR_INVALID, "hash is no SHA-256 in hex");
    return rc;
}

static int line_parse(struct line *l, struct str text, struct err *err)
{
    AUTO_JSON j;
    struct str key;
    enum json_type end;

    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, err);
    while (rc == 0 && (rc = json_key(&j, &key, err)) == 1)
        rc = line_field(l, &j, key, err);
    if (rc == 0 && (rc = json_next(&j, &end, err)) == 0 && end != JSON_END)
        rc = err_set(err, ERR_INVALID, "more than one value");
    return rc;
}

/* Lines that are no entries are found like entries that were changed. */
static int check_file(FILE *in, const char *name, struct chain_check *k, struct err *err)
{
    AUTO_FREE char *text = malloc(LINE_MAX_BYTES);
    struct err why = ERR_INIT;

    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    while (!k->bad && fgets(text, LINE_MAX_BYTES, in)) {
        struct line l = {.e = {.number = 0}};
        struct str s = str_from(text);
        bool whole = s.n && s.p[s.n - 1] == '\n';
        s.n -= whole;
        if (!whole && !feof(in))
            (void)err_set(&why, ERR_INVALID, "longer than %d bytes", LINE_MAX_BYTES);
        if (why.code || line_parse(&l, s, &why) < 0) {
            k->bad = k->last + 1;
            (void)snprintf(k->why, sizeof(k->why), "what follows entry %" PRIu64 " is no entry: %.120s", k->last, why.msg);
        } else {
            (void)chain_check_next(k, &l.e);
        }
        line_release(&l);
    }
    return ferror(in) ? err_sys(err, EIO, "%s", name) : 0;
}

static int verify_file(const char *name, Davit__Control__V1__VerifyAuditResponse *ret, struct chain_check *k, struct err *err)
{
    bool std = strcmp(name, "-") == 0;
    FILE *in = std ? stdin : fopen(name, "re");

    if (!in)
        return err_sys(err, errno, "%s", name);
    chain_check_init(k);
    int rc = check_file(in, name, k, err);
    if (!std)
        (void)fclose(in);
    if (rc == 0 && !k->bad && k->entries == 0) {
        k->bad = 1;
        (void)snprintf(k->why, sizeof(k->why), "there is no entry, and every log has its first");
    }
    ret->ok = k->bad == 0;
    ret->entries = k->entries;
    ret->first_bad = k->bad;
    ret->why = k->why;
    ret->interrupted = k->interrupted;
    ret->first_interrupted = k->first_interrupted;
    ret->head = (ProtobufCBinaryData){CHAIN_HASH_SIZE, k->hash};
    return rc;
}

/* @want: the hash that a whole log is known to end in, NULL: not known. */
static int tell_verdict(struct cli *cli, Davit__Control__V1__VerifyAuditResponse *r, const char *want, struct err *err)
{
    char head[2 * CHAIN_HASH_SIZE + 1] = "", why_head[160];

    if (r->head.len == CHAIN_HASH_SIZE)
        str_hex(r->head.data, CHAIN_HASH_SIZE, head);
    if (r->ok && want && strcasecmp(want, head) != 0) {
        r->ok = 0;
        r->first_bad = r->entries + 1;
        (void)snprintf(why_head, sizeof(why_head), "the log ends in %s after %" PRIu64 " entries, not in the hash that was given", head, r->entries);
        char *kept = r->why;
        r->why = why_head;
        int rc = tell_verdict(cli, r, NULL, err);
        r->why = kept;
        return rc;
    }
    if (cli->json) {
        int rc = out_message(&r->base, err);
        return rc < 0 ? rc : r->ok ? 0 : 1;
    }
    if (r->interrupted)
        out_note(cli, "%" PRIu64 " calls were begun and cut off by the end of the control plane; the first is entry %" PRIu64 ".", r->interrupted,
                 r->first_interrupted);
    if (!r->ok) {
        AUTO_FREE char *why = out_clean(str_from(r->why));
        (void)fprintf(stderr, "The log is not whole. First bad entry: %" PRIu64 ": %s.\n", r->first_bad, why);
        return 1;
    }
    printf("The log is whole: %" PRIu64 " entries, head %s.\n", r->entries, head);
    return 0;
}

static int run_verify(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct audit_options *o = options;
    Davit__Control__V1__VerifyAuditRequest req = DAVIT__CONTROL__V1__VERIFY_AUDIT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)operands;
    (void)n;
    if (o->head && !o->file)
        return err_set(err, ERR_INVALID, "--head goes with --file: a log that is in use has grown by the time it was read");
    if (o->file) {
        Davit__Control__V1__VerifyAuditResponse r = DAVIT__CONTROL__V1__VERIFY_AUDIT_RESPONSE__INIT;
        struct chain_check k;
        int rc = verify_file(o->file, &r, &k, err);
        return rc < 0 ? rc : tell_verdict(cli, &r, o->head, err);
    }
    int rc = cli_call(cli, &davit_control_v1_audit_service, "VerifyAudit", &req.base, VERIFY_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    rc = tell_verdict(cli, (Davit__Control__V1__VerifyAuditResponse *)message, o->head, err);
    rpc_message_free(message);
    return rc;
}

static const struct verb audit_verbs[] = {
    {.name = "ls", .usage = "[OPTIONS]", .about = "list entries, newest first", .opts = ls_opts, .opts_size = sizeof(struct audit_options),
     .run = run_ls, .example = "davit audit ls --since 1h\ndavit audit ls --object 'shop/*' --outcome failed"},
    {.name = "verify", .usage = "[OPTIONS]", .about = "is the log whole? exit status 1 names the first bad entry", .opts = verify_opts,
     .opts_size = sizeof(struct audit_options), .run = run_verify,
     .example = "davit audit verify\ndavit audit verify --file audit.jsonl"},
    {.name = "export", .usage = "[OPTIONS]", .about = "print all entries as JSON lines, oldest first", .opts = export_opts,
     .opts_size = sizeof(struct audit_options), .run = run_export,
     .example = "davit audit export > audit.jsonl\ndavit audit export --after 1200 >> audit.jsonl"},
    {.name = NULL},
};

const struct verb verb_audit = {
    .name = "audit",
    .group = "Control plane",
    .about = "ls, verify, export: who did what to what, in a chain that shows changes",
    .sub = audit_verbs,
};
