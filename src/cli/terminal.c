/* SPDX-License-Identifier: Apache-2.0 */
/* terminal — see terminal.h. */
#include "cli/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool is_raw, at_exit;

void terminal_restore(void)
{
    if (is_raw)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    is_raw = false;
}

int terminal_raw(struct err *err)
{
    struct termios raw;
    if (is_raw)
        return 0;
    if (tcgetattr(STDIN_FILENO, &before) != 0)
        return err_sys(err, errno, "standard input is no terminal");
    raw = before;
    cfmakeraw(&raw);
    if (!at_exit)
        (void)atexit(terminal_restore);
    at_exit = true;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
        return err_sys(err, errno, "cannot use this terminal");
    is_raw = true;
    return 0;
}

bool terminal_size(unsigned *ret_rows, unsigned *ret_columns)
{
    struct winsize w;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || !w.ws_row || !w.ws_col)
        return false;
    *ret_rows = w.ws_row;
    *ret_columns = w.ws_col;
    return true;
}
