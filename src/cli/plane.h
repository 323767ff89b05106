/* SPDX-License-Identifier: Apache-2.0 */
/* plane — the control plane in a container of its own (`davit up --mode container`): its image, its network, its volume, and the container
 * "davit-controlplane", whose name is the lock: one control plane for one Docker Engine.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_PLANE_H
#define DAVIT_CLI_PLANE_H

#include "cli/up_internal.h"
#include "docker/docker.h"

#define PLANE_CONTAINER "davit-controlplane"
#define PLANE_NETWORK   "davit-admin"
#define PLANE_VOLUME    "davit-agent-data"
#define PLANE_PURPOSE   "controlplane"

#define LABEL_HOME   "davit.home"   /* whose it is: the configuration directory of that user */
#define LABEL_BINARY "davit.binary" /* SHA-256 of what is in the image */
#define LABEL_CONFIG "davit.config" /* and of all that it was started with */

/* Is this how it runs here? */
bool plane_mode(const struct cli_settings *s);

/* --- plane.c ---- */

/* Waits: it runs as the settings say, answers, and the local server is online. A container that fits is taken as it is; another one of ours is
 * replaced; sandboxes go on. -ERR_EXISTS: the engine has one of another home. */
int plane_up(struct cli *cli, const struct up_want *want, struct up_before *b, struct up_result *ret, struct err *err) MUST_USE;
/* Waits: the container and whatever is left of one are gone. *ret_changed: it ran. */
int plane_down(struct cli *cli, bool *ret_changed, struct err *err) MUST_USE;
/* Waits, after that and without sandboxes: its volume, its network and its images are gone, and what sandboxes were run with. */
int plane_purge(struct cli *cli, struct err *err) MUST_USE;

struct plane_look {
    enum docker_state state; /* UNKNOWN: there is none of ours */
    bool foreign;            /* there is one of another home */
    char id[DOCKER_ID_SIZE];
};
/* Waits. */
int plane_look(struct cli *cli, struct plane_look *ret, struct err *err) MUST_USE;
/* Waits: how many sandboxes of this control plane there are and, of them, run; both modes. -ERR_UNAVAILABLE: the engine does not say. */
int plane_sandboxes(struct cli *cli, unsigned *ret_all, unsigned *ret_running, struct err *err) MUST_USE;
/* Id of this machine as a server, "" while nobody knows. The caller frees. */
char *plane_server_id(const struct cli *cli) MUST_USE;

/* --- plane_spec.c ---- */

struct plane_image;
struct plane_spec; /* the description of the container, with all that it points to */

/* @subnet: of PLANE_NETWORK; @socket: of the engine, a path. -ERR_INVALID, -ERR_PRECONDITION: a setting does not go with a container. */
int plane_spec_make(const struct cli *cli, const struct plane_image *image, const char *subnet, const char *socket, struct plane_spec **ret,
                    struct err *err) MUST_USE;
void plane_spec_free(struct plane_spec **s);
const struct docker_container_spec *plane_spec_container(const struct plane_spec *s);
/* What LABEL_CONFIG says. */
const char *plane_spec_config(const struct plane_spec *s);

#endif
