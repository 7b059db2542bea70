/* Answers that still hold, so that attribution/attributor.py need not ask for them again; attribution/cache.py says what for.

   A child is what its creator was, and an exec or an exit in the cgroup that is known changes nothing about that: such
   frames are followed here, as model/apply/perf.py will take them in. Of whomever any other frame speaks nothing is known
   any more, until it is asked for and put here again. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "frames/frames.h"
#include "audittext/audittext.h"
#include "attribution/cache.h"

#define MS 1000000
#define EPSILON ((int64_t)AUDITNS_EPSILON)
#define SLACK ((int64_t)AUDITNS_SLACK)
#define RECENT ((int64_t)AUDITNS_RECENT)
#define LATE ((int64_t)AUDITNS_LATE)
#define EXEC_TIME ((int64_t)AUDITNS_EXEC_TIME)

static uint64_t *slot_of(struct auditns_touched *t, int32_t pid)
{
    return &t->slot[(uint32_t)pid % AUDITNS_TOUCHED];
}

static void touch(struct auditns_touched *t, int32_t pid)
{
    *slot_of(t, pid) = ++t->now;
}

static int holds(const struct auditns_answer *a, const struct auditns_touched *t)
{
    return t->all <= a->stamp && t->slot[(uint32_t)a->pid % AUDITNS_TOUCHED] <= a->stamp && a->until >= t->horizon;
}

/* where the answer about pid is, or would be */
static struct auditns_answer *place_of(const struct auditns_known *k, int32_t pid)
{
    /* the multiplier is secret: nobody can choose pids that all fall on one place */
    uint32_t at = (uint32_t)((uint64_t)(uint32_t)pid * k->seed >> (64 - k->bits));
    while (k->answer[at].pid && k->answer[at].pid != pid)
        at = (at + 1) & ((1u << k->bits) - 1);
    return &k->answer[at];
}

/* what is known of pid; NULL where that is nothing */
static struct auditns_answer *known_of(const struct auditns_touched *t, int32_t pid)
{
    struct auditns_answer *a = t->known && pid > 0 ? place_of(t->known, pid) : NULL;

    return a && a->pid && holds(a, t) ? a : NULL;
}

/* room for an answer about pid; NULL where there is none */
static struct auditns_answer *room_for(struct auditns_known *k, int32_t pid)
{
    struct auditns_answer *a = place_of(k, pid);

    if (!a->pid) {
        if (k->used >= 1u << (k->bits - 1))
            return NULL;
        k->used++;
    }
    return a;
}

static void want(struct auditns_touched *t, int32_t pid)
{
    if (t->known && t->known->wanted_count < AUDITNS_ROWS)
        t->known->wanted[t->known->wanted_count++] = pid;
}

/* Frames */

static uint32_t *held_of(struct auditns_touched *t, int32_t pid)
{
    return &t->held[(uint32_t)pid % AUDITNS_HELD];
}

/* A frame has spoken of pid, whose end it may be. */
static void mention(struct auditns_touched *t, int32_t pid, uint64_t time, int end)
{
    *held_of(t, pid) = (uint32_t)(time / MS) << 1 | !end;
    if (!*held_of(t, pid))
        *held_of(t, pid) = 2;
}

/* Whether the model may still know a former holder of pid at `time`. */
static int held_before(struct auditns_touched *t, int32_t pid, uint64_t time)
{
    uint32_t held = *held_of(t, pid), ago = ((uint32_t)(time / MS) - (held >> 1)) & (UINT32_MAX >> 1);

    if (!held)
        return 0;
    return held & 1 || !t->horizon || ago <= (time - (uint64_t)t->horizon) / MS + 1;
}

static int forked(struct auditns_touched *t, const struct frame_header *head, const char *payload)
{
    const struct auditns_answer *by = known_of(t, head->ppid);
    struct auditns_answer *a;

    if (!by || by->until != INT64_MAX || !by->set || head->size != sizeof(*head) + AUDITNS_SET ||
        memcmp(payload, t->known->sets + AUDITNS_SET * (by->set - 1), AUDITNS_SET)) {
        want(t, head->ppid);
        return 0;
    }
    if (head->pid == head->ppid && head->tid != head->pid) {
        place_of(t->known, head->pid)->threads = 1;
        return 1;
    }
    if (head->pid != head->tid || head->pid == head->ppid)
        return 0;
    a = held_before(t, head->pid, head->time) ? NULL : room_for(t->known, head->pid);
    if (!a)
        touch(t, head->pid);
    else
        *a = (struct auditns_answer){
            .since = (int64_t)head->time, .until = INT64_MAX, .stamp = t->now, .cgroup = by->cgroup, .pid = head->pid,
            .number = by->number, .set = by->set, .kind = by->kind, .newborn = 1};
    return 1;
}

static int execed(struct auditns_touched *t, const struct frame_header *head)
{
    struct auditns_answer *a = known_of(t, head->pid);

    if (!a || !a->set || a->until != INT64_MAX || a->threads || (head->ppid && head->ppid != head->pid) ||
        (head->cgroup && head->cgroup != a->cgroup)) {
        want(t, head->pid);
        return 0;
    }
    a->exec = a->exec ? -1 : (int64_t)head->time;
    return 1;
}

static int exited(struct auditns_touched *t, const struct frame_header *head)
{
    struct auditns_answer *a = known_of(t, head->pid);

    if (!a)
        return 1;
    if (head->tid == head->pid ? a->threads : !a->threads)
        return 0;
    if (head->tid == head->pid && a->leaving && a->until == INT64_MAX)
        a->until = (int64_t)head->time;
    return 1; /* without a sample before it, it is no end: see model/exits.py */
}

/* A sample at the exit tells the cgroup of one that was made into another cgroup, and of nobody else. */
static int sampled(struct auditns_touched *t, const struct frame_header *head)
{
    struct auditns_answer *a = known_of(t, head->pid);

    if (a && head->tid == head->pid)
        a->leaving = 1;
    return a && a->set;
}

/* Follow a frame: 0 it speaks of those whose numbers it has, 1 it changes nothing else, 2 it may speak of anybody, 3 it
 * speaks of nobody, but stamps are read otherwise behind it. */
static int follow(struct auditns_touched *t, const struct frame_header *head, const char *payload)
{
    if (head->kind == K_LOST)
        return 2;
    if (head->source == S_CN)
        return 1; /* where perf tells, the connector's word is not taken */
    switch (head->kind) {
    case K_FORK:
        return forked(t, head, payload);
    case K_EXEC:
        return execed(t, head);
    case K_EXIT:
        return exited(t, head);
    case K_EXIT_SAMPLE:
        return sampled(t, head);
    case K_NAMESPACES:
    case K_ATTACH:
    case K_NEWTASK:
    case K_UNSHARE:
    case K_SETNS:
    case K_PROC:
    case K_PROCESS:
        return 0;
    case K_MARK:
        if ((int64_t)head->arg > t->horizon)
            t->horizon = (int64_t)head->arg;
        return 1;
    case K_COMM:
    case K_CGROUP:
    case K_CHECK:
    case K_RULES: /* matters only where there are several execs or calls to choose from */
        return 1;
    case K_CLOCK:
        return 3;
    }
    return 2;
}

int auditns_follow(struct auditns_touched *t, const char *frames, uint64_t len, int every)
{
    struct frame_header head;
    int quiet = !every && t->known;

    if (every)
        t->all = ++t->now;
    for (uint64_t off = 0; len - off >= sizeof(head); off += head.size) {
        memcpy(&head, frames + off, sizeof(head));
        if (head.size < sizeof(head) || head.size > len - off) {
            t->all = ++t->now;
            return 0;
        }
        switch (every ? 1 : follow(t, &head, frames + off + sizeof(head))) {
        case 0:
            touch(t, head.pid);
            touch(t, head.tid);
            touch(t, head.ppid);
            touch(t, head.ptid);
            quiet = 0;
            break;
        case 2:
            t->all = ++t->now;
            quiet = 0;
            break;
        case 3:
            quiet = 0;
        }
        if (head.pid)
            mention(t, head.pid, head.time, head.kind == K_EXIT && head.tid == head.pid);
        if (head.tid != head.pid)
            mention(t, head.tid, head.time, head.kind == K_EXIT);
    }
    return quiet;
}

void auditns_exec_told(struct auditns_touched *t, int32_t pid, int all)
{
    struct auditns_answer *a = known_of(t, pid);

    if (a)
        a->exec = all ? 0 : -1;
}

/* Answers */

struct question {
    uint32_t careful;
    int64_t now, window;
};

/* Whether a record stamped at `time` and there at `now` can mean the one exec of `a`, and no other holder of the pid. As
 * attribution/exec_match.py has it, but narrower: a state that is as new as `since` may be a process that is. */
static int execed_since(const struct auditns_answer *a, const struct auditns_touched *t, int64_t time, int64_t now)
{
    int64_t last = time + EPSILON + LATE < now ? time + EPSILON + LATE : now;

    if (a->exec <= 0 || a->exec < time || a->exec > now || a->exec > last + EXEC_TIME)
        return 0;
    return a->since <= time || (a->since <= last && time >= t->horizon);
}

/* The answer for a point of which one is known. */
static struct auditns_answer *answer_of(struct auditns_touched *t, const struct auditns_points *p, uint32_t i,
                                        const struct question *q)
{
    const struct auditns_known *k = t->known;
    uint32_t flags = p->flags[i] & q->careful;
    struct auditns_answer *a = known_of(t, p->pid[i]);
    int64_t time;

    if (!a || flags & ~AUDITNS_P_EXEC || __builtin_mul_overflow(p->ms[i], MS, &time) ||
        __builtin_sub_overflow(time, k->offset, &time))
        return NULL;
    if (time < k->steady || time > q->now + SLACK || (flags && time <= q->now - RECENT))
        return NULL;
    time -= EPSILON;
    if (time <= k->gap || time > a->until)
        return NULL;
    if (flags)
        return execed_since(a, t, time, q->now) && a->missed != k->round && k->told_count < AUDITNS_ROWS ? a : NULL;
    return time > a->since || (a->newborn && a->since <= time + EPSILON + q->window && time >= t->horizon) ? a : NULL;
}

static int64_t window_of(const struct auditns_known *k, const struct auditns_points *p, uint32_t first, uint32_t end,
                         int64_t now)
{
    int64_t newest = INT64_MIN / MS, window;

    for (uint32_t i = first; i < end; i++)
        if (p->ms[i] > newest)
            newest = p->ms[i];
    if (__builtin_mul_overflow(newest, MS, &newest) || __builtin_add_overflow(now, k->offset, &window) ||
        __builtin_sub_overflow(window, newest, &window))
        return -EPSILON;
    return window < k->lag ? window : k->lag;
}

/* A record of the exec has come. */
static void tell(struct auditns_known *k, struct auditns_answer *a)
{
    k->told[k->told_count++] = (struct auditns_told){a->exec, a->pid};
    a->exec = 0;
}

static void take_back(struct auditns_known *k, uint32_t count)
{
    while (k->told_count > count) {
        const struct auditns_told *told = &k->told[--k->told_count];
        place_of(k, told->pid)->exec = told->time;
    }
}

uint32_t auditns_known_find(struct auditns_touched *t, const struct auditns_points *p, uint32_t first, uint32_t end,
                            uint32_t careful, int64_t now, uint32_t *choice, uint32_t *missed)
{
    struct auditns_known *k = t->known;
    struct question q = {careful, now, window_of(k, p, first, end, now)};
    uint32_t n = 0, told = k->told_count;

    k->round++;
    memset(k->counted, 0, sizeof(k->counted));
    for (uint32_t i = first; i < end; i++) {
        struct auditns_answer *a = answer_of(t, p, i, &q);

        if (a) {
            choice[i] = a->number;
            k->counted[a->kind & 3]++;
            if (p->flags[i] & careful)
                tell(k, a);
            continue;
        }
        if (!missed) {
            want(t, p->pid[i]);
            take_back(k, told);
            return 1;
        }
        missed[n++] = i;
        a = known_of(t, p->pid[i]);
        if (a) /* what is found out about this one comes before what is known of later ones */
            a->missed = k->round;
    }
    return n;
}

int64_t auditns_join(struct auditns_touched *t, const struct auditns_points *p, uint32_t consumed, uint32_t careful,
                     int64_t now, uint32_t *choice, const struct auditns_tails *tails, char *out, uint64_t room)
{
    uint32_t told = t->known->told_count;
    uint64_t size;

    if (auditns_known_find(t, p, 0, p->n, careful, now, choice, NULL))
        return -1;
    size = auditns_assemble(p->buf, consumed, p, choice, tails, NULL, 0, 0, out, room);
    if (size <= room)
        return (int64_t)size;
    take_back(t->known, told);
    return -1;
}

uint32_t auditns_known_put(struct auditns_known *k, const struct auditns_answer *answers, uint32_t count, uint64_t stamp)
{
    for (uint32_t i = 0; i < count; i++) {
        struct auditns_answer *a = room_for(k, answers[i].pid);
        if (!a)
            return i;
        *a = answers[i];
        a->stamp = stamp;
    }
    return count;
}

void auditns_known_move(struct auditns_known *k, const struct auditns_known *former, const struct auditns_touched *t,
                        int64_t since)
{
    for (uint32_t i = 0; i < 1u << former->bits; i++) {
        const struct auditns_answer *a = &former->answer[i];
        if (a->pid && holds(a, t) && a->until >= since)
            auditns_known_put(k, a, 1, a->stamp);
    }
}
