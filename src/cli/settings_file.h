/* SPDX-License-Identifier: Apache-2.0 */
/* settings_file — settings.yaml of the configuration directory: what the owner of this machine wants of the control plane, written by hand.
 *   control_plane: admin_port, health_port, agent_port, hydra_public_port, and the ports of parts that Davit has no process for
 *                  mode (auto, container, native), idle_exit (see control/idle.h)
 *   logging: file_enabled, max_size_mb, max_age_days, max_backups, compress (of the logs of control plane and agent)
 *   firewall: enable
 * Order: a default, what an earlier `up` was told, this file, an option of this `up`. All ports are on loopback.
 * Unknown keys, wrong types and numbers that are no port are errors that name the line; sections of later parts are passed over.
 * Limits: SETTINGS_FILE_MAX bytes.  Thread: loop, on a fiber.  Input trust: local user. */
#ifndef DAVIT_CLI_SETTINGS_FILE_H
#define DAVIT_CLI_SETTINGS_FILE_H

#include "cli/cli.h"

enum { SETTINGS_FILE_MAX = 64 * 1024 };

/* Changes @s by the file, if there is one; keys that have no effect are told once on stderr. 0 or -ERR_INVALID, ... */
int settings_file_apply(struct cli *cli, struct cli_settings *s, struct err *err) MUST_USE;
/* The same from text, for tests; @told gets what has no effect, a line each. */
int settings_file_parse(struct str text, const char *name, struct cli_settings *s, struct buf *told, struct err *err) MUST_USE;

/* Can all addresses be listened on that the settings have and @before has not? @running: davitd holds those of @before now. -ERR_EXISTS names the one
 * that another program has, and what moves it. */
int settings_ports_free(struct cli *cli, const struct cli_settings *before, bool running, struct err *err) MUST_USE;

#endif
