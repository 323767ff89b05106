/* SPDX-License-Identifier: Apache-2.0 */
/* people_internal — what the files of people share.  Not included outside of src/control/people*.c and their tests.  Thread: loop. */
#ifndef DAVIT_CONTROL_PEOPLE_INTERNAL_H
#define DAVIT_CONTROL_PEOPLE_INTERNAL_H

#include "control/people/logins.h"
#include "control/people/people.h"
#include "ident/password.h"

struct person {
    char id[PASS_ID_SIZE]; /* "" there is none */
    char name[PERSON_NAME_MAX + 1];
    char *password; /* text of its hash; owned by struct people, borrowed elsewhere */
};

struct people {
    struct control *control;
    struct lane *lane;
    struct logins *logins;
    unsigned making; /* tokens that are being written */
    struct person owner;
};

#endif
