/* SPDX-License-Identifier: Apache-2.0 */
/* names — see names.h. */
#include "cli/names.h"

const char *deployment_state_name(int state)
{
    static const char *const names[] = {"-", "pending", "deploying", "health-checking", "active", "failed", "superseded", "removed",
                                        "rolled-back", "cancelled"};

    return state >= 0 && state < (int)ARRAY_LEN(names) ? names[state] : "-";
}

int service_name_parse(const char *operand, const char *project, struct service_name *ret, struct err *err)
{
    struct str service = str_from(operand);
    struct str head = str_cut(&service, '/');

    if (head.n == str_from(operand).n) {
        service = head;
        head = str_from(project);
    }
    if (!str_is_label(head) || !str_is_label(service)) {
        (void)err_set(err, ERR_INVALID, "\"%.130s\" names no service", operand);
        err_hint(err, "write PROJECT/SERVICE, or SERVICE with --project; `davit ps` lists them");
        return -ERR_INVALID;
    }
    (void)str_copy(ret->project, sizeof ret->project, head);
    (void)str_copy(ret->service, sizeof ret->service, service);
    return 0;
}
