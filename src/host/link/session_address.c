/* SPDX-License-Identifier: Apache-2.0 */
/* session_address — whom a command is for, and what of it may be on disk. */
#include "host/link/session_internal.h"

bool command_address(const Davit__Link__V1__Command *m, struct str *project, struct str *service)
{
    const char *p = NULL, *name = NULL;
    if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_DEPLOY && m->deploy->spec) {
        p = m->deploy->spec->project;
        name = m->deploy->spec->name;
    } else if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_ACTION) {
        p = m->action->project;
        name = m->action->service;
    } else if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_REMOVE_SERVICE) {
        p = m->remove_service->project;
        name = m->remove_service->service;
    } else if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_SCALE_SERVICE) {
        p = m->scale_service->project;
        name = m->scale_service->service;
    }
    if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX && m->create_sandbox->spec) {
        p = "";
        name = m->create_sandbox->spec->id;
    } else if (m->body_case == DAVIT__LINK__V1__COMMAND__BODY_SANDBOX_ACTION) {
        p = "";
        name = m->sandbox_action->sandbox_id;
    }
    *project = str_from(p);
    *service = str_from(name);
    return p != NULL;
}

bool command_has_credentials(const Davit__Link__V1__Command *cmd)
{
    return (cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_DEPLOY && cmd->deploy->registry_auth) ||
           (cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX && cmd->create_sandbox->registry_auth);
}

int command_pack(const Davit__Link__V1__Command *cmd, struct buf *out)
{
    Davit__Link__V1__Command stored = *cmd;
    Davit__Link__V1__Deploy deploy;
    Davit__Link__V1__CreateSandbox sandbox;
    if (command_has_credentials(cmd) && cmd->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX) {
        sandbox = *cmd->create_sandbox;
        sandbox.registry_auth = NULL;
        stored.create_sandbox = &sandbox;
    } else if (command_has_credentials(cmd)) {
        deploy = *cmd->deploy;
        deploy.registry_auth = NULL;
        stored.deploy = &deploy;
    }
    return rpc_pack(&stored.base, out);
}
