/* SPDX-License-Identifier: Apache-2.0 */
/* h2_life — what ends or tidies an HTTP/2 connection by time: keep-alive, silence where something is due, a peer that takes nothing, age,
 * draining; and the memory of idle ones.  One timer for all of it. */
#include <string.h>

#include "net/h2_internal.h"

#define PING_TIMEOUT    (20 * USEC_SEC)
#define BLOCKED_TIMEOUT (60 * USEC_SEC)
#define TRIM_AFTER      USEC_SEC
#define LINGER          (30 * USEC_SEC) /* a server's, for the peer to take what the kernel has and to close */
#define LEFT_LOOK       (100 * USEC_MSEC)

const uint8_t h2_drain_ping[8] = {'d', 'r', 'a', 'i', 'n', 0, 0, 0};

static usec_t earlier(usec_t a, usec_t b)
{
    return a < b ? a : b;
}

void h2_life_wake(struct h2 *h, usec_t due)
{
    if (!h->dead && (!timer_armed(&h->timer) || h->timer.due > due))
        timer_set_at(&h->timer, due);
}

/* ---- its parts: each says when it has to be asked again ---- */

static usec_t check_ping(struct h2 *h, usec_t now)
{
    if (h->ending)
        return USEC_INFINITY;
    if (h->ping_at && h->last_rx >= h->ping_at)
        h->ping_at = 0;
    if (h->ping_at && now >= h->ping_at + PING_TIMEOUT) {
        h2_fail(h, ERR_UNAVAILABLE, "the peer does not answer");
        return USEC_INFINITY;
    }
    if (h->keepalive && !h->ping_at && now >= h->last_rx + h->keepalive) {
        (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
        h->ping_at = now;
        h2_post_work(h);
    }
    if (h->ping_at)
        return h->ping_at + PING_TIMEOUT;
    return h->keepalive ? h->last_rx + h->keepalive : USEC_INFINITY;
}

/* Bytes that are queued in the connection and do not move. */
static usec_t check_blocked(struct h2 *h, usec_t now)
{
    if (!h->blocked_at)
        return USEC_INFINITY;
    size_t n = conn_queued(h->conn);
    if (n < h->blocked_n) {
        h->blocked_n = n;
        h->blocked_at = now;
    }
    if (now >= h->blocked_at + BLOCKED_TIMEOUT) {
        h2_fail(h, ERR_UNAVAILABLE, "the peer takes nothing");
        return USEC_INFINITY;
    }
    return h->blocked_at + BLOCKED_TIMEOUT;
}

/* Answers that are complete but lie here because the peer gives their streams no window. */
static usec_t check_stalled(struct h2 *h, usec_t now)
{
    usec_t due = USEC_INFINITY;
    struct h2_stream *st;
    list_each(st, &h->streams, struct h2_stream, node) {
        if (!h->server || st->closed || !st->finishing || h2_queued(st) == 0)
            continue;
        if (now < st->moved_at + H2_STALL_MAX) {
            due = earlier(due, st->moved_at + H2_STALL_MAX);
            continue;
        }
        h2_stream_drop(st);
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
        h2_post_work(h);
    }
    return due;
}

static void last_goaway(struct h2 *h)
{
    if (h->last_goaway)
        return;
    h->last_goaway = true;
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session),
                                NGHTTP2_NO_ERROR, (const uint8_t *)h->drain_text, strlen(h->drain_text));
    h2_post_work(h);
}

static void drain(struct h2 *h, const char *text)
{
    if (h->dead || h->draining)
        return;
    h->draining = true;
    h->drain_text = text;
    h->drain_by = clock_mono() + H2_DRAIN_MAX;
    (void)nghttp2_submit_shutdown_notice(h->session);
    (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, h2_drain_ping);
    h2_post_work(h);
    h2_life_wake(h, clock_mono() + PING_TIMEOUT);
}

static usec_t check_age(struct h2 *h, usec_t now)
{
    if (now >= h->max_age_at)
        drain(h, "max_age");
    if (!h->draining)
        return h->max_age_at;
    if (now >= h->drain_by) {
        h2_fail(h, ERR_UNAVAILABLE, "streams are still open at the end of draining");
        return USEC_INFINITY;
    }
    usec_t unanswered = h->drain_by - H2_DRAIN_MAX + PING_TIMEOUT;
    if (now >= unanswered)
        last_goaway(h);
    return now < unanswered ? unanswered : h->drain_by;
}

static usec_t check_end(struct h2 *h, usec_t now)
{
    if (!h->ending)
        return USEC_INFINITY;
    size_t n = conn_queued(h->conn);
    if (n < h->left_n) {
        h->left_n = n;
        h->left_at = now;
    }
    if (now >= h->left_at + (n ? BLOCKED_TIMEOUT : h->server && !h->peer_closed ? LINGER : 0)) {
        h2_fail(h, ERR_UNAVAILABLE, "the HTTP/2 session has ended");
        return USEC_INFINITY;
    }
    return n ? now + LEFT_LOOK : h->left_at + LINGER;
}

static usec_t check_idle(struct h2 *h, usec_t now)
{
    if (now < h->trim_at)
        return h->trim_at;
    if (nghttp2_session_want_write(h->session))
        return h->trim_at = now + TRIM_AFTER;
    h2_mem_trim(&h->mem);
    h->trim_at = USEC_INFINITY;
    return USEC_INFINITY;
}

static void on_timer(void *arg)
{
    static usec_t (*const checks[])(struct h2 *h, usec_t now) = {check_ping, check_blocked, check_stalled,
                                                                  check_age,  check_end,     check_idle};
    struct h2 *h = arg;
    usec_t now = clock_mono();
    const char *late = h2_guard_late(&h->guard, now);
    if (late) {
        h2_fail_telling(h, now >= h->guard.ack_by ? H2_SETTINGS_TIMEOUT : H2_PROTOCOL_ERROR, ERR_DEADLINE, late);
        return;
    }
    usec_t due = h2_guard_due(&h->guard);
    for (size_t i = 0; i < ARRAY_LEN(checks) && !h->dead; i++)
        due = earlier(due, checks[i](h, now));
    if (!h->dead)
        timer_set_at(&h->timer, due);
}

/* ---- for the rest of h2 ---- */

void h2_life_init(struct h2 *h)
{
    timer_init(&h->timer, h->loop, on_timer, h);
    h->max_age_at = h->trim_at = USEC_INFINITY;
    timer_set_at(&h->timer, h2_guard_due(&h->guard));
}

void h2_life_end(struct h2 *h)
{
    h->ending = true;
    h->left_n = conn_queued(h->conn);
    h->left_at = clock_mono();
    conn_shutdown(h->conn);
    h2_life_wake(h, check_end(h, h->left_at));
}

void h2_life_drain_ack(struct h2 *h)
{
    if (h->draining)
        last_goaway(h);
}

void h2_life_sent(struct h2 *h)
{
    usec_t now = clock_mono();
    if (conn_writable(h->conn)) {
        h->blocked_at = 0;
    } else if (!h->blocked_at) {
        h->blocked_at = now;
        h->blocked_n = conn_queued(h->conn);
        h2_life_wake(h, now + BLOCKED_TIMEOUT);
    }
    h->trim_at = now + TRIM_AFTER;
    h2_life_wake(h, h->trim_at);
}

void h2_keepalive(struct h2 *h, usec_t interval)
{
    if (interval && !h->server && interval < H2_KEEPALIVE_MIN)
        interval = H2_KEEPALIVE_MIN;
    h->keepalive = interval;
    if (!h->dead)
        timer_set(&h->timer, 0);
}

usec_t h2_keepalive_next(const struct h2 *h)
{
    return h->calm ? 2 * h->keepalive : h->keepalive;
}

void h2_max_age(struct h2 *h, usec_t age)
{
    h->max_age_at = clock_mono() + age - age / 10 + rng_below(age / 5 + 1);
    h2_life_wake(h, h->max_age_at);
}

void h2_drain(struct h2 *h)
{
    drain(h, "shutdown");
}
