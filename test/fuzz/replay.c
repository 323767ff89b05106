/* SPDX-License-Identifier: Apache-2.0 */
/* replay — runs one fuzz target over the files of its corpus, without a fuzzer: a plain test under the sanitizers.
 * usage: replay_NAME DIRECTORY...   Every regular file of each directory is one input; an absent directory is none.
 * The empty input and every prefix-cut at half of each file are run too: parsers see truncation first of all. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exact size on the heap, so that the address sanitizer sees the first byte read behind it. */
static void feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size ? size : 1);
    if (copy == NULL)
        abort();
    if (size)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return -1;
    struct stat st;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)fclose(f);
        return 0;
    }
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1);
    if (data == NULL || fread(data, 1, size, f) != size) {
        free(data);
        (void)fclose(f);
        return -1;
    }
    (void)fclose(f);
    feed(data, size);
    feed(data, size / 2);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    int inputs = 0;
    feed((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (d == NULL)
            continue;
        struct dirent *e;
        while ((e = readdir(d)) != NULL) {
            char path[4096];
            if (snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name) >= (int)sizeof(path))
                continue;
            int rc = replay_file(path);
            if (rc < 0) {
                (void)fprintf(stderr, "cannot read %s\n", path);
                return 1;
            }
            inputs += rc;
        }
        (void)closedir(d);
    }
    (void)printf("%d inputs replayed\n", inputs);
    return 0;
}
