/* The line to the owner: reads requests, has them done, answers; between them the plan is played. */
#include "relay.h"
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#define MAGIC 0x4c48
#define FLAG_MORE 1

struct header { uint16_t length; uint8_t kind, flags; uint16_t sequence, magic; } __attribute__((packed));

static struct header asked; /* the request being answered */
static size_t reply_sent;   /* of its answer */
static int in_fd, out_fd;
static unsigned silence_s; /* 0: the owner may be silent as long as it likes */
static volatile sig_atomic_t ended;

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
		error = plan_add(payload, asked.length);
		left = plan_free();
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
		error = ethtool(payload, asked.length);
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

void end(int number)
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

int serve(int in, int out, unsigned silence)
{
	static unsigned char payload[PAYLOAD_MAX] __attribute__((aligned(8)));
	in_fd = in;
	out_fd = out;
	silence_s = silence;
	heard();
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
