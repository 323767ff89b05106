/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_table — the report of a doctor for people, the same from `davit-agent doctor` and from `davit server doctor`.
 * Thread: any.  Input trust: the texts are shown as they are; the caller has made them harmless. */
#ifndef DAVIT_SPEC_DOCTOR_TABLE_H
#define DAVIT_SPEC_DOCTOR_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "davit/common/v1/system.pb-c.h"

/* "OK", "WARN", "FAIL"; what is none of them counts as "FAIL". */
const char *doctor_verdict_name(Davit__Common__V1__DoctorVerdict v);
/* A line per check, one for its fix, and the counts. */
void doctor_table_print(FILE *out, Davit__Common__V1__DoctorCheck *const *checks, size_t n, bool colour);

#endif
