/* What the end of a line undoes on a shaper host. */
#include "relay.h"
#include <sys/mman.h>

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
void undo_all(void)
{
	while (undos->used) {
		struct undo *u = (struct undo *)(undos->bytes + undos->last);
		reply_length = 0;
		if (u->kind == KIND_NETLINK)
			batch(u->payload, u->length);
		else
			ethtool(u->payload, u->length);
		undos->used = undos->last;
		undos->last = u->before;
	}
}

int undo_begin(void)
{
	undos = mmap(NULL, sizeof *undos, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return undos == MAP_FAILED ? -1 : 0;
}
