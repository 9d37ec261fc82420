/* Netlink and ethtool requests to the kernel this runs on, and the answer they make up. */
#include "relay.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

int netlink_fd = -1;
unsigned char reply[REPLY_MAX];
size_t reply_length;

int open_netlink(void)
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

void keep(const void *data, size_t length)
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
int exchange(struct nlmsghdr *request)
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
int batch(unsigned char *data, size_t length)
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

int ethtool(unsigned char *payload, size_t length)
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
