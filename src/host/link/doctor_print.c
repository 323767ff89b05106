/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_print — see doctor.h: a report for people and for programs. */
#include "base/json.h"
#include "host/link/doctor.h"

static const struct {
    const char *name, *colour;
} results[] = {
    [DOCTOR_OK] = {"OK", "\033[32m"},
    [DOCTOR_WARN] = {"WARN", "\033[33m"},
    [DOCTOR_FAIL] = {"FAIL", "\033[31m"},
};

const char *doctor_result_name(enum doctor_result r)
{
    return results[r].name;
}

bool doctor_ok(const struct doctor_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->checks[i].result == DOCTOR_FAIL)
            return false;
    return true;
}

void doctor_print(FILE *out, const struct doctor_report *r, bool colour)
{
    size_t count[ARRAY_LEN(results)] = {0};
    for (size_t i = 0; i < r->n; i++) {
        const struct doctor_check *c = &r->checks[i];
        count[c->result]++;
        fprintf(out, "%s%-4s%s  %-13s  %s\n", colour ? results[c->result].colour : "", results[c->result].name, colour ? "\033[0m" : "", c->name,
                c->message);
        if (*c->fix)
            fprintf(out, "                     fix: %s\n", c->fix);
    }
    fprintf(out, "%zu checks: %zu OK, %zu WARN, %zu FAIL\n", r->n, count[DOCTOR_OK], count[DOCTOR_WARN], count[DOCTOR_FAIL]);
}

int doctor_json(const struct doctor_report *r, struct buf *out, struct err *err)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_object(&w);
    jsonw_key(&w, "version");
    jsonw_string(&w, DAVIT_VERSION);
    jsonw_key(&w, "ok");
    jsonw_bool(&w, doctor_ok(r));
    jsonw_key(&w, "checks");
    jsonw_array(&w);
    for (size_t i = 0; i < r->n; i++) {
        const struct doctor_check *c = &r->checks[i];
        jsonw_object(&w);
        jsonw_key(&w, "name");
        jsonw_string(&w, c->name);
        jsonw_key(&w, "result");
        jsonw_string(&w, doctor_result_name(c->result));
        jsonw_key(&w, "message");
        jsonw_string(&w, c->message);
        jsonw_key(&w, "fix");
        jsonw_string(&w, c->fix);
        jsonw_object_end(&w);
    }
    jsonw_array_end(&w);
    jsonw_object_end(&w);
    if (jsonw_end(&w) != 0 || buf_append_byte(out, '\n') != 0)
        return err_set(err, ERR_EXHAUSTED, "the report does not fit");
    return 0;
}
