/* SPDX-License-Identifier: Apache-2.0 */
/* server_doctor — `davit server doctor`: the doctor of a server, asked through the control plane. */
#include "cli/server_doctor.h"

#include "base/mem.h"
#include "cli/out.h"
#include "davit/control/v1/doctor.davit.h"
#include "davit/control/v1/doctor.pb-c.h"
#include "spec/doctor_table.h"

/* Longer than the control plane waits for the agent. */
static const usec_t CALL_TIMEOUT = 40 * USEC_SEC;

#define AT(field) offsetof(struct server_doctor_options, field)
const struct opt server_doctor_opts[] = {
    {.name = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = AT(quiet), .help = "print nothing; the exit status tells"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static void clean(char **at)
{
    char *harmless = out_clean(str_from(*at));
    if (*at != (char *)(uintptr_t)protobuf_c_empty_string)
        free(*at);
    *at = harmless;
}

static void print_table(const struct cli *cli, const Davit__Control__V1__RunDoctorResponse *r)
{
    for (size_t i = 0; i < r->n_checks; i++) {
        clean(&r->checks[i]->name);
        clean(&r->checks[i]->message);
        clean(&r->checks[i]->fix);
    }
    doctor_table_print(stdout, r->checks, r->n_checks, cli->color);
}

int server_doctor_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct server_doctor_options *o = options;
    Davit__Control__V1__RunDoctorRequest req = DAVIT__CONTROL__V1__RUN_DOCTOR_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    int rc = cli_call(cli, &davit_control_v1_doctor_service, "RunDoctor", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__RunDoctorResponse *r = (const void *)message;
    bool ok = r->ok;
    if (!o->quiet && cli->json)
        rc = out_message(message, err);
    else if (!o->quiet)
        print_table(cli, r);
    (void)rpc_message_free(message);
    return rc < 0 ? rc : ok ? 0 : 1;
}
