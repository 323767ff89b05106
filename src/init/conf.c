/* SPDX-License-Identifier: Apache-2.0 */
/* conf — see conf.h. */
#include "init/conf.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "init/say.h"

enum { GRACE_DEFAULT = 10 };

static char *environment[CONF_ENV_MAX + 4];
static char *arguments[CONF_ARGS_MAX + WIRE_WORDS_MAX + 1];

/* The value of variable @name; NULL if it is absent or empty. */
static const char *value_of(char **envp, const char *name)
{
    size_t n = strlen(name);

    for (; *envp != NULL; envp++)
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=' && (*envp)[n + 1] != '\0')
            return *envp + n + 1;
    return NULL;
}

/* @dst = @a @b @c; false if that does not fit. */
static bool join(char *dst, size_t room, const char *a, const char *b, const char *c)
{
    const char *parts[] = {a, b, c};
    size_t at = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t n = strlen(parts[i]);
        if (n >= room - at)
            return false;
        memcpy(dst + at, parts[i], n);
        at += n;
    }
    dst[at] = '\0';
    return true;
}

static int wrong(const char *what, const char *value, const char *why)
{
    say(what, " \"", value, "\": ", why);
    return -(int)ERR_INVALID;
}

static int read_user(struct conf *c)
{
    const char *name = "DAVIT_USER", *why = "";
    const char *spec = value_of(c->envp, name);

    if (spec == NULL)
        spec = value_of(c->envp, name = "CLAWKER_USER");
    c->asked_user = spec != NULL;
    if (spec == NULL)
        spec = value_of(c->envp, name = "DAVIT_IMAGE_USER");
    if (spec == NULL)
        spec = "0";
    return account_lookup(str_from(spec), &c->who, &why) < 0 ? wrong(name, spec, why) : 0;
}

static int read_grace(struct conf *c)
{
    const char *text = value_of(c->envp, "DAVIT_STOP_GRACE");
    uint64_t seconds = GRACE_DEFAULT;

    if (text != NULL && str_to_u64(str_from(text), CONF_GRACE_MAX, &seconds) < 0)
        return wrong("DAVIT_STOP_GRACE", text, "it is not a number of seconds from 0 to 3600");
    c->grace_ms = (uint32_t)seconds * 1000;
    return 0;
}

static int read_state_dir(struct conf *c)
{
    const char *dir = value_of(c->envp, "DAVIT_STATE_DIR");

    if (dir == NULL)
        dir = "/var/lib/davit";
    if (dir[0] != '/' || !join(c->marker, sizeof(c->marker), dir, "/initialized", ""))
        return wrong("DAVIT_STATE_DIR", dir, "it is not an absolute path of at most 1000 bytes");
    return 0;
}

/* The link of /proc tells it whatever name this was started by; without /proc the kernel's own note does, when it is absolute. */
static int read_folder(struct conf *c)
{
    ssize_t n = readlink("/proc/self/exe", c->folder, sizeof(c->folder) - 1);

    if (n <= 0) {
        const char *given = (const char *)(uintptr_t)getauxval(AT_EXECFN);
        if (given == NULL || !join(c->folder, sizeof(c->folder), given, "", ""))
            given = "";
        n = (ssize_t)strlen(given);
    }
    c->folder[n] = '\0';
    char *slash = strrchr(c->folder, '/');
    if (slash == NULL || c->folder[0] != '/' || (size_t)n >= sizeof(c->folder) - 1)
        return wrong("program", c->folder, "cannot tell the folder that it lies in");
    *slash = '\0';
    if (!join(c->session, sizeof(c->session), c->folder, "/davit-session", ""))
        return wrong("folder", c->folder, "the name is too long");
    if (access(c->session, X_OK) < 0)
        return wrong("program", c->session, "it is missing or cannot be executed; it belongs beside davit-init");
    return 0;
}

int conf_read(int argc, char **argv, char **envp, struct conf *ret)
{
    size_t n = 0;
    int rc;

    while (envp[n] != NULL)
        n++;
    *ret = (struct conf){.argc = argc > 0 ? argc - 1 : 0, .argv = argc > 0 ? argv + 1 : argv, .envp = envp};
    if (n > CONF_ENV_MAX || ret->argc > CONF_ARGS_MAX)
        return wrong("program", argc > 1 ? argv[1] : "",
                     "more than 2048 variables in its environment, or more than 4096 arguments");
    ret->path = value_of(envp, "PATH");
    if (ret->path == NULL)
        ret->path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if ((rc = read_user(ret)) < 0 || (rc = read_grace(ret)) < 0 || (rc = read_state_dir(ret)) < 0)
        return rc;
    return read_folder(ret);
}

/* Is @entry ("NAME=value") the variable @name? */
static bool names(const char *entry, const char *name)
{
    size_t n = strlen(name);

    return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

/* What the program may know of its sandbox: names, nothing that opens or locates. */
static bool kept(const char *entry)
{
    static const char *const shown[] = {"DAVIT_USER",   "DAVIT_SANDBOX", "DAVIT_PROJECT",
                                        "CLAWKER_USER", "CLAWKER_AGENT", "CLAWKER_PROJECT"};

    if (strncmp(entry, "DAVIT_", 6) != 0 && strncmp(entry, "CLAWKER_", 8) != 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        if (names(entry, shown[i]))
            return true;
    return false;
}

/* Does HOME stay as it is? The engine sets root's where the image sets none, since PID 1 is root. */
static bool keeps_home(const struct conf *c)
{
    const char *home = value_of(c->envp, "HOME");

    return home != NULL && strcmp(home, "/root") != 0 && !(c->asked_user && c->who.name[0] != '\0');
}

char **conf_environment(const struct conf *c)
{
    static char home[sizeof("HOME=") + WIRE_HOME_SIZE], user[sizeof("USER=") + WIRE_USER_SIZE],
        logname[sizeof("LOGNAME=") + WIRE_USER_SIZE];
    bool set_home = !keeps_home(c), named = c->who.name[0] != '\0';
    size_t n = 0;

    for (char **e = c->envp; *e != NULL && n < CONF_ENV_MAX; e++) {
        if (!kept(*e) || (set_home && names(*e, "HOME")) || (named && (names(*e, "USER") || names(*e, "LOGNAME"))))
            continue;
        environment[n++] = *e;
    }
    if (set_home && join(home, sizeof(home), "HOME=", c->who.home, ""))
        environment[n++] = home;
    if (named && join(user, sizeof(user), "USER=", c->who.name, "") &&
        join(logname, sizeof(logname), "LOGNAME=", c->who.name, "")) {
        environment[n++] = user;
        environment[n++] = logname;
    }
    environment[n] = NULL;
    return environment;
}

int conf_find_program(const char *name, const char *path, char ret[CONF_PATH_MAX])
{
    char at[CONF_PATH_MAX];
    struct str rest = str_from(path);
    struct stat st;

    if (strchr(name, '/') != NULL && join(ret, CONF_PATH_MAX, name, "", ""))
        return access(ret, X_OK) == 0 ? 0 : -(int)ERR_NOT_FOUND;
    ret[0] = '\0';
    while (rest.n > 0 && name[0] != '\0') {
        struct str dir = str_cut(&rest, ':');
        /* An empty entry would be the working directory, where the work of others lies: it is left out. */
        if (dir.n == 0 || str_copy(at, sizeof(at), dir) != 0 || !join(at + dir.n, sizeof(at) - dir.n, "/", name, ""))
            continue;
        if (stat(at, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        bool good = access(at, X_OK) == 0;
        if (good || ret[0] == '\0')
            (void)join(ret, CONF_PATH_MAX, at, "", "");
        if (good)
            return 0;
    }
    return -(int)ERR_NOT_FOUND;
}

char **conf_arguments(const struct conf *c, struct wire_ready *ready)
{
    char found[CONF_PATH_MAX];
    const char *first = c->argc > 0 ? c->argv[0] : "-";
    char *word = ready->text;
    size_t n = 0;

    if (first[0] == '-' || (strchr(first, '/') == NULL && conf_find_program(first, c->path, found) < 0))
        for (uint32_t i = 0; i < ready->words; i++, word += strlen(word) + 1)
            arguments[n++] = word;
    for (int i = 0; i < c->argc; i++)
        arguments[n++] = c->argv[i];
    arguments[n] = NULL;
    return arguments;
}
