/* Events of blocks that are wanted: which may be, which are, and all of a segment in the order of its text. */
#include "archive/archive_impl.h"

static uint32_t row_at(const struct archive_part *part, uint64_t off, uint32_t from)
{
    uint32_t low = from, high = part->events;

    if (from + 1 < part->events && off < part->starts[from + 1] && off >= part->starts[from])
        return from;
    if (off < part->starts[from])
        low = 0;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (part->starts[middle] <= off)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void archive_mark(const struct archive_part *part, const char *needles, const uint32_t *off, uint32_t count)
{
    uint32_t row = 0, end = part->events ? part->starts[part->events] : 0;

    for (uint32_t at = 0; row < part->events; row++) {
        int64_t found = auditns_find(part->text + at, end - at, needles, off, count);
        uint32_t next = found < 0 ? part->events : row_at(part, at + (uint64_t)found, row);
        memset(part->keep + row, 0, next - row);
        row = next;
        at = row < part->events ? part->starts[row + 1] : end;
    }
}

/* What stands in the first brackets of an event's first line. */
static struct span stamp_of(const struct archive_part *part, uint32_t row)
{
    const char *line = part->text + part->starts[row];
    uint32_t len = part->starts[row + 1] - part->starts[row];
    const char *start = memchr(line, '(', len), *stop = start ? memchr(start, ')', (size_t)(line + len - start)) : NULL;

    return (struct span){start, stop ? (uint32_t)(stop - start) : 0};
}

static int head_of(const struct archive_part *part, uint32_t row, struct auditns_head *head)
{
    const char *line = part->text + part->starts[row];
    uint32_t len = part->starts[row + 1] - part->starts[row];
    const char *stop = memchr(line, '\n', len);

    return auditns_head(line, stop ? (uint32_t)(stop - line) : len, head);
}

static int are_one(const struct archive_part *part, uint32_t x, uint32_t y)
{
    struct auditns_head a, b;

    return head_of(part, x, &a) && head_of(part, y, &b) && a.ms == b.ms && a.serial == b.serial &&
           a.node_len == b.node_len &&
           !memcmp(part->text + part->starts[x] + a.node_off, part->text + part->starts[y] + b.node_off, a.node_len);
}

uint32_t archive_late(const struct archive_part *part, uint8_t *late)
{
    struct span before = part->events ? stamp_of(part, 0) : NO_SPAN;
    uint32_t n = 0;

    for (uint32_t i = 1; i < part->events; i++) {
        struct span here = stamp_of(part, i);
        late[i] = here.len && same_span(before, here) && are_one(part, i - 1, i);
        n += late[i];
        before = here;
    }
    return n;
}

void archive_lines(const struct archive_part *part, const struct auditns_points *p, const uint8_t *wanted, uint32_t first,
                   uint32_t count, uint8_t *found)
{
    uint32_t row = 0;

    for (uint32_t i = 0; part->events && i < p->line_n; i++) {
        if (p->l_event[i] - first >= count || !wanted[p->l_event[i] - first])
            continue;
        row = row_at(part, p->l_off[i], row);
        found[row] = 1;
    }
}

/* The rows from `row` on that are kept one behind the other: where they end. */
static uint32_t run_of(const struct archive_part *part, uint32_t row)
{
    const uint8_t *stop = memchr(part->keep + row, 0, part->events - row);
    return stop ? (uint32_t)(stop - part->keep) : part->events;
}

static uint32_t next_kept(const struct archive_part *part, uint32_t row)
{
    const uint8_t *found = row < part->events ? memchr(part->keep + row, 1, part->events - row) : NULL;
    return found ? (uint32_t)(found - part->keep) : part->events;
}

uint32_t archive_less(const struct archive_part *part, char *text, uint32_t *starts, uint32_t *positions)
{
    uint32_t n = 0, used = 0;

    for (uint32_t row = next_kept(part, 0), end; row < part->events; row = next_kept(part, end)) {
        end = run_of(part, row);
        uint32_t from = part->starts[row], len = part->starts[end] - from;
        memcpy(text + used, part->text + from, len);
        for (; row < end; row++) {
            starts[n] = used + part->starts[row] - from;
            positions[n++] = part->positions[row];
        }
        used += len;
    }
    starts[n] = used;
    return n;
}

int archive_add(struct archive_found *f, const struct archive_part *part)
{
    for (uint32_t row = next_kept(part, 0), end; row < part->events; row = next_kept(part, end)) {
        end = run_of(part, row);
        uint32_t from = part->starts[row], len = part->starts[end] - from;
        if (len > f->room - f->used || end - row > f->row_room - f->rows)
            return 0;
        memcpy(f->text + f->used, part->text + from, len);
        for (; row < end; row++)
            f->row[f->rows++] = (struct archive_row){f->used + part->starts[row] - from, part->positions[row],
                                                     part->starts[row + 1] - part->starts[row]};
        f->used += len;
    }
    return 1;
}

int archive_sort(struct archive_found *f)
{
    struct key *keys = malloc(((size_t)f->rows + 1) * sizeof(*keys));
    struct archive_row *rows = malloc(((size_t)f->rows + 1) * sizeof(*rows));
    int there = keys && rows;

    for (uint32_t i = 0; there && i < f->rows; i++)
        keys[i] = (struct key){f->row[i].position, i};
    there = there && archive_order(keys, f->rows);
    for (uint32_t i = 0; there && i < f->rows; i++)
        rows[i] = f->row[keys[i].number];
    if (there)
        memcpy(f->row, rows, f->rows * sizeof(*rows));
    free(keys);
    free(rows);
    return there;
}

uint32_t archive_copy(const struct archive_found *f, uint32_t first, char *out, uint64_t room, uint64_t *size)
{
    uint32_t i = first;

    for (*size = 0; i < f->rows && f->row[i].len <= room - *size;) {
        const struct archive_row *row = &f->row[i];
        uint64_t len = 0;
        /* what stands there one behind the other, too, is copied at once */
        for (; i < f->rows && f->row[i].off == row->off + len && f->row[i].len <= room - *size - len; i++)
            len += f->row[i].len;
        memcpy(out + *size, f->text + row->off, len);
        *size += len;
    }
    return i;
}
