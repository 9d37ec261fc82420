/* On a shaper host: one owner at a time, and whatever it did is undone when its line ends. */
#include "relay.h"
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

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
	if (undo_begin())
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
