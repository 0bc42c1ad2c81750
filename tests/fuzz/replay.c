/* replay: runs a fuzz target over the files named on the command line, folders with all they
 * hold. So a corpus is a regression test where there is no libFuzzer. Exit status 1 when there
 * was no file at all, or one could not be read. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/buf.h"
#include "proto/base/cleanup.h"
#include "proto/base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 64 << 20 };

static int replay_path(const char *path, size_t *count);

static int
replay_file(const char *path, size_t *count)
{
    struct err e;
    struct buf auto_buf b;
    buf_init(&b, INPUT_MAX);
    if (fs_read_file(path, &b, INPUT_MAX, &e) != 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        return -1;
    }
    /* a copy of the exact size: the sanitizer sees a read beyond it */
    auto_free uint8_t *copy = malloc(b.n == 0 ? 1 : b.n);
    if (copy == NULL) {
        return -1;
    }
    if (b.n > 0) {
        memcpy(copy, b.p, b.n);
    }
    (void)LLVMFuzzerTestOneInput(copy, b.n);
    *count += 1;
    return 0;
}

static int
replay_folder(const char *path, size_t *count)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort), rc = n < 0 ? -1 : 0;
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.' && rc == 0) {
            auto_free char *inside = fs_join(path, names[i]->d_name);
            rc = replay_path(inside, count);
        }
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
    return rc;
}

static int
replay_path(const char *path, size_t *count)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    return S_ISDIR(st.st_mode) ? replay_folder(path, count) : replay_file(path, count);
}

int
main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        if (replay_path(argv[i], &count) != 0) {
            return 1;
        }
    }
    (void)printf("%zu inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
