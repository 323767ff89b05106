/* SPDX-License-Identifier: Apache-2.0 */
/* docker — client of the Docker Engine API, 1.41 (Docker 20.10) to 1.45, over its socket.
 * Every call waits on a fiber and takes a monotonic deadline; calls may run at the same time on one client, each on a connection of its own.
 * Results own all their memory: each `struct docker_X` filled by a call ends with its docker_X_release (harmless on zeroed or released ones; the
 * struct must be zeroed, `{0}`, before the call); strings in them are never NULL unless the member says so.
 * Errors: the engine's own text is in err.msg. 404 -ERR_NOT_FOUND; 409 -ERR_EXISTS (name in use) or -ERR_PRECONDITION; 400 -ERR_INVALID;
 * engine not reachable -ERR_UNAVAILABLE, socket not permitted -ERR_DENIED, both with a hint; disk full -ERR_EXHAUSTED.
 * Limits: DOCKER_REPLY_MAX for one object, DOCKER_LIST_MAX for lists; streams hold at most one line or record.
 * Input trust: the engine's framing is checked; texts of images and containers (labels, log lines, messages) are hostile bytes passed through as
 * they are.  Thread: loop, on fibers. */
#ifndef DAVIT_DOCKER_DOCKER_H
#define DAVIT_DOCKER_DOCKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "net/conn.h"

enum {
    DOCKER_UNCHANGED = 1,                /* outcome: was in that state already */
    DOCKER_STOPPED = 2,                  /* outcome: the callback asked to stop (returned DOCKER_STOPPED) */
    DOCKER_REPLY_MAX = 4 * 1024 * 1024,
    DOCKER_LIST_MAX = 16 * 1024 * 1024,
    DOCKER_RECORD_MAX = 256 * 1024,      /* one record of a progress or event stream */
    DOCKER_LINE_MAX = 64 * 1024          /* log lines beyond it come in pieces */
};

struct docker;
struct docker_pool; /* memory of one result */

struct docker_pair {
    const char *name;
    const char *value;
};
struct docker_map {
    struct docker_pair *items;
    size_t n;
};
/* The value of @name, or NULL. */
const char *docker_map_get(const struct docker_map *m, const char *name);

/* --- Client (docker.c) --------------------------------------------------------------------------------------------------------------------- */

/* @addr "unix:/path", "unix:///path" or "tcp://127.0.0.1:2375" (numeric); NULL or "": $DOCKER_HOST, else unix:/var/run/docker.sock. Connects to
 * nothing yet. -ERR_INVALID for other shapes. */
int docker_new(struct loop *loop, const char *addr, struct docker **ret, struct err *err) MUST_USE;
/* No call may be under way. Accepts NULL; returns NULL. */
struct docker *docker_free(struct docker *d);

/* Asks for /_ping and settles the API version: the lower of ours and the engine's. Every call does it first when none is settled or the engine
 * was lost since. -ERR_PRECONDITION for an engine below 1.41. */
int docker_ping(struct docker *d, usec_t deadline, struct err *err) MUST_USE;
/* "1.41" once settled, else "". */
const char *docker_api(const struct docker *d);
/* Where it is: "unix:/path" or "address:port". Borrowed. */
const char *docker_addr(const struct docker *d);
/* This client speaks API 1.MIN to 1.MAX. */
enum { DOCKER_API_OURS_MIN = 41, DOCKER_API_OURS_MAX = 45 };
/* What the engine speaks, "1.24" to "1.41"; settles nothing, so it tells also of engines that docker_ping refuses. */
enum { DOCKER_API_SIZE = 16 };
int docker_api_range(struct docker *d, char ret_min[DOCKER_API_SIZE], char ret_max[DOCKER_API_SIZE], usec_t deadline, struct err *err) MUST_USE;

struct docker_info {
    struct docker_pool *pool;
    const char *id;             /* of the engine's installation */
    const char *version;        /* "20.10.24" */
    const char *api;            /* what we speak with it */
    const char *os;             /* "Debian GNU/Linux 12 (bookworm)" */
    const char *arch;           /* "x86_64", "aarch64" */
    const char *kernel;
    const char *root_dir;
    const char *cgroup_driver;  /* "cgroupfs", "systemd" */
    int cgroup_version;         /* 1, 2 */
    const char *storage_driver;
    const char *logging_driver;
    const char *hostname;
    uint64_t mem_bytes;
    uint32_t ncpu;
    uint32_t containers;
    uint32_t containers_running;
    uint32_t images;
};
int docker_info_get(struct docker *d, struct docker_info *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_info_release(struct docker_info *i);

/* --- Images (docker_image.c, docker_image_list.c, docker_pull.c) ---------------------------------------------------------------------- */

struct docker_auth {
    const char *server;   /* as in the image reference; "" for the default registry */
    const char *username;
    const char *password;
};
struct docker_progress {
    const char *layer;    /* short id, "" for messages about the whole image */
    const char *status;   /* "Downloading", "Pull complete", ... */
    uint64_t current;     /* bytes; 0 with total 0: none stated */
    uint64_t total;
};
/* May wait. Return 0, or negative to give up (the pull returns it). */
typedef int docker_progress_fn(void *arg, const struct docker_progress *p);

/* "repo[:tag][@digest]": latest when neither is there. @auth, @fn may be NULL. @ret_digest (DOCKER_DIGEST_SIZE bytes, may be NULL) gets
 * "sha256:..." of the manifest or "". -ERR_NOT_FOUND no such image or tag (or one that needs credentials, and the engine cannot tell),
 * -ERR_UNAUTHENTICATED credentials wrong or missing, -ERR_DENIED not allowed, -ERR_UNAVAILABLE registry not reachable or overloaded,
 * -ERR_EXHAUSTED disk full or rate limit; each with a hint. */
enum { DOCKER_DIGEST_SIZE = 72 };
int docker_pull(struct docker *d, const char *ref, const struct docker_auth *auth, docker_progress_fn *fn, void *arg, char *ret_digest,
                usec_t deadline, struct err *err) MUST_USE;

struct docker_image {
    struct docker_pool *pool;
    const char *id;             /* "sha256:..." */
    const char **repo_digests;
    size_t n_repo_digests;
    const char **repo_tags;
    size_t n_repo_tags;
    const char **ports;         /* "80/tcp" */
    size_t n_ports;
    const char **volumes;       /* mount points */
    size_t n_volumes;
    const char *user;
    const char **entrypoint;
    size_t n_entrypoint;
    const char **command;
    size_t n_command;
    const char *os;
    const char *arch;
    uint64_t size;
    bool has_healthcheck;
    struct docker_map labels;
};
int docker_image_inspect(struct docker *d, const char *ref, struct docker_image *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_image_release(struct docker_image *i);
/* -ERR_PRECONDITION while a container uses it (unless @force). */
int docker_image_remove(struct docker *d, const char *ref, bool force, usec_t deadline, struct err *err) MUST_USE;
/* An entry of the list of images. */
struct docker_image_summary {
    const char *id;             /* "sha256:..." */
    const char **repo_tags;     /* "<none>:<none>" of engines of before is left out; likewise below */
    size_t n_repo_tags;
    const char **repo_digests;  /* "repository@sha256:..." */
    size_t n_repo_digests;
    uint64_t size;
    int64_t created;            /* seconds since 1970 */
};
struct docker_images {
    struct docker_pool *pool;
    struct docker_image_summary *items;
    size_t n;
};
/* All but those that are only layers of others. */
int docker_image_list(struct docker *d, struct docker_images *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_images_release(struct docker_images *l);
/* What the registry has under @ref now, asked through the engine: "sha256:..." into @ret (DOCKER_DIGEST_SIZE bytes). @auth may be NULL.
 * Errors as of docker_pull. */
int docker_image_remote(struct docker *d, const char *ref, const struct docker_auth *auth, char *ret, usec_t deadline, struct err *err) MUST_USE;
int docker_image_tag(struct docker *d, const char *ref, const char *repo, const char *tag, usec_t deadline, struct err *err) MUST_USE;

/* Supplies a body piece by piece: fills @dst with at most @size bytes; *ret_n 0 ends it. May wait. Negative gives up. */
typedef int docker_source_fn(void *arg, void *dst, size_t size, size_t *ret_n);
/* Takes a body piece by piece. May wait: the engine is not read meanwhile. Negative or DOCKER_STOPPED ends it. */
typedef int docker_sink_fn(void *arg, struct str bytes);

/* A root file system as tar becomes image @repo:@tag. */
int docker_image_import(struct docker *d, const char *repo, const char *tag, docker_source_fn *source, void *arg, usec_t deadline,
                        struct err *err) MUST_USE;
/* An archive made by `docker save`. */
int docker_image_load(struct docker *d, docker_source_fn *source, void *arg, usec_t deadline, struct err *err) MUST_USE;

/* --- Networks and volumes (docker_network.c) ------------------------------------------------------------------------------------------------ */

struct docker_network_spec {
    const char *name;
    bool internal;
    const char *subnet;    /* NULL: the engine chooses */
    const char *gateway;   /* NULL */
    const char *ip_range;  /* NULL */
    const struct docker_pair *labels;
    size_t n_labels;
    const struct docker_pair *options;
    size_t n_options;
};
enum { DOCKER_ID_SIZE = 80 };
/* Bridge network by name, made if absent. 0 made, DOCKER_UNCHANGED was there. @ret_id: DOCKER_ID_SIZE bytes, may be NULL. */
int docker_network_ensure(struct docker *d, const struct docker_network_spec *spec, char *ret_id, usec_t deadline, struct err *err) MUST_USE;
/* DOCKER_UNCHANGED when there is none. -ERR_PRECONDITION while containers are attached. */
int docker_network_remove(struct docker *d, const char *name, usec_t deadline, struct err *err) MUST_USE;
/* @ipv4 NULL: any address. DOCKER_UNCHANGED when it is attached already. */
int docker_network_connect(struct docker *d, const char *network, const char *container, const char *const *aliases, size_t n_aliases,
                           const char *ipv4, usec_t deadline, struct err *err) MUST_USE;
/* DOCKER_UNCHANGED when it was not attached. */
int docker_network_disconnect(struct docker *d, const char *network, const char *container, bool force, usec_t deadline,
                              struct err *err) MUST_USE;

struct docker_network {
    const char *id;
    const char *name;
    const char *driver;
    const char *subnet;    /* first, "" if none */
    const char *gateway;
    bool internal;
    struct docker_map labels;
};
struct docker_networks {
    struct docker_pool *pool;
    struct docker_network *items;
    size_t n;
};
/* @label "name" or "name=value", NULL: all. */
int docker_network_list(struct docker *d, const char *label, struct docker_networks *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_networks_release(struct docker_networks *l);

/* Local volume by name. 0 made or was there. */
int docker_volume_ensure(struct docker *d, const char *name, const struct docker_pair *labels, size_t n_labels, usec_t deadline,
                         struct err *err) MUST_USE;
/* DOCKER_UNCHANGED when there is none; -ERR_PRECONDITION while in use. */
int docker_volume_remove(struct docker *d, const char *name, bool force, usec_t deadline, struct err *err) MUST_USE;
struct docker_volume {
    const char *name;
    const char *driver;
    const char *mountpoint;
    const char *created;   /* RFC 3339 */
    struct docker_map labels;
};
struct docker_volumes {
    struct docker_pool *pool;
    struct docker_volume *items;
    size_t n;
    bool incomplete;       /* the engine warns that it could not tell all */
};
int docker_volume_list(struct docker *d, const char *label, struct docker_volumes *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_volumes_release(struct docker_volumes *l);

/* --- Containers (docker_create.c, docker_container.c, docker_inspect.c) ---------------------------------------------------------------------- */

enum docker_mount_type { DOCKER_MOUNT_VOLUME, DOCKER_MOUNT_BIND, DOCKER_MOUNT_TMPFS };
struct docker_mount {
    enum docker_mount_type type;
    const char *source;      /* volume name or host path; NULL for tmpfs */
    const char *target;
    bool read_only;
    bool no_copy;            /* of a volume: what the image has there does not come into it */
    uint64_t tmpfs_size;     /* 0: the engine's default */
};
struct docker_port {
    uint16_t container_port;
    const char *proto;       /* "tcp", "udp"; NULL: tcp */
    bool publish;            /* false: only exposed */
    const char *host_ip;     /* NULL: all */
    uint16_t host_port;      /* 0: any free one */
};
struct docker_health_spec {
    const char *const *test; /* as the engine: {"CMD-SHELL", "..."}, {"CMD", "a", "b"}, {"NONE"} */
    size_t n_test;           /* 0: the image's own */
    usec_t interval, timeout, start_period; /* 0: the engine's defaults */
    unsigned retries;
};
struct docker_container_spec {
    const char *name;                   /* NULL: the engine chooses */
    const char *image;
    const char *const *command;         /* n 0: the image's */
    size_t n_command;
    const char *const *entrypoint;      /* n 0: the image's */
    size_t n_entrypoint;
    const struct docker_pair *env;
    size_t n_env;
    const struct docker_pair *labels;
    size_t n_labels;
    const char *user;                   /* NULL: the image's; likewise below */
    const char *working_dir;
    const char *hostname;
    const char *stop_signal;
    unsigned stop_timeout_s;            /* 0: the engine's default */
    bool tty;
    bool open_stdin;
    bool init;
    uint64_t nano_cpus;                 /* 0: no limit; likewise below */
    uint64_t memory;
    uint64_t memory_swap;               /* memory + swap together */
    uint64_t shm_size;
    uint64_t pids;
    const struct docker_mount *mounts;
    size_t n_mounts;
    const struct docker_port *ports;
    size_t n_ports;
    const char *network;                /* NULL: the engine's default; "host", "none", "container:ID" or a name */
    const char *const *aliases;         /* in a named network */
    size_t n_aliases;
    const char *ipv4;                   /* fixed address in it, or NULL */
    const char *restart;                /* "no", "always", "unless-stopped", "on-failure"; NULL: no */
    unsigned restart_max;               /* of on-failure; 0: without end */
    const char *const *cap_drop;
    size_t n_cap_drop;
    const char *const *cap_add;
    size_t n_cap_add;
    const char *const *security_opts;   /* besides no-new-privileges */
    size_t n_security_opts;
    bool no_new_privileges;
    bool read_only;
    const char *log_driver;             /* NULL: the engine's */
    const struct docker_pair *log_options;
    size_t n_log_options;
    const char *const *dns;
    size_t n_dns;
    const char *const *extra_hosts;     /* "name:address" */
    size_t n_extra_hosts;
    const struct docker_pair *sysctls;
    size_t n_sysctls;
    const char *cgroup_parent;
    const char *cgroupns;               /* "private", "host" */
    const char *pid_mode;               /* "host", "container:ID" */
    const char *ipc_mode;               /* "host" */
    const char *const *devices;         /* paths, the same in the container, to be read, written and made */
    size_t n_devices;
    bool privileged;
    struct docker_health_spec health;
};
/* @ret_id: DOCKER_ID_SIZE bytes. -ERR_NOT_FOUND image (or network) absent, -ERR_EXISTS the name is in use. */
int docker_container_create(struct docker *d, const struct docker_container_spec *spec, char *ret_id, usec_t deadline, struct err *err) MUST_USE;
/* 0, DOCKER_UNCHANGED (runs already). A port that is taken is -ERR_PRECONDITION with a hint. */
int docker_container_start(struct docker *d, const char *id, usec_t deadline, struct err *err) MUST_USE;
/* Signal, @timeout_s to end, then SIGKILL. 0, DOCKER_UNCHANGED (does not run). */
int docker_container_stop(struct docker *d, const char *id, unsigned timeout_s, usec_t deadline, struct err *err) MUST_USE;
int docker_container_restart(struct docker *d, const char *id, unsigned timeout_s, usec_t deadline, struct err *err) MUST_USE;
/* @signal "KILL", "HUP", "15". -ERR_PRECONDITION when it does not run. */
int docker_container_kill(struct docker *d, const char *id, const char *signal, usec_t deadline, struct err *err) MUST_USE;
/* DOCKER_UNCHANGED when there is none (or its removal is under way). @volumes: anonymous ones too. */
int docker_container_remove(struct docker *d, const char *id, bool force, bool volumes, usec_t deadline, struct err *err) MUST_USE;
int docker_container_rename(struct docker *d, const char *id, const char *new_name, usec_t deadline, struct err *err) MUST_USE;
/* Waits until it is not running. */
int docker_container_wait(struct docker *d, const char *id, int *ret_exit_code, usec_t deadline, struct err *err) MUST_USE;

enum docker_state {
    DOCKER_STATE_UNKNOWN,
    DOCKER_STATE_CREATED,
    DOCKER_STATE_RUNNING,
    DOCKER_STATE_PAUSED,
    DOCKER_STATE_RESTARTING,
    DOCKER_STATE_REMOVING,
    DOCKER_STATE_EXITED,
    DOCKER_STATE_DEAD
};
/* Lower-case word of the engine; never NULL. */
const char *docker_state_name(enum docker_state s);
enum docker_health { DOCKER_HEALTH_NONE, DOCKER_HEALTH_STARTING, DOCKER_HEALTH_HEALTHY, DOCKER_HEALTH_UNHEALTHY };
const char *docker_health_name(enum docker_health h);

struct docker_endpoint {  /* a network of a container */
    const char *network;
    const char *network_id;
    const char *ipv4;     /* "" while it does not run */
    const char *ipv6;
    const char *gateway;
    const char *mac;
};
struct docker_binding {   /* a published or exposed port */
    uint16_t container_port;
    uint16_t host_port;   /* 0: not published */
    const char *proto;
    const char *host_ip;
};
struct docker_container_mount {
    const char *type;     /* "volume", "bind", "tmpfs" */
    const char *name;     /* of a volume, else "" */
    const char *source;
    const char *target;
    bool read_only;
};
struct docker_container {
    struct docker_pool *pool;
    const char *id;
    const char *name;           /* without '/' */
    const char *image;          /* as it was asked for */
    const char *image_id;
    const char *created;        /* RFC 3339 */
    enum docker_state state;
    int exit_code;
    bool oom_killed;
    bool tty;
    int pid;                    /* on the host, 0 when it does not run */
    bool read_only;             /* its root */
    const char *merged_dir;     /* of overlay2: where the root is mounted while something uses it; "" */
    unsigned restart_count;
    const char *error;          /* why it could not start, "" */
    const char *started;        /* RFC 3339, "" */
    const char *finished;
    enum docker_health health;
    unsigned health_failing;    /* failures in a row */
    const char *health_log;     /* output of the last check, "" */
    int health_exit;
    uint64_t nano_cpus;
    uint64_t memory;
    uint64_t pids;
    const char *restart;
    const char *network_mode;
    const char *cgroup_parent;
    const char *log_path;       /* of json-file, "" */
    const char *log_driver;
    struct docker_endpoint *networks;
    size_t n_networks;
    struct docker_binding *ports;
    size_t n_ports;
    struct docker_container_mount *mounts;
    size_t n_mounts;
    const char **tmpfs;         /* where it has file systems in memory that are none of the mounts */
    size_t n_tmpfs;
    const char **env;           /* "NAME=value" */
    size_t n_env;
    const char **command;
    size_t n_command;
    struct docker_map labels;
};
int docker_container_inspect(struct docker *d, const char *id, struct docker_container *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_container_release(struct docker_container *c);

struct docker_summary {   /* an entry of the list */
    const char *id;
    const char *name;
    const char *image;
    const char *image_id;
    const char *status;   /* "Up 3 minutes (healthy)" */
    enum docker_state state;
    enum docker_health health;
    int64_t created;      /* seconds since 1970 */
    const char **volumes; /* names of the volumes that it mounts */
    size_t n_volumes;
    struct docker_binding *ports;
    size_t n_ports;
    struct docker_endpoint *networks;
    size_t n_networks;
    struct docker_map labels;
};
struct docker_summaries {
    struct docker_pool *pool;
    struct docker_summary *items;
    size_t n;
};
/* All states. @labels: each "name" or "name=value", all must fit; n 0: every container. */
int docker_container_list(struct docker *d, const char *const *labels, size_t n_labels, struct docker_summaries *ret, usec_t deadline,
                          struct err *err) MUST_USE;
void docker_summaries_release(struct docker_summaries *l);

/* Counters since the start of the container; what its cgroup layout does not tell is 0. */
struct docker_stats {
    uint64_t cpu_ns;
    uint64_t throttled_ns;
    uint64_t system_cpu_ns;    /* of the whole machine, cgroup v1 only */
    uint32_t online_cpus;
    uint64_t mem_bytes;        /* without page cache that can be dropped, as `docker stats` */
    uint64_t mem_limit;
    uint64_t pids;
    uint64_t net_rx_bytes, net_tx_bytes;
    uint64_t blk_read_bytes, blk_write_bytes;
};
/* -ERR_PRECONDITION when it does not run. */
int docker_container_stats(struct docker *d, const char *id, struct docker_stats *ret, usec_t deadline, struct err *err) MUST_USE;

/* What is at a path inside a container; of a link, the link. */
struct docker_path_stat {
    struct docker_pool *pool;
    const char *name;
    char kind;           /* 'f' file, 'd' folder, 'l' symbolic link, 'o' another */
    uint64_t size;
    uint32_t mode;       /* 07777 */
    const char *modified; /* RFC 3339 */
    const char *target;  /* of a link: the absolute path inside that it leads to, links on the way followed; else "" */
};
/* -ERR_NOT_FOUND: no such container, or nothing there. Works on created and stopped containers too, as the next two do. */
int docker_archive_stat(struct docker *d, const char *id, const char *path, struct docker_path_stat *ret, usec_t deadline, struct err *err) MUST_USE;
void docker_path_stat_release(struct docker_path_stat *s);
/* Tar of @path inside the container, streamed to @sink. Ends with 0 also where the sink said DOCKER_STOPPED. */
int docker_archive_get(struct docker *d, const char *id, const char *path, docker_sink_fn *sink, void *arg, usec_t deadline,
                       struct err *err) MUST_USE;
/* Unpacks a tar below the existing directory @path. A folder gives way to no file. Until it ends the engine keeps the container's files mounted, and
 * answers nothing else about it. */
int docker_archive_put(struct docker *d, const char *id, const char *path, docker_source_fn *source, void *arg, usec_t deadline,
                       struct err *err) MUST_USE;
/* Removes what stands at @name in the directory @folder, a directory with all that is below it: volumes that the container has there are not spared.
 * -ERR_NOT_FOUND: there was nothing; -ERR_PRECONDITION: @err is what kept the engine from it; -ERR_UNAVAILABLE, -ERR_DEADLINE, ...: nobody knows. */
int docker_archive_remove(struct docker *d, const char *id, const char *folder, const char *name, usec_t deadline, struct err *err) MUST_USE;

/* --- Processes in containers (docker_exec.c) -------------------------------------------------------------------------------------------------- */

struct docker_exec_spec {
    const char *const *command;
    size_t n_command;
    const struct docker_pair *env;
    size_t n_env;
    const char *user;         /* NULL: the container's */
    const char *working_dir;  /* NULL */
    bool tty;
    bool stdin_open;
};
/* Starts it. *ret (owned by the caller) carries its input and output: raw with a tty, else frames as docker_demux reads. @ret_id: DOCKER_ID_SIZE. */
int docker_exec_start(struct docker *d, const char *container, const struct docker_exec_spec *spec, char *ret_id, struct conn **ret,
                      usec_t deadline, struct err *err) MUST_USE;
int docker_exec_resize(struct docker *d, const char *exec_id, unsigned rows, unsigned cols, usec_t deadline, struct err *err) MUST_USE;
struct docker_exec_state {
    bool running;
    int exit_code; /* of one that runs no more: 128 + N after a signal; 126, 127 for one that could not be started */
    int pid;       /* as the engine counts; 0 before its start */
};
int docker_exec_state(struct docker *d, const char *exec_id, struct docker_exec_state *ret, usec_t deadline, struct err *err) MUST_USE;
/* The same. *ret_running false: *ret_exit_code is set. */
int docker_exec_inspect(struct docker *d, const char *exec_id, bool *ret_running, int *ret_exit_code, usec_t deadline, struct err *err) MUST_USE;

/* The input and output of a container's own program, as docker_exec_start. @stdin_open: what is written goes to it. @logs: what it said so far comes
 * first. Works on one that is not started yet, too. */
int docker_container_attach(struct docker *d, const char *id, bool stdin_open, bool logs, struct conn **ret, usec_t deadline,
                            struct err *err) MUST_USE;
int docker_container_resize(struct docker *d, const char *id, unsigned rows, unsigned cols, usec_t deadline, struct err *err) MUST_USE;

/* --- Streams (docker_demux.c, docker_logs.c, docker_events.c) ---------------------------------------------------------------------------------- */

/* The engine's multiplexed stream: 8 bytes {stream, 0, 0, 0, u32 big-endian length}, then that many bytes. Incremental; embedded; zeroed to start. */
struct docker_demux {
    uint8_t head[8];
    uint8_t n_head;
    uint32_t left;   /* of the current frame */
};
/* Consumes @bytes from the front and returns the next piece: 1 and *ret_stream (1 stdout, 2 stderr), *ret_piece (borrowed from @bytes),
 * *ret_end when the frame ends with it; 0 when more bytes are needed; -ERR_INVALID for what is no frame. */
int docker_demux_next(struct docker_demux *m, struct str *bytes, int *ret_stream, struct str *ret_piece, bool *ret_end, struct err *err) MUST_USE;

struct docker_log_options {
    bool follow;
    uint64_t since_ns;    /* since 1970; 0: from the start */
    uint64_t until_ns;    /* 0: no end */
    int64_t tail;         /* last lines; < 0: all */
    bool no_stdout;
    bool no_stderr;
};
struct docker_log {
    uint64_t time_ns;     /* since 1970; 0 if the engine's stamp could not be read */
    bool is_stderr;
    bool partial;         /* the line goes on in the next entry of this stream */
    struct str line;      /* without line end; at most DOCKER_LINE_MAX bytes, borrowed for the call */
};
/* May wait: the engine is not read meanwhile, so the container's writes are held up by the log driver's own rules only. Negative gives up,
 * DOCKER_STOPPED ends it. */
typedef int docker_log_fn(void *arg, const struct docker_log *entry);
/* Until the log ends (with follow: the container ended, and its last lines were given even where the engine closes too early). 0 or
 * DOCKER_STOPPED. -ERR_PRECONDITION for a log driver that cannot be read. */
int docker_logs(struct docker *d, const char *id, const struct docker_log_options *options, docker_log_fn *fn, void *arg, usec_t deadline,
                struct err *err) MUST_USE;

struct docker_event {
    uint64_t time_ns;
    const char *type;     /* "container", ... */
    const char *action;   /* "start", "die", "oom", "health_status: healthy", ... */
    const char *id;
    const struct docker_map *attributes; /* name, image, exitCode, labels */
};
typedef int docker_event_fn(void *arg, const struct docker_event *e);
/* Events of containers, without those of exec. @label as for lists, NULL: all; @since_ns 0: from now. Ends with the engine's stream
 * (-ERR_UNAVAILABLE), the callback (negative, DOCKER_STOPPED), the deadline or cancellation. */
int docker_events(struct docker *d, const char *label, uint64_t since_ns, docker_event_fn *fn, void *arg, usec_t deadline, struct err *err) MUST_USE;

#endif
