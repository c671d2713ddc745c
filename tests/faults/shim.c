/*
 * Faults that no test machine can be brought to have on demand, put between the program and its C library.
 * Loaded with LD_PRELOAD; the variable FAULT says which:
 *
 *   clock      clock_gettime fails, which makes the standard library panic
 *   tmpfile    the file system has no nameless files
 *   kernel     the kernel copies nothing (copy_file_range fails)
 *   child      any attempt to start another process ends this one with SIGKILL
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
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

int clock_gettime(clockid_t clock, struct timespec *time)
{
	if (fault("clock"))
		return fail(EINVAL);
	return (int) syscall(SYS_clock_gettime, clock, time);
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = va_arg(rest, mode_t);
	va_end(rest);
	if (fault("tmpfile") && (flags & O_TMPFILE) == O_TMPFILE)
		return fail(EOPNOTSUPP);
	return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

long syscall(long number, ...)
{
	static long (*next)(long, ...);
	va_list rest;
	long a[6];
	int i;

	if (next == NULL)
		next = (long (*)(long, ...)) dlsym(RTLD_NEXT, "syscall");
	va_start(rest, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
	if (number == SYS_copy_file_range && fault("kernel"))
		return fail(EXDEV);
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
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
