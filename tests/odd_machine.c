/* Preloaded into a process, makes its machine an odd one (tests/odd_machine.py).

   ODD_FLOCK=n  flock fails with errno n
   ODD_CHMOD=n  chmod and fchmod fail with errno n
   ODD_FSYNC=n  fsync fails with errno n
   No user has an entry in passwd.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *name) {
    const char *text = getenv(name);
    if (!text || !*text) return 0;
    errno = atoi(text);
    return 1;
}

int flock(int file, int operation) {
    return fails("ODD_FLOCK") ? -1 : (int)syscall(SYS_flock, file, operation);
}

int fsync(int file) { return fails("ODD_FSYNC") ? -1 : (int)syscall(SYS_fsync, file); }

int chmod(const char *path, mode_t mode) {
    return fails("ODD_CHMOD") ? -1 : (int)syscall(SYS_fchmodat, -100, path, mode);
}

int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    (void)flags;
    return fails("ODD_CHMOD") ? -1 : (int)syscall(SYS_fchmodat, folder, path, mode);
}

int fchmod(int file, mode_t mode) {
    return fails("ODD_CHMOD") ? -1 : (int)syscall(SYS_fchmod, file, mode);
}

struct passwd *getpwuid(uid_t user) {
    (void)user;
    errno = 0;
    return NULL;
}

int getpwuid_r(uid_t user, struct passwd *entry, char *room, size_t size, struct passwd **found) {
    (void)user, (void)entry, (void)room, (void)size;
    *found = NULL;
    return 0;
}
