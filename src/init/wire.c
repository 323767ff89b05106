/* SPDX-License-Identifier: Apache-2.0 */
/* wire — see wire.h. One table gives each type its direction, size and check. */
#include "init/wire.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"

enum { FIRST_REAL_TIME = 34, LAST_SIGNAL = 64 };

/* Both halves are compiled apart, by different C libraries. */
_Static_assert(sizeof(struct wire_head) == 8, "layout");
_Static_assert(sizeof(struct wire_ready) == 16 + WIRE_TEXT_MAX, "layout");
_Static_assert(sizeof(struct wire_signal) == 16 && sizeof(struct wire_stop) == 16 && sizeof(struct wire_started) == 16, "layout");
_Static_assert(sizeof(struct wire_stopping) == 16 && sizeof(struct wire_refused) == 16 && sizeof(struct wire_exited) == 24,
               "layout");
_Static_assert(sizeof(struct wire_zombies) == 24 + WIRE_NAME_SIZE, "layout");
_Static_assert(sizeof(struct wire_hello) == 52 + 4 * WIRE_GROUPS_MAX + WIRE_USER_SIZE + WIRE_HOME_SIZE, "layout");

int wire_signal_ok(int signo)
{
    switch (signo) {
    case SIGHUP:
    case SIGINT:
    case SIGQUIT:
    case SIGKILL:
    case SIGTERM:
    case SIGUSR1:
    case SIGUSR2:
    case SIGPIPE:
    case SIGALRM:
    case SIGSTOP:
    case SIGTSTP:
    case SIGCONT:
    case SIGWINCH: return 1;
    default: return signo >= FIRST_REAL_TIME && signo <= LAST_SIGNAL;
    }
}

static bool all_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

/* Ends within its room, with nothing behind the end, and a terminal can show it. */
static bool good_text(const char *p, size_t room)
{
    size_t n = strnlen(p, room);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
            return false;
    return n < room && all_zero(p + n, room - n);
}

static bool good_plain(const union wire_frame *f)
{
    (void)f;
    return true;
}

static bool good_ready(const union wire_frame *f)
{
    const struct wire_ready *r = &f->ready;
    uint32_t words = 0;

    if (r->words > WIRE_WORDS_MAX || r->bytes > WIRE_TEXT_MAX)
        return false;
    for (uint32_t i = 0; i < r->bytes; i++)
        words += r->text[i] == '\0';
    if (words != r->words || (r->bytes > 0 && (r->text[0] == '\0' || r->text[r->bytes - 1] != '\0')))
        return false;
    return all_zero(r->text + r->bytes, WIRE_TEXT_MAX - r->bytes);
}

static bool good_signal(const union wire_frame *f)
{
    return wire_signal_ok(f->signal.signo) && f->signal.zero == 0;
}

static bool good_stop(const union wire_frame *f)
{
    return f->stop.code <= 255 && f->stop.zero == 0;
}

static bool good_end(const struct wire_end *e)
{
    return e->status >= 0 && e->status <= 0xffff && e->exec_errno >= 0 && e->exec_errno < 4096 && e->oom_known <= 1 &&
           (e->oom_known == 1 || e->oom_kills == 0);
}

static bool good_hello(const union wire_frame *f)
{
    const struct wire_hello *h = &f->hello;

    if (h->state >= WIRE_STATE_MAX || h->main_pid < 0 || h->initialized > 1 || h->groups_n > WIRE_GROUPS_MAX)
        return false;
    if ((h->main_pid > 0) != (h->state == WIRE_RUNNING || h->state == WIRE_TERMINATING))
        return false;
    return h->uid != UINT32_MAX && h->gid != UINT32_MAX && good_end(&h->end) && good_text(h->user, sizeof(h->user)) &&
           good_text(h->home, sizeof(h->home)) && h->home[0] == '/';
}

static bool good_started(const union wire_frame *f)
{
    return f->started.pid > 0 && f->started.zero == 0;
}

static bool good_exited(const union wire_frame *f)
{
    return good_end(&f->exited.end);
}

static bool good_stopping(const union wire_frame *f)
{
    return f->stopping.within_ms <= 60000 && f->stopping.zero == 0;
}

static bool good_refused(const union wire_frame *f)
{
    return f->refused.type >= WIRE_READY && f->refused.type <= WIRE_QUERY && f->refused.reason > 0 &&
           f->refused.reason < WIRE_REASON_MAX;
}

static bool good_zombies(const union wire_frame *f)
{
    const struct wire_zombies *z = &f->zombies;

    return z->parent >= 0 && z->of_parent <= z->count && z->zero == 0 && good_text(z->name, sizeof(z->name));
}

static const struct {
    uint16_t size;
    uint8_t way;
    bool (*good)(const union wire_frame *f);
} kinds[] = {
    [WIRE_READY] = {sizeof(struct wire_ready), WIRE_TO_INIT, good_ready},
    [WIRE_INITIALIZED] = {sizeof(struct wire_plain), WIRE_TO_INIT, good_plain},
    [WIRE_SIGNAL] = {sizeof(struct wire_signal), WIRE_TO_INIT, good_signal},
    [WIRE_STOP] = {sizeof(struct wire_stop), WIRE_TO_INIT, good_stop},
    [WIRE_QUERY] = {sizeof(struct wire_plain), WIRE_TO_INIT, good_plain},
    [WIRE_HELLO] = {sizeof(struct wire_hello), WIRE_TO_SESSION, good_hello},
    [WIRE_STARTED] = {sizeof(struct wire_started), WIRE_TO_SESSION, good_started},
    [WIRE_EXITED] = {sizeof(struct wire_exited), WIRE_TO_SESSION, good_exited},
    [WIRE_STOPPING] = {sizeof(struct wire_stopping), WIRE_TO_SESSION, good_stopping},
    [WIRE_REFUSED] = {sizeof(struct wire_refused), WIRE_TO_SESSION, good_refused},
    [WIRE_ZOMBIES] = {sizeof(struct wire_zombies), WIRE_TO_SESSION, good_zombies},
};

size_t wire_size(unsigned int type)
{
    return type < ARRAY_LEN(kinds) ? kinds[type].size : 0;
}

void wire_begin(union wire_frame *f, enum wire_type type)
{
    memset(f, 0, sizeof(*f));
    f->head.version = WIRE_VERSION;
    f->head.type = (uint8_t)type;
    f->head.size = (uint16_t)wire_size(type);
}

int wire_parse(enum wire_way way, const void *bytes, size_t n, union wire_frame *ret)
{
    struct wire_head head;

    if (n < sizeof(head) || n > sizeof(*ret))
        return -(int)ERR_INVALID;
    memcpy(&head, bytes, sizeof(head));
    if (head.version != WIRE_VERSION || head.zero != 0 || head.size != n || wire_size(head.type) != n ||
        kinds[head.type].way != way)
        return -(int)ERR_INVALID;
    memset(ret, 0, sizeof(*ret));
    memcpy(ret, bytes, n);
    return kinds[head.type].good(ret) ? 0 : -(int)ERR_INVALID;
}

int wire_send(int fd, const union wire_frame *f)
{
    ssize_t n;

    do
        n = send(fd, f, f->head.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    /* Without memory for a packet it is as if the peer did not read. */
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 1 : -(int)ERR_UNAVAILABLE;
}

int wire_recv(int fd, enum wire_way way, union wire_frame *ret)
{
    union wire_frame raw;
    struct iovec part = {.iov_base = &raw, .iov_len = sizeof(raw)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    /* Without room for control data the kernel drops descriptors that were sent, and says so. */
    do
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS ? 1 : 2;
    if (n == 0)
        return 2;
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return -(int)ERR_INVALID;
    return wire_parse(way, &raw, (size_t)n, ret);
}
