/* Answers that still hold, so that correlate.py need not ask for them again; known.py says what for. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "kernel_frames.h"
#include "text_decl.h"

#define MS 1000000

static uint64_t *slot_of(struct auditns_touched *t, int32_t pid)
{
    return &t->slot[(uint32_t)pid % AUDITNS_TOUCHED];
}

/* Whom a frame speaks of: 0 nobody, 1 those whose numbers it has, 2 it may be anybody. */
static int reach(const struct frame_header *head)
{
    switch (head->kind) {
    case K_LOST:
        return 2;
    case K_FORK:
    case K_EXEC:
    case K_EXIT:
    case K_EXIT_SAMPLE:
    case K_NAMESPACES:
    case K_ATTACH:
    case K_NEWTASK:
    case K_UNSHARE:
    case K_SETNS:
    case K_PROC:
    case K_PROCESS:
        return 1;
    case K_COMM:
    case K_CGROUP:
    case K_CLOCK:
        return 0;
    case K_MARK:
        return head->arg ? 2 : 0;
    }
    return head->source == S_CN ? 0 : 2; /* where perf tells, the connector's word is not taken */
}

void auditns_touch(struct auditns_touched *t, const char *frames, uint64_t len, int every)
{
    struct frame_header head;

    t->now++;
    if (every)
        t->all = t->now;
    for (uint64_t off = 0; t->all != t->now && len - off >= sizeof(head); off += head.size) {
        memcpy(&head, frames + off, sizeof(head));
        if (head.size < sizeof(head) || head.size > len - off) {
            t->all = t->now;
            return;
        }
        switch (reach(&head)) {
        case 2:
            t->all = t->now;
            break;
        case 1:
            *slot_of(t, head.pid) = *slot_of(t, head.tid) = t->now;
            *slot_of(t, head.ppid) = *slot_of(t, head.ptid) = t->now;
        }
    }
}

static int holds(const struct auditns_answer *a, const struct auditns_touched *t)
{
    return t->all <= a->stamp && t->slot[(uint32_t)a->pid % AUDITNS_TOUCHED] <= a->stamp;
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

uint32_t auditns_known_find(const struct auditns_known *k, const struct auditns_touched *t,
                            const struct auditns_points *p, uint32_t first, uint32_t end, uint32_t careful,
                            int64_t less, uint32_t *choice, uint32_t *missed)
{
    uint32_t n = 0;

    for (uint32_t i = first; i < end; i++) {
        int64_t time;
        if (!(p->flags[i] & careful) && p->pid[i] > 0 && !__builtin_mul_overflow(p->ms[i], MS, &time) &&
            !__builtin_sub_overflow(time, less, &time)) {
            const struct auditns_answer *a = place_of(k, p->pid[i]);
            if (a->pid && time > a->from && time <= a->until && holds(a, t)) {
                choice[i] = a->number;
                continue;
            }
        }
        missed[n++] = i;
    }
    return n;
}

uint32_t auditns_known_put(struct auditns_known *k, const struct auditns_answer *answers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct auditns_answer *a = place_of(k, answers[i].pid);
        if (!a->pid) {
            if (k->used >= 1u << (k->bits - 1))
                return i;
            k->used++;
        }
        *a = answers[i];
    }
    return count;
}

void auditns_known_move(struct auditns_known *k, const struct auditns_known *former, const struct auditns_touched *t)
{
    for (uint32_t i = 0; i < 1u << former->bits; i++)
        if (former->answer[i].pid && holds(&former->answer[i], t))
            auditns_known_put(k, &former->answer[i], 1);
}
