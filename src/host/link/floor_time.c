/* SPDX-License-Identifier: Apache-2.0 */
/* floor_time — see floor_time.h. */
#include "host/link/floor_time.h"

#include <stdio.h>

#include "base/fd.h"

usec_t floor_time_build(const char *date)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char text[CLOCK_TEXT_SIZE];
    usec_t at;
    size_t month = 0;
    if (strlen(date) != 11)
        return 0;
    while (month < 12 && strncmp(months + 3 * month, date, 3) != 0)
        month++;
    (void)snprintf(text, sizeof(text), "%.4s-%02zu-%c%cT00:00:00Z", date + 7, month + 1, date[4] == ' ' ? '0' : date[4], date[5]);
    return clock_parse(str_from(text), &at, NULL) == 0 && at > USEC_DAY ? at - USEC_DAY : 0;
}

static usec_t read_file(const struct agent_config *c)
{
    AUTO_FREE char *path = agent_config_path(c, FLOOR_TIME_FILE);
    AUTO_BUF text = BUF_INIT(CLOCK_TEXT_SIZE);
    usec_t at = 0;
    if (fd_read_file(path, &text, NULL) < 0)
        return 0;
    struct str rest = buf_str(&text);
    return clock_parse(str_cut(&rest, '\n'), &at, NULL) == 0 ? at : 0;
}

void floor_time_load(const struct agent_config *c)
{
    clock_floor_raise(floor_time_build(__DATE__));
    clock_floor_raise(read_file(c));
}

usec_t floor_time_judge(usec_t not_before)
{
    usec_t when = clock_checked();
    return clock_unsure() && not_before > when ? not_before : when;
}

void floor_time_hear(struct floor_time *f, usec_t theirs)
{
    clock_peer_hear(theirs);
    f->heard = true;
}

usec_t floor_time_now(const struct floor_time *f)
{
    return f->heard ? clock_peer() : clock_checked();
}

bool floor_time_due(const struct floor_time *f, usec_t *ret)
{
    usec_t theirs = floor_time_now(f), ours = clock_real();
    if (!f->heard || clock_mono() < f->next || (theirs > ours ? theirs - ours : ours - theirs) > FLOOR_TIME_AGREE)
        return false;
    *ret = theirs < ours ? theirs : ours;
    return true;
}

int floor_time_save(const struct agent_config *c, usec_t good, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(c, FLOOR_TIME_FILE);
    char text[CLOCK_TEXT_SIZE];
    if (good <= read_file(c))
        return 0;
    clock_format(good, 0, text);
    AUTO_FREE char *line = str_printf("%s\n", text);
    int rc = fd_write_file(path, line, strlen(line), 0600, err);
    if (rc == 0)
        clock_floor_raise(good);
    return rc;
}
