/* A disk that is full from the n-th write on, below one folder: LD_PRELOAD it, then set torture_countdown.
 * write, pwrite, writev and the creation of a file fail with ENOSPC; what is written elsewhere is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

char torture_folder[PATH_MAX];
long torture_countdown = -1; /* negative: the disk is not full, and writes are counted */
long torture_writes = 0;

static int is_below(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!torture_folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return !strncmp(path, torture_folder, strlen(torture_folder));
}

static int is_full(void) {
    torture_writes++;
    return torture_countdown >= 0 && torture_writes > torture_countdown;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (is_below(descriptor) && is_full()) { errno = ENOSPC; return -1; }
    return real(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    if (is_below(descriptor) && is_full()) { errno = ENOSPC; return -1; }
    return real(descriptor, data, size, at);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    if (is_below(descriptor) && is_full()) { errno = ENOSPC; return -1; }
    return real(descriptor, parts, count);
}

static int creates(const char *path, int flags) {
    struct stat found;
    return torture_folder[0] && (flags & O_CREAT) && !strncmp(path, torture_folder, strlen(torture_folder)) &&
           stat(path, &found) && is_full();
}

#define OPEN(NAME)                                                        \
    int NAME(const char *path, int flags, ...) {                          \
        static int (*real)(const char *, int, ...);                       \
        va_list more;                                                     \
        va_start(more, flags);                                            \
        mode_t mode = va_arg(more, int);                                  \
        va_end(more);                                                     \
        if (!real) real = dlsym(RTLD_NEXT, #NAME);                        \
        if (creates(path, flags)) { errno = ENOSPC; return -1; }          \
        return real(path, flags, mode);                                   \
    }

OPEN(open)
OPEN(open64)
