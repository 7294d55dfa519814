/* Records what a program writes, syncs, names and renames below RECORDER_ROOT to the file
 * RECORDER_LOG, in order. To be loaded with LD_PRELOAD; `log.rs` reads the log.
 *
 * Each call is carried out first and recorded then, both under one lock, so that the log has the
 * order in which the calls took effect. What is written through a memory map is not seen; whoever
 * reads the log compares its end with the files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 1024 };
enum kind { CREATE = 'c', WRITE = 'w', TRUNCATE = 't', SYNC = 's', RENAME = 'r', UNLINK = 'u' };

/* The head of a record; two texts or the bytes written follow. */
struct record {
    uint8_t kind;
    uint8_t durable; /* a write through a descriptor that was opened with O_DSYNC or O_SYNC */
    uint16_t first;  /* bytes of the first text */
    uint32_t second; /* bytes of the second text, or written */
    uint64_t inode;
    uint64_t at; /* offset of a write, length of a truncation */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static int log_fd = -1;
static uint64_t inode_of[FDS]; /* 0: not below the root */
static char durable_of[FDS];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The path below the root, "" for the root itself, NULL for any other. */
static const char *below(const char *path) {
    size_t length = root ? strlen(root) : 0;
    if (!length || strncmp(path, root, length) || (path[length] && path[length] != '/')) return NULL;
    return path[length] ? path + length + 1 : "";
}

static void put(const void *bytes, size_t length) {
    REAL(write);
    while (length) {
        ssize_t done = real(log_fd, bytes, length);
        if (done < 0) abort();
        bytes = (const char *)bytes + done;
        length -= done;
    }
}

static void record(enum kind kind, uint64_t inode, uint64_t at, int durable, const char *first,
                   const void *second, size_t length) {
    struct record head = {kind, durable, strlen(first), length, inode, at};
    put(&head, sizeof head);
    put(first, head.first);
    put(second, length);
}

__attribute__((constructor)) static void begin(void) {
    REAL(open);
    const char *path = getenv("RECORDER_LOG");
    root = getenv("RECORDER_ROOT");
    if (path) log_fd = real(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) root = NULL;
}

static uint64_t inode(int fd) {
    struct stat64 about;
    return fstat64(fd, &about) ? 0 : about.st_ino;
}

static int opened(int fd, const char *path, int flags, int existed) {
    const char *name = below(path);
    if (fd < 0 || fd >= FDS) return fd;
    inode_of[fd] = name ? inode(fd) : 0;
    durable_of[fd] = !!(flags & O_DSYNC);
    if (name && !existed) record(CREATE, inode_of[fd], 0, 0, name, "", 0);
    if (name && existed && flags & O_TRUNC) record(TRUNCATE, inode_of[fd], 0, 0, "", "", 0);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        pthread_mutex_lock(&lock); \
        int existed = !access(path, F_OK); \
        int fd = opened(real(path, flags, mode), path, flags, existed); \
        pthread_mutex_unlock(&lock); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

static int tracked(int fd) { return fd >= 0 && fd < FDS && inode_of[fd]; }

static ssize_t wrote(int fd, const void *bytes, ssize_t count, off64_t at) {
    if (tracked(fd) && count > 0) {
        record(WRITE, inode_of[fd], at, durable_of[fd], "", bytes, count);
    }
    return count;
}

/* What `write` does not say: where it wrote. */
static off64_t place(int fd) { return tracked(fd) ? lseek64(fd, 0, SEEK_CUR) : 0; }

#define LOCKED(result, call) \
    pthread_mutex_lock(&lock); \
    result = call; \
    pthread_mutex_unlock(&lock); \
    return result

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    ssize_t done;
    if (!tracked(fd)) return real(fd, bytes, count);
    pthread_mutex_lock(&lock);
    done = real(fd, bytes, count);
    wrote(fd, bytes, done, place(fd) - done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset) \
    ssize_t name(int fd, const void *bytes, size_t count, offset at) { \
        REAL(name); \
        ssize_t done; \
        LOCKED(done, wrote(fd, bytes, real(fd, bytes, count, at), at)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static ssize_t scattered(int fd, const struct iovec *parts, int count, ssize_t done, off64_t at) {
    ssize_t left = done;
    for (int i = 0; i < count && left > 0; i++) {
        ssize_t part = left < (ssize_t)parts[i].iov_len ? left : (ssize_t)parts[i].iov_len;
        wrote(fd, parts[i].iov_base, part, at);
        at += part;
        left -= part;
    }
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    ssize_t done;
    if (!tracked(fd)) return real(fd, parts, count);
    pthread_mutex_lock(&lock);
    done = real(fd, parts, count);
    scattered(fd, parts, count, done, place(fd) - done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITEV(name, offset) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset at) { \
        REAL(name); \
        ssize_t done; \
        LOCKED(done, scattered(fd, parts, count, real(fd, parts, count, at), at)); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

static int synced(int fd, int result) {
    if (tracked(fd) && !result) record(SYNC, inode_of[fd], 0, 0, "", "", 0);
    return result;
}

int fsync(int fd) {
    REAL(fsync);
    int result;
    LOCKED(result, synced(fd, real(fd)));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    int result;
    LOCKED(result, synced(fd, real(fd)));
}

static int truncated(int fd, int result, off64_t length) {
    if (tracked(fd) && !result) record(TRUNCATE, inode_of[fd], length, 0, "", "", 0);
    return result;
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    int result;
    LOCKED(result, truncated(fd, real(fd, length), length));
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    int result;
    LOCKED(result, truncated(fd, real(fd, length), length));
}

static int renamed(const char *from, const char *to, int result) {
    from = below(from);
    to = below(to);
    if (!result && (from || to)) {
        if (!from || !to) abort(); /* across the root: the log could not represent it */
        record(RENAME, 0, 0, 0, from, to, strlen(to));
    }
    return result;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    int result;
    LOCKED(result, renamed(from, to, real(from, to)));
}

static int unlinked(const char *path, int result) {
    const char *name = below(path);
    if (name && !result) record(UNLINK, 0, 0, 0, name, "", 0);
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    int result;
    LOCKED(result, unlinked(path, real(path)));
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(unlinkat);
    char link[64], whole[4096];
    int result;
    pthread_mutex_lock(&lock);
    result = real(directory, path, flags);
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = directory == AT_FDCWD ? -1 : readlink(link, whole, sizeof whole - 2);
    if (length > 0 && !(flags & AT_REMOVEDIR)) {
        snprintf(whole + length, sizeof whole - length, "/%s", path);
        unlinked(whole, result);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int close(int fd) {
    REAL(close);
    pthread_mutex_lock(&lock);
    int result = real(fd);
    if (fd >= 0 && fd < FDS) inode_of[fd] = 0;
    pthread_mutex_unlock(&lock);
    return result;
}
