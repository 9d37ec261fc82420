/*
 * Loaded in front of libc (/etc/ld.so.preload on a board, LD_PRELOAD on the bench's host): the time of day is off by as
 * many seconds as a file says, at once and in every process that maps it.  No other clock is moved, and neither is an
 * absolute wait until a time of day, which the kernel keeps.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *file;

__attribute__((constructor)) static void map(void)
{
	const char *name = getenv("HIL_FAULT_CLOCK");
	int descriptor = open(name ? name : "/run/hil-fault/clock", O_RDONLY | O_CLOEXEC);
	if (descriptor < 0)
		return;
	void *there = lseek(descriptor, 0, SEEK_END) < 8 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, descriptor, 0);
	close(descriptor);
	if (there != MAP_FAILED)
		file = there;
}

int clock_gettime(clockid_t which, struct timespec *now)
{
	int failed = syscall(SYS_clock_gettime, which, now);
	if (!failed && file && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
		now->tv_sec += *file;
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	int failed = syscall(SYS_gettimeofday, now, zone);
	if (!failed && file)
		now->tv_sec += *file;
	return failed;
}

time_t time(time_t *to)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}
