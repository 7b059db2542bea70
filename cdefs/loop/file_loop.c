/* See pipeline/file_loop.py. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>
#include "kernel/clock.h"
#include "audittext/audittext.h"
#include "attribution/row_lookup.h"
#include "loop/file_loop.h"

/* Whether all points are of before the model begins; what their text says of itself counts more. */
static int is_nobody(struct file_loop *f)
{
    const struct auditns_points *p = f->points;

    for (uint32_t i = 0; i < p->n; i++)
        if (p->flags[i] & AUDITNS_P_OWN)
            return 0;
    return !lookup_nobody(f->lookup, p, 0, p->n, f->careful, f->before, f->nobody, f->choice, f->missed);
}

/* Whether all points are of the moment at which what comes next is answered. *nobody: they are before the model begins. */
static int is_now(struct file_loop *f, int *nobody)
{
    const struct auditns_points *p = f->points;
    struct auditns_range range;

    *nobody = 0;
    if (!p->n)
        return 1;
    auditns_range(p, 0, p->n, &range);
    *nobody = range.first_ms < f->before;
    return p->n <= f->most && range.low >= f->low && range.high <= f->high;
}

/* Put the text into `out` with the answers in it; returns its size, -1 where it is the caller's to answer. */
static int64_t join(struct file_loop *f, int nobody)
{
    const struct auditns_points *p = f->points;
    uint64_t size;

    if (!nobody)
        return lookup_join(f->lookup, p, p->out_end, f->careful, f->now, f->choice, f->tails, f->out, f->room);
    if (!is_nobody(f))
        return -1;
    size = auditns_assemble(p->buf, p->out_end, p, f->choice, f->tails, NULL, 0, 0, f->out, f->room);
    return size > f->room ? -1 : (int64_t)size;
}

static void count(struct file_loop *f, int nobody)
{
    const struct auditns_points *p = f->points;

    f->answered += p->n;
    f->events += p->subjects;
    if (nobody)
        f->counted[f->nobody_kind & 3] += p->n;
    for (int kind = 0; !nobody && kind < 4; kind++)
        f->counted[kind] += f->lookup->counted[kind];
}

/* Work on what was read. */
static int one_block(struct file_loop *f)
{
    int64_t size;
    ssize_t went = 0;
    int nobody;

    f->scan->now = clock_now();
    if (auditns_stream_scan(f->stream, f->scan, f->points, UINT32_MAX, AUDITNS_MODE_MORE) < 0)
        return FILE_UNSCANNED;
    if (!is_now(f, &nobody) || (size = join(f, nobody)) < 0)
        return FILE_ASKED;
    count(f, nobody);
    f->size = (uint64_t)size;
    if (size)
        went = write(f->to, f->out, f->size);
    f->done = went > 0 ? (uint64_t)went : 0;
    return f->done == f->size ? FILE_DONE : FILE_REST;
}

int file_rounds(struct file_loop *f)
{
    struct auditns_stream *s = f->stream;
    int how = FILE_DONE;

    for (uint32_t n = 0; n < f->rounds && how == FILE_DONE; n++) {
        if (!auditns_stream_room(s, f->block))
            return FILE_ROOM;
        ssize_t got = read(f->fd, s->buf + s->end, f->block);
        if (got <= 0)
            return FILE_UNREAD;
        s->end += (uint64_t)got;
        f->unended = s->buf[s->end - 1] != '\n';
        how = one_block(f);
    }
    return how;
}
