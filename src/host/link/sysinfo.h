/* SPDX-License-Identifier: Apache-2.0 */
/* sysinfo — what the agent tells about its machine: davit.common.v1.SystemInfo, collected from /proc, netlink, the engine, tailscale and,
 * only where the user named one, a look-up URL.
 * Opens nothing of nsswitch or locale. Text that is not UTF-8 is replaced, control characters too; each value is at most SYSINFO_TEXT_MAX
 * bytes, each file SYSINFO_FILE_MAX.
 * What is slow (engine, tailscale, URL) is asked at most each SYSINFO_SLOW.
 * Ownership: the collector owns the message it made last.  Thread: loop; collect on a fiber, one at a time.
 * Input trust: files of the host, tailscale's output and the URL's answer are hostile text. */
#ifndef DAVIT_HOST_LINK_SYSINFO_H
#define DAVIT_HOST_LINK_SYSINFO_H

#include <net/if.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "davit/common/v1/system.pb-c.h"
#include "docker/docker.h"

enum {
    SYSINFO_TEXT_MAX = 255,
    SYSINFO_FILE_MAX = 256 * 1024,
    SYSINFO_ADDRESSES_MAX = 64,
    SYSINFO_ADDRESS_SIZE = 46,
    SYSINFO_TAILSCALE_MAX = 4 * 1024 * 1024
};
#define SYSINFO_SLOW (5 * USEC_MINUTE)

struct sysinfo;

struct sysinfo_config {
    struct loop *loop;
    struct docker *docker;     /* borrowed; NULL: the engine is not asked */
    const char *tailscale;     /* path of the program; NULL or "": looked for at the usual places */
    const char *public_ip_url; /* NULL or "": nobody is asked */
    const char *policy;        /* path of the owner's policy, see policy.h; NULL: none is looked for */
    bool in_container;         /* what is to be told is the machine's, which the engine knows, not what is seen from inside */
    const char *update_method; /* how the agent can be updated; static. NULL: it does not say */
};

/* Copies the texts. Never NULL. Ends with sysinfo_free. */
struct sysinfo *sysinfo_new(const struct sysinfo_config *config) MUST_USE;
/* Not while a fiber collects. Accepts NULL; returns NULL. */
struct sysinfo *sysinfo_free(struct sysinfo *s);

/* Waits: looks at everything that is due. What cannot be learned stays empty. 0, or -ERR_CANCELLED with the old message kept. */
int sysinfo_collect(struct sysinfo *s) MUST_USE;
/* The engine is asked again at the next collect. */
void sysinfo_touch_engine(struct sysinfo *s);
/* The message of the last collect; before the first an empty one. Borrowed until the next collect. */
const Davit__Common__V1__SystemInfo *sysinfo_get(const struct sysinfo *s);
/* Equal for equal messages, in every process. */
uint64_t sysinfo_hash(const struct sysinfo *s);

/* Blocks: where the program @name is that may be executed, in the first of @dirs ("/a:/b") that has it; the caller frees. NULL: nowhere. */
char *sysinfo_find_program(struct str dirs, const char *name) MUST_USE;

/* --- Parsers (sysinfo_parse.c), apart for tests ---------------------------------------------------------------------------------- */

/* A copy fit to be sent: UTF-8, no control characters, at most SYSINFO_TEXT_MAX bytes. The caller frees. */
char *sysinfo_clean(struct str s) MUST_USE;
/* PRETTY_NAME of an os-release file, unquoted, clean; "" if there is none. The caller frees. */
char *sysinfo_pretty_name(struct str os_release) MUST_USE;
/* MemTotal of /proc/meminfo in bytes; 0 if it is not there. */
uint64_t sysinfo_mem_total(struct str meminfo);
/* amd64, arm64, or the machine's own word. */
const char *sysinfo_arch(const char *machine);
/* Interface of the default route with the lowest metric in /proc/net/route, /proc/net/ipv6_route. 0, or 1: there is none. */
int sysinfo_route4(struct str route, char ret[IFNAMSIZ]) MUST_USE;
int sysinfo_route6(struct str route, char ret[IFNAMSIZ]) MUST_USE;
/* Is this interface one of the machine's own (up, not loopback, not a container's)? @flags: IFF_* */
bool sysinfo_own_interface(const char *name, unsigned flags);
/* Is it an IP address that others may use: not loopback, link-local, multicast or unspecified? Its text goes to @dst. */
bool sysinfo_own_address(const struct sockaddr *sa, char dst[SYSINFO_ADDRESS_SIZE]);
/* The answer of a look-up service: one IP address, blanks around it allowed, into @dst. 0 or -ERR_INVALID. */
int sysinfo_public_address(struct str answer, char dst[SYSINFO_ADDRESS_SIZE], struct err *err) MUST_USE;
/* `tailscale status --json`. 0 with @ret filled (strings fresh, as protobuf-c frees them), or -ERR_INVALID with nothing changed. */
int sysinfo_tailscale(struct str json, Davit__Common__V1__Tailscale *ret, struct err *err) MUST_USE;
/* v1, v2, hybrid by what is mounted below @cgroup_root; "" if nothing is. */
const char *sysinfo_cgroup(const char *cgroup_root);

#endif
