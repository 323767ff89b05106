/* SPDX-License-Identifier: Apache-2.0 */
/* verbs — the table of all verbs, in the order of the overview. */
#include "cli/cli.h"

const struct verb *const cli_verb_list[] = {
    &verb_up,    &verb_down, &verb_status, &verb_dashboard, &verb_server, &verb_token,
    &verb_deploy, &verb_deployments, &verb_cancel, &verb_rollback, &verb_scale,
    &verb_ps, &verb_logs,
    &verb_stats, &verb_exec, &verb_cp, &verb_files,
    &verb_start, &verb_stop,  &verb_restart, &verb_rm,      &verb_container, &verb_image, &verb_volume, &verb_prune,
    &verb_env, &verb_registry,
    &verb_run, &verb_sandbox, &verb_firewall,
    &verb_audit,  &verb_events, &verb_auth, &verb_controlplane, &verb_version, &verb_completion, &verb_man,
    NULL,
};
