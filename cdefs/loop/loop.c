/* The fast path of a round, and the waiting between rounds: pipeline/native_loop.py says which it is. */
#define _GNU_SOURCE
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <time.h>
#include "frames/frames.h"
#include "kernel/clock.h"
#include "kernel/perf.h"
#include "sinks/file_writer.h"
#include "sinks/native_output.h"
#include "audittext/audittext.h"
#include "table/table.h"
#include "attribution/clone_result.h"
#include "attribution/row_lookup.h"
#include "json/rows.h"
#include "intake/intake.h"
#include "loop/coalescer.h"
#include "loop/loop.h"

#define MARK (sizeof(struct frame_header) + 16)

/* auditd numbers its own events itself: their serials are no step in the kernel's. */
static int is_daemon(int32_t type)
{
    return type >= AUDIT_FIRST_DAEMON && type <= AUDIT_LAST_DAEMON;
}

/* Whether the points are of the events of this host that come next, without a hole. Events of several processes are written
 * at the same time, so that in between they may have another order than that of their numbers. */
static int in_order(const struct native_loop *q)
{
    const struct auditns_points *p = q->points;
    struct auditns_range range;

    if (!p->n || p->n > LOOP_POINTS || q->scan->changes != q->changes || q->scan->logins != q->logins)
        return 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (is_daemon(p->rtype[i]) || p->flags[i] & AUDITNS_P_NODE)
            return 0;
    auditns_range(p, 0, p->n, &range);
    return range.complete && range.low == q->next && p->serial[0] == q->next && p->serial[p->n - 1] == range.high;
}

/* Have the journal contain `size` bytes, for which there is room. */
static void note(struct native_loop *q, const void *data, size_t size)
{
    if (!q->journal || !size)
        return;
    memcpy(q->journal + q->journal_len, data, size);
    q->journal_len += size;
}

/* The journal has room for so many bytes of frames and the mark behind them. */
static int journal_takes(const struct native_loop *q, uint64_t size)
{
    return !q->journal || q->journal_room - q->journal_len >= size + MARK;
}

/* The points were answered at `now`: the mark that Observer.mark() makes. */
static void mark(struct native_loop *q, int64_t now)
{
    struct frame_header head = {
        .size = MARK, .kind = K_MARK, .source = S_PIPELINE, .cpu = CPU_UNKNOWN, .time = (uint64_t)now};
    uint64_t range[] = {q->points->serial[0], q->next - 1};

    note(q, &head, sizeof(head));
    note(q, range, sizeof(range));
}

/* Have the table apply the frames; whether it took all of them. */
static int apply(struct native_loop *q, const uint8_t *frames, uint64_t len)
{
    struct table *t = q->table;
    int how = len ? table_apply(t, frames, len, 0) : TABLE_DONE;

    q->applied = len ? t->at : 0;
    q->bytes += q->applied;
    note(q, frames, q->applied);
    return how == TABLE_DONE && !t->events && !t->borns;
}

/* Have the table know the programs that records of execs name; 0 where rows cannot say of all which exec is meant. */
static int take_programs(struct native_loop *q, int64_t now)
{
    uint8_t *frames = (uint8_t *)q->out;
    uint32_t missing;
    int64_t size = lookup_programs(q->lookup, q->points, 0, q->points->n, now, frames, q->room, q->choice, &missing);

    if (size < 0 || missing || !journal_takes(q, (uint64_t)size))
        return 0;
    if (size && table_apply(q->lookup->table, frames, (uint64_t)size, 0) != TABLE_DONE)
        return 0;
    q->bytes += (uint64_t)size;
    note(q, frames, (size_t)size);
    return 1;
}

/* Make of the points what is to be written if rows answer all of them at `now`; -1 where they do not. */
static int64_t answer(struct native_loop *q, int64_t now)
{
    struct auditns_points *p = q->points;
    char *out = q->out;
    int64_t size = -1;

    if (q->clones && clone_any(q->clones, p))
        return -1;
    if (!q->objects)
        size = lookup_join(q->lookup, p, p->out_end, q->careful, now, q->choice, q->tails, out, q->room);
    else if (!q->scan->ours)
        size = json_of_rows(q->objects, q->lookup, p, q->careful, now, q->choice, &out);
    q->text = out;
    return size;
}

/* The same; returns how many bytes `text` has, or -1, and then it is as if the points had not been looked at. */
static int64_t join(struct native_loop *q, int64_t now)
{
    const struct auditns_points *p = q->points;
    const struct row_lookup *k = q->lookup;
    int64_t size;

    if (!take_programs(q, now))
        return -1;
    size = answer(q, now);
    if (size < 0)
        return -1;
    q->next = p->serial[p->n - 1] + 1;
    q->ms = p->ms[p->n - 1];
    mark(q, now);
    q->answered += p->n;
    q->events += p->subjects;
    for (int kind = 0; kind < 4; kind++)
        q->counted[kind] += k->counted[kind];
    return size;
}

/* Write what the round has made to all outputs; what one does not take whole is left for the caller. */
static void give(struct native_loop *q)
{
    int all = !q->by_caller;

    for (uint32_t i = 0; q->size && i < q->outputs; i++)
        all &= output_give(&q->output[i], q->text, (size_t)q->size);
    if (all)
        q->size = 0;
}

/* Lines of events whose place is still to come: nobody is asked for. 0: there is no room for them. */
static int pass_on(struct native_loop *q)
{
    const struct auditns_points *p = q->points;

    if (p->listed) /* whole events: nothing of them is handed out before their ends */
        return !p->line_n;
    if (p->out_end - p->out_from > q->room)
        return 0;
    q->size = p->out_end - p->out_from;
    memcpy(q->out, p->buf + p->out_from, (size_t)q->size);
    q->text = q->out;
    give(q);
    return 1;
}

/* Drain kernel events up to when the text was taken in that was read last. */
static void drain(struct native_loop *q, const struct intake_news *news)
{
    q->look->upto = (uint64_t)news->taken;
    q->drained = q->see(q->look);
    q->look->upto = 0;
}

int loop_round(struct native_loop *q)
{
    struct auditns_stream *stream = q->stream;
    int64_t got = intake_read_some(q->intake, stream, LOOP_TEXT), now;
    struct intake_news news;

    q->size = q->drained = 0;
    q->applied = 0;
    intake_tell(q->intake, &news);
    q->waits = news.oldest != 0;
    if (got <= 0)
        return LOOP_NOTHING;
    q->scan->now = clock_now();
    q->scanned = auditns_stream_scan(stream, q->scan, q->points, UINT32_MAX, AUDITNS_MODE_MORE) >= 0;
    if (q->scanned && !news.gaps && !q->points->n && q->scan->changes == q->changes && pass_on(q))
        return LOOP_OPEN;
    drain(q, &news);
    if (!q->scanned || news.gaps || q->drained < 0 || q->look->clock_due || q->look->counters->suspect ||
        !journal_takes(q, (uint64_t)q->drained))
        return LOOP_UNSEEN;
    now = (int64_t)q->look->cut;
    if (!apply(q, q->look->frames, (uint64_t)q->drained) || !in_order(q))
        return LOOP_UNKNOWN;
    q->size = q->lookup ? join(q, now) : -1;
    if (q->size < 0)
        return LOOP_ASKED;
    coalescer_note(q->coalescer, q->points->n, now, (uint64_t)got);
    give(q);
    return LOOP_DONE;
}

/* Let text gather until somebody else is ready, but no longer than `pause`; 1 where somebody is. */
static int gather(const struct native_loop *q, int64_t pause)
{
    struct pollfd others = {q->others, POLLIN, 0};
    struct timespec t = {pause / 1000000000, pause % 1000000000};

    return pause > 0 && ppoll(&others, 1, &t, NULL) != 0;
}

/* How long text may gather at `now` (ns), if that is to be over by `end`. */
static int64_t pause_at(const struct native_loop *q, int64_t now, int64_t end)
{
    int64_t pause = coalescer_pause(q->coalescer, now);

    return pause < end - now ? pause : end - now;
}

/* Wait; 1 where text has come, and nobody else is ready. */
static int wait(const struct native_loop *q)
{
    int64_t now = clock_now(), end = q->end, oldest = auditns_scan_oldest(q->scan), pause;
    struct epoll_event ready[2];
    int n = 0;

    if (oldest < end - q->hold)
        end = oldest + q->hold;
    if (end <= now)
        return 0;
    pause = pause_at(q, now, end);
    if (coalescer_expects(q->coalescer, now, pause)) { /* a wake-up by the first of several is one too many */
        if (gather(q, pause))
            return 0;
        n = epoll_wait(q->epoll, ready, 2, 0);
        now = clock_now();
    }
    if (n || end <= now)
        return n == 1 && ready[0].data.fd == q->fd;
    return epoll_wait(q->epoll, ready, 2, (int)((end - now + 999999) / 1000000)) == 1 && ready[0].data.fd == q->fd &&
           !gather(q, pause_at(q, clock_now(), end));
}

void loop_wait(struct native_loop *q)
{
    if (q->end <= clock_now()) /* no time to wait: the loop goes on with other work */
        return;
    intake_guard(q->intake, 0);
    wait(q);
    intake_guard(q->intake, 1);
}

/* After a round that went like that: whether another one may follow without the caller. */
static int goes_on(const struct native_loop *q, int how)
{
    return (how == LOOP_DONE || how == LOOP_OPEN) && !q->size && q->journal_len <= q->journal_room / 2;
}

int loop_rounds(struct native_loop *q)
{
    int how;

    if (q->end <= clock_now())
        return LOOP_OTHER;
    intake_guard(q->intake, 0);
    do {
        how = wait(q) ? loop_round(q) : LOOP_OTHER;
    } while (goes_on(q, how));
    intake_guard(q->intake, 1);
    return how;
}

int loop_backlog(struct native_loop *q)
{
    int how;

    do {
        how = loop_round(q);
    } while (goes_on(q, how) && q->waits && clock_now() < q->end);
    return how;
}
