/* The programs that records of execs name: of the one exec that each record means, where rows have it. The rules are those
 * of auditns_connector/attribution/exec_programs.py, which is asked about all others. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/audittext.h"
#include "attribution/row_lookup.h"
#include "attribution/row_lookup_impl.h"

#define EXE " exe="

struct words {
    const char *at;
    uint32_t len;
};

/* What stands between quotes at `at`; 0 where there are none, for it is in hexadecimal, or no text. */
static int quoted(const char *at, const char *stop, struct words *found)
{
    const char *end;

    if (at >= stop || *at != '"' || !(end = memchr(at + 1, '"', (size_t)(stop - at - 1))))
        return 0;
    *found = (struct words){at + 1, (uint32_t)(end - at - 1)};
    return 1;
}

/* The exe= of the SYSCALL of point i: behind its comm=, in which there is no space. */
static int exe_of(const struct auditns_points *p, uint32_t i, struct words *exe)
{
    const char *at = p->buf + p->aux1_off[i] + p->aux1_len[i], *stop = p->buf + p->len, *line;

    if (p->aux1_off[i] < p->line_off[i] || p->aux1_off[i] + p->aux1_len[i] > p->len)
        return 0;
    if ((line = memchr(at, '\n', (size_t)(stop - at))))
        stop = line;
    at = memmem(at, (size_t)(stop - at), EXE, sizeof(EXE) - 1);
    return at && quoted(at + sizeof(EXE) - 1, stop, exe);
}

/* What the record of point i says of its exec; 0 where it is not said as it is by most. */
static int record_of(const struct row_lookup *l, const struct auditns_points *p, uint32_t i, struct exec *named,
                     struct words *exe)
{
    const char *stop = p->buf + p->len;
    struct words file, comm;

    if (p->flags[i] & AUDITNS_P_NODE || p->trail_len[i] > 1 || !p->aux1_len[i] || !p->aux2_len[i] ||
        !quoted(p->buf + p->aux1_off[i], stop, &comm) || !quoted(p->buf + p->aux2_off[i], stop, &file))
        return 0;
    if (comm.len > TABLE_COMM || !exe_of(p, i, exe))
        return 0;
    named->file = table_hash(l->table, file.at, file.len);
    memset(named->comm, 0, TABLE_COMM);
    memcpy(named->comm, comm.at, comm.len);
    return 1;
}

int64_t lookup_programs(const struct row_lookup *l, const struct auditns_points *p, uint32_t first, uint32_t end,
                        int64_t now, uint8_t *frames, uint64_t room, uint32_t *missed, uint32_t *missing)
{
    int64_t size = 0, time, consumed;

    *missing = 0;
    for (uint32_t i = first; i < end; i++) {
        struct exec named;
        struct words exe;

        if (!(p->flags[i] & AUDITNS_P_EXEC) || p->pid[i] <= 0)
            continue;
        int clear = record_of(l, p, i, &named, &exe) && stamp_of(l, p, i, now, &time), found = 0;

        if (clear && exe.len && *exe.at == '/')
            found = only_exec(l, p->pid[i], time, until_of(l, p, i, now), &named, &consumed) != 0;
        if (!found) { /* with others of that pid than rows, these do not say that none is meant */
            if (!clear || !all_rows(l->table, p->pid[i]))
                missed[(*missing)++] = i;
            continue;
        }
        struct frame_header head = {.size = (uint32_t)((sizeof(head) + exe.len + 8) & ~(size_t)7), .kind = K_EXE,
                                    .source = S_AUDIT, .cpu = CPU_UNKNOWN, .time = (uint64_t)now, .pid = p->pid[i],
                                    .arg = (uint64_t)consumed};
        if ((uint64_t)size + head.size > room)
            return -1;
        memset(frames + size, 0, head.size); /* at least one NUL stands behind the name */
        memcpy(frames + size, &head, sizeof(head));
        memcpy(frames + size + sizeof(head), exe.at, exe.len);
        size += head.size;
    }
    return size;
}
