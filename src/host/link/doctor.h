/* SPDX-License-Identifier: Apache-2.0 */
/* doctor — what is wrong with this machine, told as a list of checks, each with what to do about it.
 * Needs nothing to run: no Docker, no systemd, no network, no enrolment, no privileges, no agent. It changes nothing, and a link that is up
 * does not notice it.
 * Time: each check has DOCTOR_CHECK_WAIT and all together DOCTOR_WAIT, whatever hangs; what could not be asked in time is said to be so.
 * Left out: IPv6 subnets, and routes outside of the main table.
 * Thread: loop, on a fiber.  Input trust: engine, systemctl, tailscale and control plane are hostile text; what is shown of them is clean. */
#ifndef DAVIT_HOST_LINK_DOCTOR_H
#define DAVIT_HOST_LINK_DOCTOR_H

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

enum { DOCTOR_TEXT_MAX = 400, DOCTOR_FIX_MAX = 300, DOCTOR_CHECKS_MAX = 24 };
#define DOCTOR_CHECK_WAIT (5 * USEC_SEC)
#define DOCTOR_WAIT (18 * USEC_SEC)

enum doctor_result { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor_check {
    const char *name; /* static */
    enum doctor_result result;
    char message[DOCTOR_TEXT_MAX]; /* one line; no control characters */
    char fix[DOCTOR_FIX_MAX];      /* the same; "" only where the result is DOCTOR_OK */
};

struct doctor_report {
    struct doctor_check checks[DOCTOR_CHECKS_MAX];
    size_t n;
    bool stuck; /* a thread of ours hangs in the kernel: print, then _exit; the loop cannot be freed any more */
};

struct doctor_options {
    const char *config_dir; /* these four as in agent.h */
    const char *link;
    const char *docker;
    const char *tailscale;
};

struct loop;
/* Waits: makes all checks, in a fixed order. 0 with @ret filled; -ERR_INVALID for options that no agent could start with, -ERR_CANCELLED. */
int doctor_run(struct loop *loop, const struct doctor_options *o, struct doctor_report *ret, struct err *err) MUST_USE;

/* "OK", "WARN", "FAIL". */
const char *doctor_result_name(enum doctor_result r);
/* Is no check a FAIL? In every output mode the exit status is 0 then and 1 otherwise. */
bool doctor_ok(const struct doctor_report *r);
/* For people. */
void doctor_print(FILE *out, const struct doctor_report *r, bool colour);
/* Appends {"version", "ok", "checks": [{"name", "result", "message", "fix"}]} and a newline. */
int doctor_json(const struct doctor_report *r, struct buf *out, struct err *err) MUST_USE;

#endif
