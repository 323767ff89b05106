/* SPDX-License-Identifier: Apache-2.0 */
/* skew — see skew.h. */
#include "cli/skew.h"

#include "cli/out.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/servers.pb-c.h"
#include "ident/release.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

enum skew skew_of(struct str control, struct str other)
{
    uint64_t major, minor, other_major, other_minor;
    if (release_version_minor(control, &major, &minor) < 0 || release_version_minor(other, &other_major, &other_minor) < 0)
        return SKEW_NONE;
    if (other_major != major)
        return other_major > major ? SKEW_AHEAD : SKEW_BEHIND;
    if (other_minor > minor)
        return SKEW_AHEAD;
    return minor - other_minor > 1 ? SKEW_BEHIND : SKEW_NONE;
}

void skew_warn(struct cli *cli, const char *control)
{
    Davit__Control__V1__ListServersRequest req = DAVIT__CONTROL__V1__LIST_SERVERS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    unsigned behind = 0, ahead = 0;
    enum skew own = skew_of(str_from(control), STR(DAVIT_VERSION));
    if (own == SKEW_BEHIND)
        out_note(cli, "warning: this program is davit %s, more than one minor version behind its control plane (%s): update it", DAVIT_VERSION,
                 control);
    if (own == SKEW_AHEAD)
        out_note(cli, "warning: this program is davit %s and the control plane %s: update the control plane first", DAVIT_VERSION, control);
    if (cli_call(cli, &davit_control_v1_server_service, "ListServers", &req.base, CALL_TIMEOUT, &message, NULL) < 0)
        return;
    const Davit__Control__V1__ListServersResponse *list = (const void *)message;
    for (size_t i = 0; i < list->n_servers; i++) {
        enum skew s = skew_of(str_from(control), str_from(list->servers[i]->agent_version));
        behind += s == SKEW_BEHIND;
        ahead += s == SKEW_AHEAD;
    }
    rpc_message_free(message);
    if (behind)
        out_note(cli, "warning: %u agent%s more than one minor version behind the control plane: davit server update --all", behind,
                 behind == 1 ? " is" : "s are");
    if (ahead)
        out_note(cli, "warning: %u agent%s newer than the control plane: update the control plane", ahead, ahead == 1 ? " is" : "s are");
}
