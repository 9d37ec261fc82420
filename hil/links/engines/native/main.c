/* The ways to start; relay.h says which there are. */
#include "relay.h"
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>

static int insert_modules(char *names)
{
	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		char path[256];
		snprintf(path, sizeof path, "/mod/%s.ko", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			return die(path);
		close(fd);
	}
	return 0;
}

static int as_init(void)
{
	struct termios raw;
	char *modules = getenv("MODS");
	if (mount("tmpfs", "/dev", "tmpfs", 0, "") || mknod("/dev/ttyS0", S_IFCHR | 0600, makedev(4, 64)))
		return die("/dev");
	if (modules && insert_modules(modules))
		return 1;
	int line = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line < 0 || tcgetattr(line, &raw))
		return die("/dev/ttyS0");
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL;
	if (tcsetattr(line, TCSANOW, &raw))
		return die("/dev/ttyS0");
	return serve(line, line, 0);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return enter(argv[2]) ? die(argv[2]) : serve(0, 1, 0);
	if (argc >= 3 && !strcmp(argv[1], "shaper"))
		return shaper(atoi(argv[2]), argc > 3 && !strcmp(argv[3], "scratch"));
	if (argc >= 5 && !strcmp(argv[1], "launch"))
		return launch(argv[2], atoi(argv[3]), argv + 4);
	if (getpid() == 1) {
		as_init();
		reboot(RB_POWER_OFF);
	}
	fprintf(stderr, "usage: relay serve NETNS | relay shaper SECONDS [scratch] | relay launch NETNS LIFELINE_FD COMMAND...\n");
	return 2;
}
