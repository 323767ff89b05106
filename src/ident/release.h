/* SPDX-License-Identifier: Apache-2.0 */
/* release — what a release of Davit says about itself, and whether its makers said it.
 *   release.json  one line of canonical JSON and its newline: these members, in this order, without blanks, and no others
 *                   {"format":1,"channel":"stable","version":"0.2.0","counter":7,"min_from":"0.1.0","created":1790000000,
 *                    "expires":1805000000,"files":[{"platform":"linux-amd64","name":"davit-0.2.0-linux-amd64.tar","size":1,"sha256":"..."}]}
 *                 created and expires are Unix seconds. Whatever is not exactly so is refused: there is one way to read a release.
 *   release.sig   a line per signature: "<key id> <signature>\n", lower-case hex; Ed25519 over the bytes of release.json. Lines of keys that
 *                 are not known are passed over; a known key that signs something else spoils the whole.
 * A release holds when RELEASE_THRESHOLD different keys of those that the program was built with have signed it. A key's id is the first 8
 * bytes of the SHA-256 of its 32 bytes. A build without keys (the default, see dist/release-keys) believes no release.
 * Nothing of a release may be used before release_open succeeded on it.
 * Ownership: plain values.  Thread: any.  Input trust: peer.
 * Limits: see the constants; each is refused one beyond. */
#ifndef DAVIT_IDENT_RELEASE_H
#define DAVIT_IDENT_RELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

enum {
    RELEASE_METADATA_MAX = 16 * 1024,
    RELEASE_SIGNATURES_MAX = 4 * 1024, /* bytes of release.sig */
    RELEASE_SIGNATURE_LINES_MAX = 16,
    RELEASE_FILES_MAX = 16,
    RELEASE_VERSION_SIZE = 65, /* with NUL; also of a channel and of a platform */
    RELEASE_NAME_SIZE = 129,
    RELEASE_SHA256_SIZE = 65,
    RELEASE_KEYS = 3,
    RELEASE_THRESHOLD = 2,
    RELEASE_KEY_SIZE = 32,
    RELEASE_KEY_ID_SIZE = 17
};
#define RELEASE_FILE_SIZE_MAX (1024ULL * 1024 * 1024)

struct release_key {
    uint8_t public_key[RELEASE_KEY_SIZE]; /* raw Ed25519 */
};

/* @n is 0 (nothing is believed) or RELEASE_KEYS. */
struct release_keys {
    size_t n;
    struct release_key key[RELEASE_KEYS];
};

/* One archive: a directory with all programs for one platform. */
struct release_file {
    char platform[RELEASE_VERSION_SIZE]; /* "linux-amd64" */
    char name[RELEASE_NAME_SIZE];        /* a file name of [A-Za-z0-9._-], no path */
    uint64_t size;                       /* 1..RELEASE_FILE_SIZE_MAX */
    char sha256[RELEASE_SHA256_SIZE];    /* lower-case hex */
};

struct release {
    char channel[RELEASE_VERSION_SIZE];  /* a label: "stable" */
    char version[RELEASE_VERSION_SIZE];
    uint64_t counter;                    /* 1..2^53-1, goes up with every release of a channel */
    char min_from[RELEASE_VERSION_SIZE]; /* the oldest version that may go to this one at once */
    usec_t created, expires;             /* real time */
    size_t n_files;                      /* at least 1; no platform and no name twice */
    struct release_file files[RELEASE_FILES_MAX];
};

/* --- Keys --- */

/* The keys that this program was built with (meson option release_keys). Static. */
const struct release_keys *release_keys_builtin(void);
/* The id of a key, NUL-terminated hex. */
void release_key_id(const struct release_key *key, char ret[RELEASE_KEY_ID_SIZE]);

/* --- Releases --- */

/* Everything at once: the signatures hold, the text is a release, it has not expired at real time @now. 0 and @ret (borrows nothing), or
 *   -ERR_UNAUTHENTICATED  too few signatures, a wrong one, signatures that cannot be read, a build without keys
 *   -ERR_INVALID          signed, but no release
 *   -ERR_PRECONDITION     expired */
int release_open(struct str metadata, struct str signatures, const struct release_keys *keys, usec_t now, struct release *ret,
                 struct err *err) MUST_USE;
/* The signatures alone. 0 or -ERR_UNAUTHENTICATED. */
int release_verify(struct str metadata, struct str signatures, const struct release_keys *keys, struct err *err) MUST_USE;
/* The text alone: what it says is not to be believed yet. 0 or -ERR_INVALID, which names the member. @ret is undefined on failure. */
int release_parse(struct str metadata, struct release *ret, struct err *err) MUST_USE;

/* The archive for @platform; NULL if the release has none. Borrowed from @release. */
const struct release_file *release_file_for(const struct release *release, struct str platform);
/* The platform of this program: "linux-amd64" or "linux-arm64". Static. */
const char *release_platform(void);

/* May a server that runs @installed, and has seen @counter as the highest of a release (0: none), go to @release? 0; 1 when it runs that
 * version already; -ERR_PRECONDITION: a step back (by version or by counter: an old release cannot be replayed under a newer name), or from
 * too old a version. -ERR_INVALID: @installed is no version. */
int release_may_follow(const struct release *release, struct str installed, uint64_t counter, struct err *err) MUST_USE;

/* --- Versions: semantic versions (2.0.0) without build metadata, at most RELEASE_VERSION_SIZE - 1 bytes, numbers of at most 9 digits --- */

/* Is it one? */
bool release_version_valid(struct str version);
/* < 0, 0, > 0 as @a is older than, equal to or newer than @b. Both must be valid; an invalid one is older than all valid ones. */
int release_version_compare(struct str a, struct str b);
/* The first two numbers. 0 or -ERR_INVALID. */
int release_version_minor(struct str version, uint64_t *ret_major, uint64_t *ret_minor) MUST_USE;

#endif
