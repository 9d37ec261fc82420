/* Runs User-Mode Linux: ends it with its owner, and mends from outside what it does wrong. */
#include "relay.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define KICK_NS 400000
#define CHECK_NS 50000000

/*
 * Two bugs of User-Mode Linux 6.1 are mended from outside.  It can go to sleep over a signal that has just come;
 * and it keeps one event buffer for nested interrupts while its epoll is edge triggered, so of two packets that
 * arrive together one can be forgotten until the next comes (measured: one in eight).  So a socket of its that is
 * still readable a moment after something came gets its epoll registration modified, without change, which makes
 * epoll look again (that needs the same file under the same number here), and then a SIGIO.
 */
#define WATCHED_MAX 512
#define OUT_OF_THE_WAY 900
static struct watched { int fd; struct epoll_event event; } watched[WATCHED_MAX];
static int watched_count, its_epoll = -1, our_epoll = -1;

/* The descriptor `fd` of another process as a descriptor here, numbered OUT_OF_THE_WAY or more. */
static int borrow(int pidfd, int fd)
{
	int low = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	int high = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	close(low);
	return high;
}

static int worth_watching(int fd)
{
	int domain = 0, type = 0;
	socklen_t size = sizeof domain;
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	return domain == AF_PACKET || (domain == AF_UNIX && type == SOCK_STREAM); /* NICs, and the serial line */
}

static void watch_sockets(pid_t child)
{
	char path[64], target[64], line[256];
	int its_number = -1, pidfd = syscall(SYS_pidfd_open, child, 0);
	for (int fd = 0; fd < 64 && its_number < 0; fd++) {
		snprintf(path, sizeof path, "/proc/%d/fd/%d", child, fd);
		ssize_t length = readlink(path, target, sizeof target - 1);
		if (length > 0 && (target[length] = 0, strstr(target, "[eventpoll]")))
			its_number = fd;
	}
	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", child, its_number);
	FILE *info = fopen(path, "r");
	for (watched_count = 0; info && fgets(line, sizeof line, info) && watched_count < WATCHED_MAX;) {
		struct watched *w = &watched[watched_count];
		unsigned long long data;
		unsigned events;
		if (sscanf(line, "tfd: %d events: %x data: %llx", &w->fd, &events, &data) == 3 && events & EPOLLIN) {
			w->event = (struct epoll_event){ .events = events, .data.u64 = data };
			watched_count++;
		}
	}
	if (info)
		fclose(info);
	int high = fcntl(pidfd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	close(pidfd); /* from here on nothing of ours has a number below OUT_OF_THE_WAY that it could need */
	its_epoll = borrow(high, its_number);
	int low = epoll_create1(EPOLL_CLOEXEC);
	our_epoll = fcntl(low, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	close(low);
	int kept = 0;
	for (int i = 0; i < watched_count; i++) {
		int copy = borrow(high, watched[i].fd);
		struct epoll_event ours = { .events = EPOLLIN, .data.u32 = kept };
		if (copy >= 0 && worth_watching(copy) && dup2(copy, watched[i].fd) >= 0 &&
		    !epoll_ctl(our_epoll, EPOLL_CTL_ADD, watched[i].fd, &ours))
			watched[kept++] = watched[i];
		close(copy);
	}
	watched_count = its_epoll < 0 ? 0 : kept;
	close(high);
}

static void kick(pid_t child)
{
	struct timespec moment = { .tv_nsec = KICK_NS };
	struct epoll_event still[64]; /* the others stay for the next time */
	nanosleep(&moment, NULL);
	int count = epoll_wait(our_epoll, still, 64, 0);
	if (count <= 0)
		return; /* it has taken care of everything by itself */
	for (int i = 0; i < count; i++) {
		struct watched *w = &watched[still[i].data.u32];
		epoll_ctl(its_epoll, EPOLL_CTL_MOD, w->fd, &w->event);
	}
	kill(child, SIGIO);
}

/* Pid 1 of a pid namespace of its own: when it ends, the kernel ends everything that User-Mode Linux started. */
static int mind(int lifeline, char **command)
{
	struct sched_param fifo = { .sched_priority = 50 };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* slave, not private: an unmount on the host must reach this copy, or the device stays busy */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) || mount("proc", "/proc", "proc", 0, NULL))
		return die("mount namespace");
	/* real time: with busy neighbours p99 of the delay falls from 2.4 to 0.7 ms. Not vital, so not checked */
	sched_setscheduler(0, SCHED_FIFO, &fifo);
	pid_t child = fork();
	if (child < 0)
		return die("fork");
	if (!child) {
		execv(command[0], command);
		_exit(die(command[0]));
	}
	prctl(PR_SET_TIMERSLACK, 1);
	for (int blind = 0;;) {
		int status;
		char byte;
		/* an epoll descriptor is readable when one of its own is: the cost does not grow with the NICs */
		struct pollfd p[2] = { { .fd = lifeline, .events = POLLIN }, { .fd = our_epoll, .events = POLLIN } };
		struct timespec wait = { .tv_nsec = blind ? KICK_NS : CHECK_NS };
		int ready = ppoll(p, 2, &wait, NULL);
		if (ready > 0 && p[0].revents) {
			if (read(lifeline, &byte, 1) <= 0)
				return 0; /* the owner is gone */
			watch_sockets(child); /* told that its NICs are up: a SIGIO during boot makes it spin for ever */
			blind = !watched_count;
		} else if (ready > 0) {
			kick(child);
		} else if (blind) {
			kill(child, SIGIO); /* its sockets cannot be seen (an old kernel, a low limit): wake it regardless */
		}
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}

int launch(const char *netns, int lifeline, char **command)
{
	int status;
	if (enter(netns))
		return die(netns);
	if (unshare(CLONE_NEWPID | CLONE_NEWNS))
		return die("unshare");
	pid_t child = fork();
	if (child < 0)
		return die("fork");
	if (!child)
		_exit(mind(lifeline, command));
	close(lifeline);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
