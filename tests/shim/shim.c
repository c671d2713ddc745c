/*
 * Faults that cannot be caused on demand on a test machine, put between the program and its C library.
 * Loaded with LD_PRELOAD; the variable FAULT says which:
 *
 *   clock      clock_gettime fails, which makes the standard library panic
 *   minute     the time of day is always in the last second of a minute
 *   tmpfile    the file system has no nameless files
 *   child      any attempt to start another process ends this one with SIGKILL
 *   instances  inotify has no instance left
 *   watches    inotify has no watch left
 *   gap        before the first watch is placed, the file FAULT_FROM is renamed to FAULT_TO
 *   swap       before the call number FAULT_AT on a path with FAULT_IN in it, the directory FAULT_FROM takes the place of
 *              FAULT_TO, which gets the ending .away
 *   renewal    when the directory .pg_standby has been opened for the first time, and before it is read, the file
 *              FAULT_FROM is renamed to FAULT_TO
 *   hidden     the same, and that first listing has neither name, as on btrfs
 *   names      the name service does not answer
 *   readonly   nothing can be unlinked from a directory, as on a read-only file system
 *   modes      the file system has no permissions to be changed
 *   unsynced   the process is killed when it has written a file and is about to sync it
 *   unnamed    the process is killed when it is about to rename a file
 *   remote     every file system is NFS, and inotify tells of nothing on it
 *   archive    while there is a file FAULT_FILE, with "CALL NUMBER" in it, CALL on paths with FAULT_IN in them fails with
 *              the error of that number. Calls are stat; open; read, of the file's start; copy, of what follows. "halt 1"
 *              stops a copy at its half: FAULT_FILE gets the ending .halted, and the copy goes on when that is removed
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static int fault(const char *name)
{
	const char *wanted = getenv("FAULT");

	return wanted != NULL && strcmp(wanted, name) == 0;
}

static int fail(int error)
{
	errno = error;
	return -1;
}

/* The error that FAULT_FILE orders for a call on a path of the archive, 0 for none. */
static int ordered(const char *call, const char *path)
{
	const char *in = getenv("FAULT_IN"), *file = getenv("FAULT_FILE");
	char order[64] = "", name[16] = "";
	int error = 0;
	int fd;

	/* The standard library calls statx without a path to see whether there is one. */
	if (!fault("archive") || in == NULL || file == NULL || path == NULL || strstr(path, in) == NULL)
		return 0;
	fd = (int) syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, order, sizeof order - 1) < 0)
		order[0] = '\0';
	close(fd);
	return sscanf(order, "%15s %d", name, &error) == 2 && strcmp(name, call) == 0 ? error : 0;
}

static int ordered_of(const char *call, int fd)
{
	char link[64], path[4096] = "";

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return readlink(link, path, sizeof path - 1) < 0 ? 0 : ordered(call, path);
}

/* Counts the calls on paths of the archive. */
static void swap(const char *path)
{
	static int calls;
	const char *in = getenv("FAULT_IN"), *at = getenv("FAULT_AT");
	const char *from = getenv("FAULT_FROM"), *to = getenv("FAULT_TO");
	char away[4096];

	if (!fault("swap") || path == NULL || strstr(path, in) == NULL || ++calls != atoi(at))
		return;
	snprintf(away, sizeof away, "%s.away", to);
	rename(to, away);
	rename(from, to);
}

/* Stands still in the middle of a copy for as long as the test wants. */
static void halt(void)
{
	const char *file = getenv("FAULT_FILE");
	char halted[4096];

	snprintf(halted, sizeof halted, "%s.halted", file);
	if (rename(file, halted) != 0)
		return;
	while (access(halted, F_OK) == 0)
		usleep(2000);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	if (fault("clock"))
		return fail(EINVAL);
	int result = (int) syscall(SYS_clock_gettime, clock, time);
	if (clock == CLOCK_REALTIME && fault("minute"))
		time->tv_sec += 59 - time->tv_sec % 60;
	return result;
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = va_arg(rest, mode_t);
	va_end(rest);
	swap(path);
	int error = ordered("open", path);

	if (error != 0)
		return fail(error);
	if (fault("tmpfile") && (flags & O_TMPFILE) == O_TMPFILE)
		return fail(EOPNOTSUPP);
	return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset)
{
	int error = ordered_of(offset == 0 ? "read" : "copy", fd);
	struct stat file;

	if (error != 0)
		return fail(error);
	if (offset != 0 && fstat(fd, &file) == 0 && offset == file.st_size / 2 && ordered_of("halt", fd))
		halt();
	return syscall(SYS_pread64, fd, bytes, count, offset);
}

int statx(int directory, const char *path, int flags, unsigned int mask, struct statx *status)
{
	swap(path);
	int error = ordered("stat", path);

	if (error != 0)
		return fail(error);
	return (int) syscall(SYS_statx, directory, path, flags, mask, status);
}

/* The listing that hides a name. */
static DIR *hiding;

/* A directory is open and has not been read. */
static DIR *listed(DIR *directory, const char *path)
{
	static int renewed;

	hiding = NULL;
	if ((fault("renewal") || fault("hidden")) && strstr(path, ".pg_standby") != NULL && !renewed) {
		renewed = 1;
		rename(getenv("FAULT_FROM"), getenv("FAULT_TO"));
		hiding = fault("hidden") ? directory : NULL;
	}
	return directory;
}

static int is_hidden(DIR *directory, const struct dirent64 *entry)
{
	return entry != NULL && hiding != NULL && directory == hiding &&
		   strcmp(entry->d_name, strrchr(getenv("FAULT_TO"), '/') + 1) == 0;
}

DIR *opendir(const char *path)
{
	static DIR *(*next)(const char *);

	if (next == NULL)
		next = (DIR *(*)(const char *)) dlsym(RTLD_NEXT, "opendir");
	swap(path);
	return listed(next(path), path);
}

DIR *fdopendir(int fd)
{
	static DIR *(*next)(int);
	char link[64], path[4096] = "";

	if (next == NULL)
		next = (DIR *(*)(int)) dlsym(RTLD_NEXT, "fdopendir");
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof path - 1) < 0)
		path[0] = '\0';
	return listed(next(fd), path);
}

/* Where long has 64 bits, both are one function. */
static struct dirent64 *shown(DIR *directory)
{
	static struct dirent64 *(*next)(DIR *);
	struct dirent64 *entry;

	if (next == NULL)
		next = (struct dirent64 *(*)(DIR *)) dlsym(RTLD_NEXT, "readdir64");
	do
		entry = next(directory);
	while (is_hidden(directory, entry));
	return entry;
}

struct dirent64 *readdir64(DIR *directory)
{
	return shown(directory);
}

struct dirent *readdir(DIR *directory)
{
	return (struct dirent *) shown(directory);
}

static void no_answer(void)
{
	while (fault("names"))
		pause();
}

struct passwd *getpwuid(uid_t user)
{
	(void) user;
	no_answer();
	return NULL;
}

int getpwuid_r(uid_t user, struct passwd *entry, char *strings, size_t length, struct passwd **result)
{
	(void) user, (void) entry, (void) strings, (void) length;
	no_answer();
	*result = NULL;
	return 0;
}

int inotify_init1(int flags)
{
	if (fault("instances"))
		return fail(EMFILE);
	return (int) syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t events)
{
	if (fault("watches"))
		return fail(ENOSPC);
	if (fault("gap"))
		rename(getenv("FAULT_FROM"), getenv("FAULT_TO"));
	return (int) syscall(SYS_inotify_add_watch, fd, fault("remote") ? "/proc" : path, events & ~IN_ONLYDIR);
}

int statfs(const char *path, struct statfs *answer)
{
	int result = (int) syscall(SYS_statfs, path, answer);

	if (fault("remote"))
		answer->f_type = NFS_SUPER_MAGIC;
	return result;
}

int statfs64(const char *path, struct statfs64 *answer)
{
	return statfs(path, (struct statfs *) answer);
}

int fsync(int fd)
{
	if (fault("unsynced"))
		kill(getpid(), SIGKILL);
	return (int) syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
	if (fault("unnamed"))
		kill(getpid(), SIGKILL);
	return (int) syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int directory, const char *path, int flags)
{
	if (fault("readonly"))
		return fail(EROFS);
	return (int) syscall(SYS_unlinkat, directory, path, flags);
}

int fchmod(int fd, mode_t mode)
{
	if (fault("modes"))
		return fail(EPERM);
	return (int) syscall(SYS_fchmod, fd, mode);
}

int chmod(const char *path, mode_t mode)
{
	if (fault("modes"))
		return fail(EPERM);
	return (int) syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

static int no_child(void)
{
	if (fault("child"))
		kill(getpid(), SIGKILL);
	return fail(ENOSYS);
}

pid_t fork(void)
{
	return no_child();
}

pid_t vfork(void)
{
	return no_child();
}

int execve(const char *path, char *const argv[], char *const envp[])
{
	if (fault("child"))
		return no_child();
	return (int) syscall(SYS_execve, path, argv, envp);
}

int posix_spawnp(pid_t *pid, const char *file, const void *actions, const void *attributes, char *const argv[],
				 char *const envp[])
{
	(void) pid, (void) file, (void) actions, (void) attributes, (void) argv, (void) envp;
	return no_child();
}

int system(const char *command)
{
	(void) command;
	return no_child();
}
