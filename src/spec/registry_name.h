/* SPDX-License-Identifier: Apache-2.0 */
/* registry_name — which registry an image comes from, and when two names mean the same one.
 * A registry is host or host:port; the host in lower case, for upper case never makes another one of it; what Docker Hub is called ("", docker.io,
 * index.docker.io, registry-1.docker.io, https://index.docker.io/v1/) is "docker.io".
 * Thread: any; pure.  Input trust: peer. */
#ifndef DAVIT_SPEC_REGISTRY_NAME_H
#define DAVIT_SPEC_REGISTRY_NAME_H

#include "base/err.h"
#include "base/str.h"

enum { REGISTRY_NAME_SIZE = 264 }; /* a name of 253, a colon, a port, NUL */

#define REGISTRY_HUB "docker.io"

/* The one spelling of what a user calls a registry; a scheme in front and "/", "/v1/" or "/v2/" behind are passed over. 0 or -ERR_INVALID. */
int registry_name(struct str server, char dst[REGISTRY_NAME_SIZE], struct err *err) MUST_USE;

/* The registry of @image in that spelling; *ret_written (may be NULL) is how the image writes it, "" for an image without. The image is one that
 * spec_check lets pass; of another it is the hub or whatever its first part is. */
void registry_of_image(struct str image, char dst[REGISTRY_NAME_SIZE], struct str *ret_written);

#endif
