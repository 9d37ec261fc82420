/* On a shaper host: one owner at a time, and whatever it did is undone when its line ends. */
#include "relay.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/* What is to be done when the line ends, last first; shared with the process that watches over this one. */
struct undo { uint32_t kind, length, before; unsigned char payload[]; } __attribute__((packed));
static struct undos { uint32_t used, last; unsigned char bytes[1 << 20]; } *undos;

int add_undo(const unsigned char *payload, size_t length)
{
	uint32_t kind;
	if (length <= sizeof kind)
		return EINVAL;
	memcpy(&kind, payload, sizeof kind);
	length -= sizeof kind;
	if (!undos || (kind != KIND_NETLINK && kind != KIND_IOCTL))
		return EINVAL;
	if (undos->used + sizeof(struct undo) + length > sizeof undos->bytes)
		return ENOSPC;
	struct undo *new = (struct undo *)(undos->bytes + undos->used);
	*new = (struct undo){ .kind = kind, .length = length, .before = undos->last };
	memcpy(new->payload, payload + sizeof kind, length);
	undos->last = undos->used;
	undos->used += sizeof *new + length; /* last: from here on it counts */
	return 0;
}

/* What cannot be undone is gone already: a port that was pulled out, for one. */
static void undo_all(void)
{
	while (undos->used) {
		struct undo *u = (struct undo *)(undos->bytes + undos->last);
		reply_length = 0;
		if (u->kind == KIND_NETLINK)
			batch(u->payload, u->length);
		else
			ethtool_raw(u->payload, u->length);
		undos->used = undos->last;
		undos->last = u->before;
	}
}

/* One owner at a time: a name that the kernel frees, whatever becomes of its owner. A predecessor may be undoing. */
static int the_only_one(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0hil-shaper" };
	struct timespec moment = { .tv_nsec = 50000000 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), taken = -1;
	for (int tries = 0; tries < 100 && taken; tries++) {
		taken = bind(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + sizeof "_hil-shaper");
		if (taken)
			nanosleep(&moment, NULL);
	}
	return taken;
}

/* Undoes should the process that serves be killed; should this one be, that one ends and undoes. */
static pid_t watched_over;

static void pass_on(int number)
{
	kill(watched_over, number);
}

static int watch_over(void)
{
	int status;
	signal(SIGTERM, pass_on);
	signal(SIGINT, pass_on);
	close(0);
	close(1);
	while (waitpid(watched_over, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (!open_netlink())
		undo_all();
	return 128 + WTERMSIG(status);
}

int shaper(unsigned seconds, int scratch)
{
	struct sigaction act = { .sa_handler = end }; /* no SA_RESTART: a blocked read must end */
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	if (scratch ? unshare(CLONE_NEWNET) : the_only_one())
		return die(scratch ? "scratch namespace" : "another bench has this shaper host");
	undos = mmap(NULL, sizeof *undos, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (undos == MAP_FAILED)
		return die("memory");
	watched_over = fork();
	if (watched_over < 0)
		return die("fork");
	if (watched_over)
		return watch_over();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	int status = serve(0, 1, seconds);
	undo_all();
	return status;
}
