/* NETLINK_AUDIT's multicast group as lines of text; sources/readlog.py says which. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "intake/intake_impl.h"

#define BATCH 32
#define FIRST_RECORD 1005 /* lower numbers are netlink's own and the control messages of audit */
#define TYPES 4096
#define PREFIX 48
#define DATAGRAM 16384    /* nothing longer fits into a line */

static struct { char text[PREFIX]; uint32_t len; } prefixes[TYPES];

struct readlog {
    struct reader reader;
    struct readlog_counts counts;
    unsigned int first, left; /* datagrams that did not fit into the text */
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_nl from[BATCH];
    char data[BATCH][DATAGRAM];
};

void intake_readlog_names(const char *names, const uint32_t *numbers, uint32_t count)
{
    memset(prefixes, 0, sizeof(prefixes));
    for (uint32_t i = 0; i < count; i++) {
        if (numbers[i] < TYPES && strlen(names) < PREFIX - 11)
            prefixes[numbers[i]].len =
                (uint32_t)snprintf(prefixes[numbers[i]].text, PREFIX, "type=%s msg=", names);
        names += strlen(names) + 1;
    }
}

static size_t prefix(uint32_t type, char *to)
{
    if (type < TYPES && prefixes[type].len) {
        memcpy(to, prefixes[type].text, prefixes[type].len);
        return prefixes[type].len;
    }
    return (size_t)snprintf(to, PREFIX, "type=UNKNOWN[%u] msg=", type);
}

size_t readlog_line(uint32_t type, const char *body, size_t len, char *to, struct readlog_counts *counts)
{
    const char *nul = memchr(body, 0, len), *newline;
    size_t size = prefix(type, to), room = READLOG_LINE - 1 - size;
    int mended = nul != NULL, cut;

    len = nul ? (size_t)(nul - body) : len;
    cut = len > room;
    len = cut ? room : len;
    memcpy(to + size, body, len);
    for (char *at = to + size; (newline = memchr(at, '\n', (size_t)(to + size + len - at)));) {
        at += newline - at;
        *at++ = ' ';
        mended = 1;
    }
    counts->mended += (uint64_t)mended;
    counts->truncated += (uint64_t)cut;
    size += len;
    if (!cut && to[size - 1] == ' ')
        size--;
    to[size++] = '\n';
    return size;
}

/* The line of one datagram; its size, 0 where it is none. */
static size_t line_of(struct readlog *r, unsigned int number, char *to)
{
    const struct mmsghdr *m = &r->messages[number];
    size_t len = m->msg_len < DATAGRAM ? m->msg_len : DATAGRAM;
    struct nlmsghdr head;

    if (m->msg_hdr.msg_namelen >= sizeof(struct sockaddr_nl) && r->from[number].nl_pid) {
        r->counts.foreign++; /* another process's port id: not the kernel */
        return 0;
    }
    if (len < NLMSG_HDRLEN) {
        r->counts.malformed++;
        return 0;
    }
    memcpy(&head, r->data[number], sizeof(head));
    if (head.nlmsg_type < FIRST_RECORD) {
        r->counts.malformed++;
        return 0;
    }
    r->counts.received++;
    /* the datagram's length counts, not nlmsg_len, which some kernels write without the header */
    return readlog_line(head.nlmsg_type, r->data[number] + NLMSG_HDRLEN, len - NLMSG_HDRLEN, to, &r->counts);
}

static int receive(struct readlog *r)
{
    int got;

    for (int i = 0; i < BATCH; i++) {
        r->parts[i] = (struct iovec){r->data[i], DATAGRAM};
        r->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &r->from[i], .msg_namelen = sizeof(r->from[i]), .msg_iov = &r->parts[i], .msg_iovlen = 1};
    }
    got = recvmmsg(r->reader.fd, r->messages, BATCH, MSG_DONTWAIT, NULL);
    if (got < 0)
        return -errno;
    r->first = 0;
    r->left = (unsigned int)got;
    return got;
}

static int64_t readlog_read(struct reader *reader, char *to, size_t room)
{
    struct readlog *r = (struct readlog *)reader;
    size_t size = 0;
    int got = 0;

    while (room - size >= READLOG_LINE) {
        if (!r->left) {
            if (got > 0 && got < BATCH)
                break; /* there was no more */
            got = receive(r);
            if (got == -ENOBUFS) { /* once each time its queue fills; what is queued is still there */
                r->counts.overruns++;
                continue;
            }
            if (got == -EINTR)
                continue;
            if (got <= 0)
                break;
        }
        size += line_of(r, r->first, to + size);
        r->first++;
        r->left--;
    }
    if (size)
        return (int64_t)size;
    return got < 0 ? got : -EAGAIN;
}

struct reader *readlog_reader(int fd)
{
    struct readlog *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->reader = (struct reader){readlog_read, fd};
    return &r->reader;
}

void readlog_counted(const struct reader *reader, struct readlog_counts *counts)
{
    *counts = ((const struct readlog *)reader)->counts;
}
