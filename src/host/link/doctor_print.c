/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_print — see doctor.h: a report for people and for programs. */
#include "base/json.h"
#include "host/link/doctor.h"
#include "spec/doctor_table.h"

static Davit__Common__V1__DoctorVerdict verdict_of(enum doctor_result r)
{
    static const Davit__Common__V1__DoctorVerdict verdicts[] = {[DOCTOR_OK] = DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_OK,
                                                                [DOCTOR_WARN] = DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_WARN,
                                                                [DOCTOR_FAIL] = DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_FAIL};
    return verdicts[r];
}

const char *doctor_result_name(enum doctor_result r)
{
    return doctor_verdict_name(verdict_of(r));
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
    Davit__Common__V1__DoctorCheck rows[DOCTOR_CHECKS_MAX], *shown[DOCTOR_CHECKS_MAX];
    for (size_t i = 0; i < r->n; i++) {
        const struct doctor_check *c = &r->checks[i];
        davit__common__v1__doctor_check__init(&rows[i]);
        rows[i].name = (char *)(uintptr_t)c->name;
        rows[i].verdict = verdict_of(c->result);
        rows[i].message = (char *)(uintptr_t)c->message;
        rows[i].fix = (char *)(uintptr_t)c->fix;
        shown[i] = &rows[i];
    }
    doctor_table_print(out, shown, r->n, colour);
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
