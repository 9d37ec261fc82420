/* The plan: rows that are applied on this clock, without the host. */
#include "relay.h"
#include <sys/socket.h>

#define PLAN_MAX ((8 << 20) / sizeof(struct row))
#define LOG_MAX 65536
#define LOG_PIECE 184
#define SLOTS_MAX 1024
#define SHAPE_MAX 384
#define STEP_MAX 64

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

static struct row *plan; /* [next, end) is to come, [end, staged) waits for its commit */
static size_t plan_next, plan_end, plan_staged;
static struct applied *done; /* a ring: row i lies at i % LOG_MAX */
static uint64_t done_first, done_next, done_lost;

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

int set_shape(const unsigned char *data, size_t length)
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

int set_held(const unsigned char *data, size_t length, int held)
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

uint64_t plan_due_ns(void)
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

void plan_step(uint64_t now)
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

uint32_t plan_free(void)
{
	return PLAN_MAX - (plan_staged - plan_next);
}

int plan_add(const unsigned char *data, size_t length)
{
	size_t count = length / sizeof *plan;
	if (length % sizeof *plan)
		return EINVAL;
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

void plan_commit(uint64_t from_ns)
{
	size_t kept = plan_end, count = plan_staged - plan_end;
	while (kept > plan_next && plan[kept - 1].at_ns >= from_ns)
		kept--;
	memmove(plan + kept, plan + plan_end, count * sizeof *plan);
	plan_end = plan_staged = kept + count;
}

/* Rows are told again until the next request says that they were seen: an answer can be lost. */
void plan_log(uint64_t seen)
{
	done_first = seen > done_first && seen <= done_next ? seen : done_first;
	uint64_t upto = done_next - done_first > LOG_PIECE ? done_first + LOG_PIECE : done_next;
	keep(&upto, sizeof upto);
	keep(&done_lost, sizeof done_lost);
	for (uint64_t i = done_first; i < upto; i++)
		keep(&done[i % LOG_MAX], sizeof *done);
}

void plan_forget(void)
{
	plan_next = plan_end = plan_staged = 0;
	done_first = done_next = done_lost = 0;
	memset(slots, 0, sizeof slots);
}
