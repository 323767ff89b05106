/* SPDX-License-Identifier: Apache-2.0 */
/* h2_guard — what a peer may do now and then but not all the time, and what it may not put off for ever; see h2_internal.h.
 * nghttp2 1.52 answers most floods politely and without end.  Frames are counted by their headers before nghttp2 sees them, so that
 * the ones that it drops in silence count too.  Sources: RFC 9113 section 10.5; gRPC proposal A8 for pings. */
#include <string.h>

#include "net/h2_internal.h"

enum {
    SLIPS_MAX = 1000, /* tokens of what is not quite right: each costs 1 to 10 of them */
    SLIPS_PER_SEC = 100,
    COST_RESET = 5, /* 200 at once, 20 a second */
    COST_SETTINGS = 10,
    STARTS_MAX = 10000, /* requests */
    STARTS_PER_SEC = 10000,
    PING_STRIKES = 2,
    UPDATES_PER_FRAME = 2, /* WINDOW_UPDATEs that a HEADERS or DATA frame of ours explains: stream and connection */
    UPDATES_MAX = 4096,
    BLOCK_MAX = 64 * 1024, /* a head as it is packed, CONTINUATIONs included */
    FRAME_HEADER = 9,
    PREFACE = 24,
    FIRST_UNKNOWN = NGHTTP2_CONTINUATION + 1
};

#define PING_MIN        (9 * USEC_SEC) /* a little under what H2_KEEPALIVE_MIN lets our own clients do */
#define PREFACE_TIMEOUT (10 * USEC_SEC)
#define ACK_TIMEOUT     (20 * USEC_SEC)
#define BLOCK_TIMEOUT   (10 * USEC_SEC)

/* ---- buckets ---- */

static bool take(struct h2_bucket *b, uint64_t max, uint64_t per_sec, uint64_t cost, usec_t now)
{
    uint64_t gained = (now - b->at) / (USEC_SEC / per_sec);
    if (gained) {
        b->tokens = b->tokens + gained > max ? max : b->tokens + gained;
        b->at = now;
    }
    if (b->tokens < cost)
        return false;
    b->tokens -= cost;
    return true;
}

static void charge(struct h2_guard *g, uint64_t cost, usec_t now, const char *what)
{
    if (!take(&g->slips, SLIPS_MAX, SLIPS_PER_SEC, cost, now) && !g->flood)
        g->flood = what;
}

void h2_guard_charge(struct h2_guard *g, unsigned cost, const char *what)
{
    charge(g, cost, clock_mono(), what);
}

bool h2_guard_start(struct h2_guard *g)
{
    return take(&g->starts, STARTS_MAX, STARTS_PER_SEC, 1, clock_mono());
}

/* ---- frames on their way in ---- */

/* A8: two pings too early are forgiven until something is sent that could have been their reason. */
static void got_ping(struct h2_guard *g, usec_t now)
{
    charge(g, 1, now, "too_many_pings");
    if (!g->server)
        return;
    if (!g->pinged_at || now >= g->pinged_at + PING_MIN)
        g->pinged_at = now;
    else if (++g->strikes > PING_STRIKES && !g->flood)
        g->flood = "too_many_pings";
}

static void block_grows(struct h2_guard *g, uint32_t size)
{
    g->block_size += size;
    if (g->block_size > BLOCK_MAX && !g->flood)
        g->flood = "header block too large";
}

static void frame_begins(struct h2_guard *g, usec_t now)
{
    uint32_t size = (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
    g->type = g->head[3];
    g->flags = g->head[4];
    g->skip = size;
    bool ack = g->flags & NGHTTP2_FLAG_ACK;
    switch (g->type) {
    case NGHTTP2_DATA:
        if (size == 0 && !(g->flags & NGHTTP2_FLAG_END_STREAM))
            charge(g, 1, now, "too many empty frames");
        break;
    case NGHTTP2_HEADERS:
        g->block_by = now + BLOCK_TIMEOUT;
        g->block_size = 0;
        block_grows(g, size);
        break;
    case NGHTTP2_CONTINUATION: block_grows(g, size); break;
    case NGHTTP2_RST_STREAM: charge(g, COST_RESET, now, "too many resets"); break;
    case NGHTTP2_SETTINGS:
        if (!ack)
            charge(g, COST_SETTINGS, now, "too many settings");
        break;
    case NGHTTP2_PING:
        if (!ack)
            got_ping(g, now);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (g->updates)
            g->updates--;
        else
            charge(g, 1, now, "too many window updates");
        break;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PUSH_PROMISE:
    case NGHTTP2_GOAWAY: charge(g, 1, now, "too many frames for nothing"); break;
    default:
        if (g->type >= FIRST_UNKNOWN)
            charge(g, 1, now, "too many frames for nothing");
    }
}

static void frame_ends(struct h2_guard *g)
{
    if ((g->type == NGHTTP2_HEADERS || g->type == NGHTTP2_CONTINUATION) && (g->flags & NGHTTP2_FLAG_END_HEADERS))
        g->block_by = USEC_INFINITY;
}

void h2_guard_scan(struct h2_guard *g, struct str bytes, usec_t now)
{
    while (bytes.n && !g->flood) {
        if (g->skip) {
            size_t n = bytes.n < g->skip ? bytes.n : g->skip;
            g->skip -= (uint32_t)n;
            bytes = (struct str){bytes.p + n, bytes.n - n};
        } else {
            g->head[g->n_head++] = (uint8_t)*bytes.p;
            bytes = (struct str){bytes.p + 1, bytes.n - 1};
            if (g->n_head < FRAME_HEADER)
                continue;
            g->n_head = 0;
            frame_begins(g, now);
        }
        if (g->skip == 0)
            frame_ends(g);
    }
}

void h2_guard_sent(struct h2_guard *g, uint8_t type)
{
    if (type != NGHTTP2_DATA && type != NGHTTP2_HEADERS)
        return;
    g->strikes = 0;
    g->pinged_at = 0;
    if (g->updates < UPDATES_MAX)
        g->updates += UPDATES_PER_FRAME;
}

/* ---- what must not be put off ---- */

void h2_guard_init(struct h2_guard *g, bool server, usec_t now)
{
    *g = (struct h2_guard){.server = server,
                           .slips = {SLIPS_MAX, now},
                           .starts = {STARTS_MAX, now},
                           .type = FIRST_UNKNOWN,
                           .skip = server ? PREFACE : 0,
                           .updates = 2 * UPDATES_PER_FRAME, /* windows that are widened at the start */
                           .preface_by = now + PREFACE_TIMEOUT,
                           .ack_by = now + ACK_TIMEOUT,
                           .block_by = USEC_INFINITY};
}

const char *h2_guard_late(const struct h2_guard *g, usec_t now)
{
    if (now >= g->preface_by)
        return "no HTTP/2 settings came";
    if (now >= g->ack_by)
        return "HTTP/2 settings were not acknowledged";
    return now >= g->block_by ? "a head was not completed" : NULL;
}

usec_t h2_guard_due(const struct h2_guard *g)
{
    usec_t due = g->preface_by < g->ack_by ? g->preface_by : g->ack_by;
    return due < g->block_by ? due : g->block_by;
}
