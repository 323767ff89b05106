/* SPDX-License-Identifier: Apache-2.0 */
/* davit-init — PID 1 of a sandbox, see init/init.h. Takes no options: its arguments are the program that it supervises. */
#include "init/init.h"

#include <unistd.h>

#include "base/err.h"
#include "init/say.h"

/* For what of base is linked in; base's own would bring stdio with it. */
void err_bug(const char *file, int line, const char *what)
{
    struct say_digits d;

    say("BUG at ", file, ":", say_number(line, &d), ": ", what);
    abort();
}

int main(int argc, char **argv)
{
    /* No exit handlers, nothing to flush. */
    _exit(init_main(argc, argv, environ));
}
