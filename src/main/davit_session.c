/* SPDX-License-Identifier: Apache-2.0 */
/* davit-session — what a sandbox's server speaks to, see session/session.h. davit-init starts it without arguments: its environment tells it. */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/opt.h"
#include "init/wire.h"
#include "session/session.h"

struct options {
    const char *session_listen, *material, *session_peer, *reg, *agent, *project, *log_level;
    bool version;
};

#define TEXT(field) .type = OPT_STRING, .offset = offsetof(struct options, field), .env = true

static const struct opt table[] = {
    {.name = "session-listen", TEXT(session_listen), .arg = "ADDR:PORT", .def = "0.0.0.0:7700", .help = "where the server's agent connects"},
    {.name = "material", TEXT(material), .arg = "DIR", .def = "/run/davit", .help = "folder of cert.pem, key.pem, ca.pem and assertion.jwt"},
    {.name = "session-peer", TEXT(session_peer), .arg = "URI", .help = "identity (SAN URI) of the one who may connect"},
    {.name = "register", TEXT(reg), .arg = "ADDR:PORT", .help = "where the sandbox registers when it is told to"},
    {.name = "agent", TEXT(agent), .arg = "NAME", .help = "name of the sandbox"},
    {.name = "project", TEXT(project), .arg = "NAME", .help = "its project"},
    /* What goes well is not for the terminal of who runs the sandbox. */
    {.name = "log-level", .type = OPT_ENUM, .offset = offsetof(struct options, log_level), .choices = "error|warn|notice|info|debug", .arg = "LEVEL",
     .def = "notice", .help = "the least important lines that are logged", .env = true},
    {.name = "version", .type = OPT_BOOL, .offset = offsetof(struct options, version), .help = "print the version and exit"},
    {0},
};

/* Its environment and its memory are not for the main program, which may be root, too. The sanitizers need to look at themselves. */
static int hide(struct err *err)
{
#ifdef __SANITIZE_ADDRESS__
    enum { DUMPABLE = 1 };
#else
    enum { DUMPABLE = 0 };
#endif
    return prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0 ? err_sys(err, errno, "cannot be kept from being looked at") : 0;
}

static int run(const struct options *o, struct err *err)
{
    const struct session_options s = {o->session_listen, o->material, o->session_peer, o->reg, o->agent, o->project};

    if (!o->session_peer || !*o->session_peer)
        return err_set(err, ERR_INVALID, "DAVIT_SESSION_PEER is not set: nobody may connect");
    int rc = hide(err);
    return rc < 0 ? rc : session_run(&s, err);
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = ERR_INIT;
    const char *operands[1];
    size_t n_operands = 0;

    (void)umask(077);
    int rc = opt_parse(table, argc, argv, &o, operands, &n_operands, &err);
    if (rc == 1) {
        opt_help(stdout, "davit-session", "The half of a sandbox's supervisor that its server speaks to. davit-init starts it.", table,
                 "davit-session");
        return 0;
    }
    if (rc == 0 && o.version) {
        (void)printf("davit-session %s\n", DAVIT_VERSION);
        return 0;
    }
    enum log_level level = LOG_NOTICE;
    if (rc == 0)
        rc = log_level_from_name(o.log_level, &level);
    log_setup("davit-session", level, LOG_FORMAT_TEXT);
    if (rc == 0)
        rc = run(&o, &err);
    if (rc == 0)
        return 0;
    log_err(LOG_ERROR, &err, "cannot run", NULL);
    return rc == -(int)ERR_INVALID || rc == -(int)ERR_PRECONDITION ? WIRE_EXIT_CONFIG : 1;
}
