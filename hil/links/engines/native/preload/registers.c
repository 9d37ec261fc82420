/*
 * Loaded into User-Mode Linux (LD_PRELOAD), in front of libc's ptrace().
 *
 * User-Mode Linux 6.1 keeps 2696 bytes of extended registers per process and sets them with PTRACE_SETREGSET, which takes
 * the whole state of the processor or nothing (Linux, arch/x86/kernel/fpu/regset.c, xstateregs_set).  A processor with
 * AMX has 11 KB, so there it dies with its first program.  What it does not know of is its programs' initial state: zeros.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static unsigned char image[65536] __attribute__((aligned(64)));

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(enum __ptrace_request, ...);
	static size_t whole; /* of this processor; 0: not known yet */
	va_list list;
	va_start(list, request);
	int pid = va_arg(list, int);
	void *address = va_arg(list, void *), *data = va_arg(list, void *);
	va_end(list);
	if (!next)
		next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
		return next(request, pid, address, data);
	struct iovec *given = data, all = { .iov_base = image, .iov_len = sizeof image };
	if (!whole && !next(PTRACE_GETREGSET, pid, address, &all))
		whole = all.iov_len;
	if (given->iov_len >= whole)
		return next(request, pid, address, data);
	memcpy(image, given->iov_base, given->iov_len);
	memset(image + given->iov_len, 0, whole - given->iov_len);
	all.iov_len = whole;
	return next(request, pid, address, &all);
}
