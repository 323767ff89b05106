/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_table — see doctor_table.h. */
#include "spec/doctor_table.h"

enum { ROW_OK, ROW_WARN, ROW_FAIL };

static const struct {
    const char *name, *colour;
} rows[] = {
    [ROW_OK] = {"OK", "\033[32m"},
    [ROW_WARN] = {"WARN", "\033[33m"},
    [ROW_FAIL] = {"FAIL", "\033[31m"},
};

static unsigned row_of(Davit__Common__V1__DoctorVerdict v)
{
    if (v == DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_OK)
        return ROW_OK;
    return v == DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_WARN ? ROW_WARN : ROW_FAIL;
}

const char *doctor_verdict_name(Davit__Common__V1__DoctorVerdict v)
{
    return rows[row_of(v)].name;
}

void doctor_table_print(FILE *out, Davit__Common__V1__DoctorCheck *const *checks, size_t n, bool colour)
{
    size_t count[sizeof(rows) / sizeof(rows[0])] = {0};
    for (size_t i = 0; i < n; i++) {
        unsigned r = row_of(checks[i]->verdict);
        count[r]++;
        fprintf(out, "%s%-4s%s  %-13s  %s\n", colour ? rows[r].colour : "", rows[r].name, colour ? "\033[0m" : "", checks[i]->name,
                checks[i]->message);
        if (*checks[i]->fix)
            fprintf(out, "                     fix: %s\n", checks[i]->fix);
    }
    fprintf(out, "%zu checks: %zu OK, %zu WARN, %zu FAIL\n", n, count[ROW_OK], count[ROW_WARN], count[ROW_FAIL]);
}
