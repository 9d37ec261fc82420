/*
 * The link box's hands: takes netlink messages as frames and gives them to the kernel it runs on.
 *
 *   (as pid 1 of User-Mode Linux)      inserts the modules named in $MODS, serves frames on /dev/ttyS0
 *   relay serve NETNS                  serves frames on stdin/stdout from inside a network namespace
 *   relay shaper SECONDS [scratch]     the same in the namespace it is started in (or an empty one), for an owner on
 *                                      another machine: ends also after so many seconds of silence, and undoes then
 *   relay launch NETNS LIFELINE CMD... runs CMD (User-Mode Linux) so that it cannot outlive its owner
 *
 * main.c starts it one of these ways; frames.c serves; netlink.c, plan.c and undo.c do what frames ask for; shaper.c
 * watches over a serving process; launcher.c starts User-Mode Linux; util.c is used by all.
 *
 * Frame, both ways, little endian: u16 payload length, u8 kind, u8 flags, u16 sequence, u16 magic, payload of at
 * most 3000 bytes.  Stop-and-wait: a request, then its answer.  A longer answer has FLAG_MORE set and is fetched
 * piece by piece with KIND_MORE: the serial line of User-Mode Linux hangs for ever once about 4 KB lie unread.
 */
#ifndef RELAY_H
#define RELAY_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROTOCOL_VERSION 3
#define PAYLOAD_MAX 3000
#define REPLY_MAX (1 << 20)

enum kind {
	KIND_NUDGE,    /* no answer: new bytes that wake a serial line which lost its interrupt */
	KIND_HELLO,    /* -> u16 version, u16 0, kernel release */
	KIND_NETLINK,  /* netlink messages -> everything the kernel answered, each ended by NLMSG_ERROR or NLMSG_DONE */
	KIND_MORE,     /* -> the next piece of the last answer */
	KIND_CLOCK,    /* -> u64 CLOCK_MONOTONIC, ns */
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

/* util.c */
int die(const char *what);     /* says what failed, with errno -> exit status 1 */
uint64_t now_ns(void);         /* CLOCK_MONOTONIC */
int enter(const char *netns);  /* this process goes into a network namespace -> 0 or -1 with errno */

/* netlink.c: what the kernel is asked, and the answer to the frame in hand */
extern int netlink_fd;
extern unsigned char reply[REPLY_MAX];
extern size_t reply_length;
int open_netlink(void);
void keep(const void *data, size_t length); /* append to the answer */
int exchange(struct nlmsghdr *request);
int batch(unsigned char *data, size_t length);
int ethtool(unsigned char *payload, size_t length);

/* plan.c: shapes of links and the rows that change them */
int set_shape(const unsigned char *data, size_t length);
int set_held(const unsigned char *data, size_t length, int held);
uint64_t plan_due_ns(void); /* when the next row is due; 0: there is none */
void plan_step(uint64_t now);
uint32_t plan_free(void);   /* how many rows may still be staged */
int plan_add(const unsigned char *data, size_t length);
void plan_commit(uint64_t from_ns);
void plan_log(uint64_t seen);
void plan_forget(void);

/* frames.c: until the owner closes the line, or is silent for silence_s (0: it may be, as long as it likes) */
int serve(int in, int out, unsigned silence_s);
void end(int number); /* signal handler: serve() returns */

/* undo.c: what is undone when the line of an owner on another machine ends */
int undo_begin(void); /* before the first fork: the memory is shared -> 0 or -1 with errno */
int add_undo(const unsigned char *payload, size_t length);
void undo_all(void);  /* last first */

/* shaper.c: an owner on another machine */
int shaper(unsigned seconds, int scratch);

/* launcher.c: User-Mode Linux that cannot outlive its owner */
int launch(const char *netns, int lifeline, char **command);

#endif
