/* SPDX-License-Identifier: Apache-2.0 */
/* plane_image — the image of the control plane's container, made of the programs that are installed here and of nothing else: no registry is asked.
 * What is linked dynamically brings its loader and the libraries that it names, at the paths where they are here.
 * Its tag is that of its content: the same programs make the same image on every machine.
 * Limits: PLANE_FILES_MAX files.  Thread: loop, on a fiber; reading the programs blocks. */
#ifndef DAVIT_CLI_PLANE_IMAGE_H
#define DAVIT_CLI_PLANE_IMAGE_H

#include "cli/cli.h"
#include "docker/docker.h"
#include "ident/digest.h"

enum { PLANE_FILES_MAX = 256 };

#define PLANE_REPOSITORY "davit-controlplane"
/* In it: */
#define PLANE_PROGRAMS   "/davit"
#define PLANE_PRIVATE    "/private" /* for root alone */
#define PLANE_STATE      "/state"

struct plane_image {
    char content[DIGEST_HEX_SIZE]; /* SHA-256 */
    char *ref;                     /* "davit-controlplane:bin-<16 hex>" */
    char *libraries;               /* folders of them, "/a:/b"; "" where all is static */
    bool made;                     /* just now */
};

/* Waits: it is there. */
int plane_image_provide(struct cli *cli, struct docker *d, struct plane_image *ret, usec_t deadline, struct err *err) MUST_USE;
void plane_image_release(struct plane_image *i);
/* Waits: those that are not @keep (NULL: all) go, but for what is in use. What cannot be removed stays. */
void plane_image_prune(struct docker *d, const char *keep, usec_t deadline);
/* Are the programs for a container beside this one, and static? */
bool plane_image_possible(const struct cli *cli);

#endif
