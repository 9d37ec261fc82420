/*
 * The link box's hands: takes netlink messages as frames and gives them to the kernel it runs on.
 *
 *   (as pid 1 of User-Mode Linux)      inserts the modules named in $MODS, serves frames on /dev/ttyS0
 *   relay serve NETNS                  serves frames on stdin/stdout from inside a network namespace
 *   relay gateway SECONDS [scratch]    the same in the namespace it is started in (or an empty one), for an owner on
 *                                      another machine: ends also after so many seconds of silence, and undoes then
 *   relay launch NETNS LIFELINE CMD... runs CMD (User-Mode Linux) so that it cannot outlive its owner
 *
 * Frame, both ways, little endian: u16 payload length, u8 kind, u8 flags, u16 sequence, u16 magic, payload of at
 * most 3000 bytes.  Stop-and-wait: a request, then its answer.  A longer answer has FLAG_MORE set and is fetched
 * piece by piece with KIND_MORE: the serial line of User-Mode Linux hangs for ever once about 4 KB lie unread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL_VERSION 2
#define MAGIC 0x4c48
#define PAYLOAD_MAX 3000
#define REPLY_MAX (1 << 20)
#define PLAN_MAX ((8 << 20) / sizeof(struct row))
#define LOG_MAX 65536
#define LOG_PIECE 184
#define SLOTS_MAX 1024
#define SHAPE_MAX 320
#define STEP_MAX 64
#define FLAG_MORE 1
#define KICK_NS 400000
#define CHECK_NS 50000000

enum kind {
	KIND_NUDGE,    /* no answer: new bytes that wake a serial line which lost its interrupt */
	KIND_HELLO,    /* -> u16 version, u16 0, kernel release */
	KIND_NETLINK,  /* netlink messages -> everything the kernel answered, each ended by NLMSG_ERROR or NLMSG_DONE */
	KIND_MORE,     /* -> the next piece of the last answer */
	KIND_CLOCK,    /* -> u64 CLOCK_MONOTONIC, ns */
	KIND_ETHTOOL,  /* char ifname[16], u32 command, u32 value -> i32 errno */
	KIND_SHAPE,    /* struct shape_frame, message for up, message for down -> i32 errno; applied if a row was due */
	KIND_HOLD,     /* u16 slots[]: their rows are noted but not applied -> i32 errno */
	KIND_RELEASE,  /* u16 slots[]: what is due is applied now, and rows are again -> i32 errno */
	KIND_PLAN_ADD, /* struct row[] to stage, in time order (none: forget what is staged) -> u32 rows free, i32 errno */
	KIND_PLAN_COMMIT, /* u64 from, ns: rows at or after it are forgotten, the staged ones follow -> i32 errno */
	KIND_PLAN_LOG, /* u64 rows seen so far: they are forgotten -> u64 rows seen then, u64 rows lost, struct applied[] */
	KIND_PLAN_FORGET, /* shapes, rows and log are forgotten; the kernel keeps what it does -> i32 errno */
	KIND_IOCTL,    /* char ifname[16], SIOCETHTOOL's buffer -> i32 errno, the buffer as it came back */
	KIND_UNDO,     /* u32 KIND_NETLINK or KIND_IOCTL, its payload: to be done when the line ends -> i32 errno */
};

struct header { uint16_t length; uint8_t kind, flags; uint16_t sequence, magic; } __attribute__((packed));

/* One direction of a link from a moment on: what changes in its netem message.  Times are this clock's. */
struct row { uint64_t at_ns; uint32_t delay_us, limit, loss; uint16_t slot, up; } __attribute__((packed));
struct applied { uint64_t planned_ns; uint32_t late_us; uint16_t slot, error; } __attribute__((packed));
#define HELD 0x8000 /* in applied.error: not applied, because the slot was held */
struct shape_frame {
	uint16_t slot, options_at, latency_at[2], length[2]; /* [0] down, [1] up; offsets into the messages */
	uint32_t compensation_ns;
} __attribute__((packed));

static struct slot {
	struct shape_frame shape;
	unsigned char message[2][SHAPE_MAX];
	struct row now; /* the last row that was due, also while held */
	int due, held;
} slots[SLOTS_MAX];

static unsigned char reply[REPLY_MAX];
static size_t reply_length, reply_sent;
static struct row *plan; /* [next, end) is to come, [end, staged) waits for its commit */
static size_t plan_next, plan_end, plan_staged;
static struct applied *done; /* a ring: row i lies at i % LOG_MAX */
static uint64_t done_first, done_next, done_lost;
static int netlink_fd = -1, in_fd, out_fd;
static struct header asked; /* the request being answered */
static unsigned silence_s;  /* 0: the owner may be silent as long as it likes */
static volatile sig_atomic_t ended;

/* What is to be done when the line ends, last first; shared with the process that watches over this one. */
struct undo { uint32_t kind, length, before; unsigned char payload[]; } __attribute__((packed));
static struct undos { uint32_t used, last; unsigned char bytes[1 << 20]; } *undos;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static int die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	return 1;
}

/* ---- netlink ---- */

static int open_netlink(void)
{
	int on = 1, size = 1 << 20;
	struct timeval limit = { .tv_sec = 2 };
	netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (netlink_fd < 0)
		return -1;
	setsockopt(netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(netlink_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(netlink_fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	setsockopt(netlink_fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	return 0;
}

static void keep(const void *data, size_t length)
{
	if (reply_length + length <= REPLY_MAX) {
		memcpy(reply + reply_length, data, length);
		reply_length += length;
	}
}

static int keep_error(uint32_t sequence, int error)
{
	struct { struct nlmsghdr h; struct nlmsgerr e; } made = {
		.h = { .nlmsg_len = sizeof made, .nlmsg_type = NLMSG_ERROR, .nlmsg_seq = sequence },
		.e = { .error = -error },
	};
	keep(&made, sizeof made);
	return error;
}

/* One message to the kernel and all it says about it.  Returns 0 or the errno it answered. */
static int exchange(struct nlmsghdr *request)
{
	static unsigned char buffer[65536] __attribute__((aligned(8)));
	request->nlmsg_flags |= NLM_F_ACK;
	request->nlmsg_pid = 0;
	if (send(netlink_fd, request, request->nlmsg_len, 0) < 0)
		return keep_error(request->nlmsg_seq, errno);
	for (;;) {
		ssize_t got = recv(netlink_fd, buffer, sizeof buffer, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return keep_error(request->nlmsg_seq, errno == EAGAIN ? ETIMEDOUT : errno);
		size_t left = got;
		struct nlmsghdr *h = (struct nlmsghdr *)buffer;
		for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != request->nlmsg_seq)
				continue; /* late answer to a request that timed out */
			keep(h, NLMSG_ALIGN(h->nlmsg_len));
			if (h->nlmsg_type == NLMSG_ERROR)
				return -((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
		}
	}
}

/* Every message of a batch, also after one that failed.  Returns the first errno, or 0. */
static int batch(unsigned char *data, size_t length)
{
	static unsigned char one[PAYLOAD_MAX] __attribute__((aligned(8)));
	int first = 0;
	while (length >= sizeof(struct nlmsghdr)) {
		uint32_t size;
		memcpy(&size, data, sizeof size);
		if (size < sizeof(struct nlmsghdr) || size > length || size > sizeof one)
			return first ? first : EBADMSG;
		memcpy(one, data, size);
		int error = exchange((struct nlmsghdr *)one);
		if (error && !first)
			first = error;
		size_t step = NLMSG_ALIGN(size);
		step = step < length ? step : length;
		data += step;
		length -= step;
	}
	return first;
}

static int ethtool(const unsigned char *payload)
{
	struct ethtool_value value;
	struct ifreq request = { .ifr_data = (void *)&value };
	memcpy(request.ifr_name, payload, IFNAMSIZ - 1);
	memcpy(&value.cmd, payload + 16, 4);
	memcpy(&value.data, payload + 20, 4);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 || ioctl(fd, SIOCETHTOOL, &request) ? errno : 0;
	close(fd);
	return error;
}

static int ethtool_raw(unsigned char *payload, size_t length)
{
	static unsigned char buffer[PAYLOAD_MAX] __attribute__((aligned(8)));
	struct ifreq request = { .ifr_data = (void *)buffer };
	if (length < IFNAMSIZ + sizeof(uint32_t))
		return EINVAL;
	memcpy(request.ifr_name, payload, IFNAMSIZ - 1);
	memcpy(buffer, payload + IFNAMSIZ, length - IFNAMSIZ);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 || ioctl(fd, SIOCETHTOOL, &request) < 0 ? errno : 0;
	close(fd);
	memcpy(payload + IFNAMSIZ, buffer, length - IFNAMSIZ);
	return error;
}

static int add_undo(const unsigned char *payload, size_t length)
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

/* ---- the plan: rows that are applied on this clock, without the host ---- */

/* The netlink message that makes the kernel do what is due in a slot: its shape, with the row's numbers. */
static size_t compose(const struct slot *s, unsigned char *to)
{
	int up = s->now.up != 0;
	uint64_t wanted_ns = s->now.delay_us * (uint64_t)1000, own_ns = s->shape.compensation_ns;
	uint64_t delay_ns = wanted_ns > own_ns ? wanted_ns - own_ns : 0, ticks = delay_ns >> 6;
	uint32_t options[3] = { ticks < UINT32_MAX ? ticks : UINT32_MAX, s->now.limit, s->now.loss };
	memcpy(to, s->message[up], s->shape.length[up]);
	memcpy(to + s->shape.options_at, options, sizeof options);
	memcpy(to + s->shape.latency_at[up], &delay_ns, sizeof delay_ns);
	return s->shape.length[up];
}

static int apply_now(const struct slot *s)
{
	static unsigned char one[SHAPE_MAX] __attribute__((aligned(8)));
	if (!s->due || s->held)
		return 0;
	size_t before = reply_length;
	compose(s, one);
	int error = exchange((struct nlmsghdr *)one);
	reply_length = before;
	return error;
}

static int set_shape(const unsigned char *data, size_t length)
{
	struct shape_frame f;
	if (length < sizeof f)
		return EINVAL;
	memcpy(&f, data, sizeof f);
	if (f.slot >= SLOTS_MAX || length != sizeof f + f.length[0] + f.length[1])
		return EINVAL;
	for (int up = 0; up < 2; up++)
		if (f.length[up] > SHAPE_MAX || f.options_at + 12 > f.length[up] || f.latency_at[up] + 8 > f.length[up])
			return EINVAL;
	struct slot *s = &slots[f.slot];
	s->shape = f;
	memcpy(s->message[1], data + sizeof f, f.length[1]);
	memcpy(s->message[0], data + sizeof f + f.length[1], f.length[0]);
	return apply_now(s);
}

static int set_held(const unsigned char *data, size_t length, int held)
{
	int first = 0;
	for (uint16_t number; length >= sizeof number; data += sizeof number, length -= sizeof number) {
		memcpy(&number, data, sizeof number);
		if (number >= SLOTS_MAX)
			return EINVAL;
		slots[number].held = held;
		int error = apply_now(&slots[number]);
		first = first ? first : error;
	}
	return first;
}

static uint64_t plan_due_ns(void)
{
	return plan_next < plan_end ? plan[plan_next].at_ns : 0;
}

static void note(struct applied row)
{
	if (done_next - done_first == LOG_MAX)
		done_lost++;
	else
		done[done_next++ % LOG_MAX] = row;
}

/* What is due goes to the kernel in one piece; it answers only the messages that it refuses, and the last. */
static void hand_over(unsigned char *messages, size_t length, struct nlmsghdr *last, uint32_t first, uint16_t *errors)
{
	static unsigned char buffer[65536] __attribute__((aligned(8)));
	int failed = 0;
	last->nlmsg_flags |= NLM_F_ACK;
	if (send(netlink_fd, messages, length, 0) < 0)
		failed = errno;
	while (!failed) {
		ssize_t got = recv(netlink_fd, buffer, sizeof buffer, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			failed = errno == EAGAIN ? ETIMEDOUT : errno;
		size_t left = got < 0 ? 0 : got;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			uint32_t which = h->nlmsg_seq - first;
			if (h->nlmsg_type != NLMSG_ERROR || which > last->nlmsg_seq - first)
				continue; /* late answer to a request that timed out */
			errors[which] = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (h->nlmsg_seq == last->nlmsg_seq)
				return;
		}
	}
	for (uint32_t which = 0; which <= last->nlmsg_seq - first; which++)
		errors[which] = failed;
}

static void plan_step(uint64_t now)
{
	static unsigned char messages[STEP_MAX * SHAPE_MAX] __attribute__((aligned(8)));
	static uint32_t sequence = 1u << 31; /* far from the host's own */
	struct applied rows[STEP_MAX];
	uint16_t errors[STEP_MAX] = { 0 };
	int number[STEP_MAX], count = 0, sent = 0;
	size_t length = 0;
	struct nlmsghdr *last = NULL;
	uint32_t first = sequence;
	for (; count < STEP_MAX && plan_next < plan_end && plan[plan_next].at_ns <= now; count++, plan_next++) {
		const struct row *r = &plan[plan_next];
		struct slot *s = &slots[r->slot]; /* checked when it was added */
		s->now = *r;
		s->due = 1;
		rows[count] = (struct applied){ .planned_ns = r->at_ns, .slot = r->slot, .error = s->held ? HELD : EBADSLT };
		number[count] = -1;
		if (s->held || !s->shape.length[0])
			continue;
		last = (struct nlmsghdr *)(messages + length);
		length += NLMSG_ALIGN(compose(s, messages + length));
		last->nlmsg_flags &= ~NLM_F_ACK;
		last->nlmsg_seq = sequence++;
		last->nlmsg_pid = 0;
		number[count] = sent++;
	}
	if (sent)
		hand_over(messages, length, last, first, errors);
	uint64_t done_ns = now_ns();
	for (int i = 0; i < count; i++) {
		uint64_t late_us = (done_ns - rows[i].planned_ns) / 1000;
		rows[i].late_us = late_us < UINT32_MAX ? late_us : UINT32_MAX;
		if (number[i] >= 0)
			rows[i].error = errors[number[i]];
		note(rows[i]);
	}
}

static int plan_add(const unsigned char *data, size_t length)
{
	size_t count = length / sizeof *plan;
	if (!plan && (!(plan = malloc(PLAN_MAX * sizeof *plan)) || !(done = malloc(LOG_MAX * sizeof *done))))
		return ENOMEM;
	if (!length)
		plan_staged = plan_end;
	if (plan_staged + count > PLAN_MAX) { /* make room of what has been played */
		memmove(plan, plan + plan_next, (plan_staged - plan_next) * sizeof *plan);
		plan_staged -= plan_next;
		plan_end -= plan_next;
		plan_next = 0;
	}
	if (plan_staged + count > PLAN_MAX)
		return ENOSPC;
	memcpy(plan + plan_staged, data, count * sizeof *plan);
	for (size_t i = 0; i < count; i++)
		if (plan[plan_staged + i].slot >= SLOTS_MAX)
			return EINVAL;
	plan_staged += count;
	return 0;
}

static void plan_commit(uint64_t from_ns)
{
	size_t kept = plan_end, count = plan_staged - plan_end;
	while (kept > plan_next && plan[kept - 1].at_ns >= from_ns)
		kept--;
	memmove(plan + kept, plan + plan_end, count * sizeof *plan);
	plan_end = plan_staged = kept + count;
}

/* Rows are told again until the next request says that they were seen: an answer can be lost. */
static void plan_log(uint64_t seen)
{
	done_first = seen > done_first && seen <= done_next ? seen : done_first;
	uint64_t upto = done_next - done_first > LOG_PIECE ? done_first + LOG_PIECE : done_next;
	keep(&upto, sizeof upto);
	keep(&done_lost, sizeof done_lost);
	for (uint64_t i = done_first; i < upto; i++)
		keep(&done[i % LOG_MAX], sizeof *done);
}

static void plan_forget(void)
{
	plan_next = plan_end = plan_staged = 0;
	done_first = done_next = done_lost = 0;
	memset(slots, 0, sizeof slots);
}

/* ---- frames ---- */

static int read_all(void *data, size_t length)
{
	for (unsigned char *p = data; length;) {
		ssize_t got = read(in_fd, p, length);
		if (got < 0 && errno == EINTR && !ended)
			continue;
		if (got <= 0)
			return -1;
		p += got;
		length -= got;
	}
	return 0;
}

static int write_all(const void *data, size_t length)
{
	for (const unsigned char *p = data; length;) {
		ssize_t put = write(out_fd, p, length);
		if (put < 0 && errno == EINTR && !ended)
			continue;
		if (put <= 0)
			return -1;
		p += put;
		length -= put;
	}
	return 0;
}

static int send_piece(void)
{
	unsigned char frame[sizeof asked + PAYLOAD_MAX];
	size_t piece = reply_length - reply_sent;
	struct header h = { .kind = asked.kind, .sequence = asked.sequence, .magic = MAGIC };
	if (piece > PAYLOAD_MAX) {
		piece = PAYLOAD_MAX;
		h.flags = FLAG_MORE;
	}
	h.length = piece;
	memcpy(frame, &h, sizeof h);
	memcpy(frame + sizeof h, reply + reply_sent, piece);
	reply_sent += piece;
	return write_all(frame, sizeof h + piece);
}

static int handle(unsigned char *payload)
{
	struct utsname names;
	uint64_t clock;
	int32_t error;
	uint32_t left;
	if (asked.kind == KIND_NUDGE)
		return 0;
	if (asked.kind == KIND_MORE)
		return send_piece();
	reply_length = reply_sent = 0;
	switch (asked.kind) {
	case KIND_HELLO:
		uname(&names);
		keep(&(uint16_t[2]){ PROTOCOL_VERSION, 0 }, 4);
		keep(names.release, strlen(names.release));
		break;
	case KIND_NETLINK:
		batch(payload, asked.length);
		break;
	case KIND_CLOCK:
		clock = now_ns();
		keep(&clock, sizeof clock);
		break;
	case KIND_ETHTOOL:
		error = asked.length == 24 ? ethtool(payload) : EINVAL;
		keep(&error, sizeof error);
		break;
	case KIND_SHAPE:
		error = set_shape(payload, asked.length);
		keep(&error, sizeof error);
		break;
	case KIND_HOLD:
	case KIND_RELEASE:
		error = set_held(payload, asked.length, asked.kind == KIND_HOLD);
		keep(&error, sizeof error);
		break;
	case KIND_PLAN_ADD:
		error = asked.length % sizeof *plan ? EINVAL : plan_add(payload, asked.length);
		left = PLAN_MAX - (plan_staged - plan_next);
		keep(&left, sizeof left);
		keep(&error, sizeof error);
		break;
	case KIND_PLAN_COMMIT:
	case KIND_PLAN_LOG:
		memcpy(&clock, payload, sizeof clock);
		error = asked.length == sizeof clock ? 0 : EINVAL;
		if (!error && asked.kind == KIND_PLAN_COMMIT)
			plan_commit(clock);
		if (!error && asked.kind == KIND_PLAN_LOG)
			plan_log(clock);
		else
			keep(&error, sizeof error);
		break;
	case KIND_PLAN_FORGET:
		plan_forget();
		keep(&(int32_t){ 0 }, sizeof error);
		break;
	case KIND_IOCTL:
		error = ethtool_raw(payload, asked.length);
		keep(&error, sizeof error);
		if (asked.length > IFNAMSIZ)
			keep(payload + IFNAMSIZ, asked.length - IFNAMSIZ);
		break;
	case KIND_UNDO:
		error = add_undo(payload, asked.length);
		keep(&error, sizeof error);
		break;
	default: /* a newer host: an empty answer of the same kind says "not known here" */
		break;
	}
	return send_piece();
}

static void end(int number)
{
	struct itimerval again = { .it_interval.tv_sec = 1, .it_value.tv_sec = 1 };
	(void)number;
	ended = 1;
	setitimer(ITIMER_REAL, &again, NULL); /* should this signal have come just before a read that now blocks */
}

/* The owner is there: it has silence_s from now on. */
static void heard(void)
{
	struct itimerval limit = { .it_interval.tv_sec = 1, .it_value.tv_sec = silence_s };
	if (silence_s)
		setitimer(ITIMER_REAL, &limit, NULL);
}

static int serve(void)
{
	static unsigned char payload[PAYLOAD_MAX] __attribute__((aligned(8)));
	if (open_netlink())
		return die("netlink");
	prctl(PR_SET_TIMERSLACK, 1);
	while (!ended) {
		uint64_t due = plan_due_ns(), now = now_ns();
		struct pollfd p = { .fd = in_fd, .events = POLLIN };
		uint64_t left = due > now ? due - now : 0;
		struct timespec wait = { .tv_sec = left / 1000000000u, .tv_nsec = left % 1000000000u };
		int ready = ppoll(&p, 1, due ? &wait : NULL, NULL);
		if (ready < 0 && errno != EINTR)
			return die("poll");
		now = now_ns();
		due = plan_due_ns();
		if (due && due <= now)
			plan_step(now);
		if (ready <= 0)
			continue;
		if (read_all(&asked, sizeof asked))
			return 0; /* the owner closed the line: that is how we are told to end */
		if (asked.magic != MAGIC || asked.length > PAYLOAD_MAX) {
			errno = EBADMSG;
			return die("frame");
		}
		heard();
		if (read_all(payload, asked.length) || handle(payload))
			return 0;
	}
	return 0;
}

/* ---- the ways to start ---- */

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
	in_fd = out_fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (in_fd < 0 || tcgetattr(in_fd, &raw))
		return die("/dev/ttyS0");
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL;
	if (tcsetattr(in_fd, TCSANOW, &raw))
		return die("/dev/ttyS0");
	return serve();
}

static int enter(const char *netns)
{
	int fd = open(netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		return -1;
	return close(fd);
}

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

static int launch(const char *netns, int lifeline, char **command)
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

/* One owner at a time: a name that the kernel frees, whatever becomes of its owner. A predecessor may be undoing. */
static int the_only_one(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0hil-gateway" };
	struct timespec moment = { .tv_nsec = 50000000 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), taken = -1;
	for (int tries = 0; tries < 100 && taken; tries++) {
		taken = bind(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + sizeof "_hil-gateway");
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

static int gateway(unsigned seconds, int scratch)
{
	struct sigaction act = { .sa_handler = end }; /* no SA_RESTART: a blocked read must end */
	silence_s = seconds;
	out_fd = 1;
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	if (scratch ? unshare(CLONE_NEWNET) : the_only_one())
		return die(scratch ? "scratch namespace" : "another bench has this gateway");
	undos = mmap(NULL, sizeof *undos, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (undos == MAP_FAILED)
		return die("memory");
	watched_over = fork();
	if (watched_over < 0)
		return die("fork");
	if (watched_over)
		return watch_over();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	heard();
	int status = serve();
	undo_all();
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		out_fd = 1;
		return enter(argv[2]) ? die(argv[2]) : serve();
	}
	if (argc >= 3 && !strcmp(argv[1], "gateway"))
		return gateway(atoi(argv[2]), argc > 3 && !strcmp(argv[3], "scratch"));
	if (argc >= 5 && !strcmp(argv[1], "launch"))
		return launch(argv[2], atoi(argv[3]), argv + 4);
	if (getpid() == 1) {
		as_init();
		reboot(RB_POWER_OFF);
	}
	fprintf(stderr, "usage: relay serve NETNS | relay gateway SECONDS [scratch] | relay launch NETNS LIFELINE_FD COMMAND...\n");
	return 2;
}
