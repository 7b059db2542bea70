/* libFuzzer: segments of the archive. A first byte below 128: text is collected, put into blocks and read back, and held
 * against itself; else tables, filters and rows of an index as a damaged file may have them. Held besides what the
 * sanitizers hold: what was sealed comes back byte for byte, and what a table says lies in its text. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "archive/archive_impl.h"
#include "fuzz_types.h" /* made by run.py from vocabulary/record_types.py and emit/fields.py */

#define CAP 65536
#define BLOCKS 4096

static struct auditns_points points;

#define ARRAYS(X) X(ms) X(exit) X(serial) X(flags) X(at) X(hdr_off) X(node_off) X(line_off) X(aux1_off) X(aux2_off) \
    X(key_off) X(event) X(arch) X(aux1_len) X(aux2_len) X(key_len) X(lead_len) X(trail_off) X(trail_len) X(origin) X(pid) X(ppid) \
    X(sysno) X(hdr_len) X(node_len) X(rtype) X(recno)
#define LINE_ARRAYS(X) X(l_off) X(l_len) X(l_event) X(l_body) X(l_type)

static void hold(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

static void *memory(size_t count, size_t size)
{
    void *found = calloc(count + !count, size); /* of its exact size: a step past its end is seen */

    hold(found != NULL, "memory");
    return found;
}

static void start(void)
{
    auditns_text_types(type_names, type_numbers, TYPE_COUNT);
#define MAKE(f) points.f = memory(CAP, sizeof(*points.f));
    ARRAYS(MAKE)
    LINE_ARRAYS(MAKE)
    points.cap = points.line_cap = CAP;
}

/* Events of a block are chosen, and put in their order. */
static void choose(const char *text, const uint32_t *starts, const uint32_t *positions, uint32_t events)
{
    static const char words[] = "type=a0";
    static const uint32_t off[] = {0, 5, 7};
    uint32_t size = events ? starts[events] : 0, n = 0;
    uint8_t *keep = memory(events, 1), *late = memory(events, 1);
    struct archive_part part = {text, starts, positions, events, keep};
    struct archive_found found = {memory(size, 1), memory(events, sizeof(*found.row)), 0, size, 0, events};
    uint32_t *less = memory(events + 1, sizeof(*less)), *places = memory(events, sizeof(*places));
    char *out = memory(size, 1);
    uint64_t copied, all = 0;

    memset(keep, 1, events);
    hold(archive_late(&part, late) <= events, "no more are late than there are");
    hold(archive_add(&found, &part) && found.used == size && found.rows == events, "all are taken in");
    hold(archive_sort(&found), "memory");
    for (uint32_t i = 0; i < events; i++)
        hold(!i || found.row[i - 1].position <= found.row[i].position, "in the order of the text");
    for (uint32_t at = 0, next; at < events; at = next) {
        next = archive_copy(&found, at, out, size, &copied);
        hold(next > at && copied <= size, "some are copied, and no more than there is room for");
        all += copied;
    }
    hold(all == size, "all are copied");
    archive_mark(&part, words, off, 2);
    uint32_t kept = archive_less(&part, out, less, places);
    for (uint32_t i = 0; i < events; i++)
        n += keep[i];
    hold(n == kept && less[kept] <= size, "those that are kept, alone");
    free(keep);
    free(late);
    free(found.text);
    free(found.row);
    free(less);
    free(places);
    free(out);
}

/* A block as it is read: `whole` text of its segment, where that is known. */
static int read_block(const uint8_t *table, uint64_t len, uint32_t events, const char *text, uint32_t size,
                      const struct archive_window *whole)
{
    uint32_t *starts = memory(events + 1, sizeof(*starts)), *positions = memory(events, sizeof(*positions));
    uint32_t *groups = memory(events, sizeof(*groups));
    int good = archive_open(table, len, events, size, starts, positions, groups);

    if (good) {
        hold(starts[events] == size, "all of the text is somebody's");
        for (uint32_t i = 0; i < events; i++)
            hold(starts[i] < starts[i + 1], "an event has text");
        choose(text, starts, positions, events);
    }
    hold(!archive_scatter(table, len, events, text, size, whole, 0) || good, "what can be put back can be read");
    free(starts);
    free(positions);
    free(groups);
    return good;
}

/* ---- what was sealed comes back ---- */

static void seal(struct archive_text *a)
{
    uint32_t *order = memory(a->events, sizeof(*order));
    struct archive_block *blocks = memory(BLOCKS, sizeof(*blocks));
    int64_t count = archive_plan(a, order, 2000, blocks, BLOCKS);
    char *back = memory(a->size, 1);
    uint8_t *covered = memory(a->size / 8 + 1, 1);
    struct archive_window window = {back, covered, 0, a->size};
    uint32_t rows = 64, ends = 1;

    hold(count >= 0 && count <= BLOCKS, "blocks");
    for (int64_t i = 0; i < count; i++) {
        uint64_t room = archive_block_table(a, order, &blocks[i], NULL, 0);
        uint8_t *table = memory(room, 1);
        room = archive_block_table(a, order, &blocks[i], table, room);
        uint64_t most = archive_block_text(a, order, &blocks[i], NULL, 0);
        char *text = memory(most, 1);
        uint64_t size = archive_block_text(a, order, &blocks[i], text, most);
        hold(size <= most, "no more text than was said");
        uint8_t *exact = memory(room, 1);
        memcpy(exact, table, room);
        hold(read_block(exact, room, blocks[i].count, text, (uint32_t)size, &window), "a block is read");
        free(exact);
        free(table);
        free(text);
    }
    hold(archive_next(covered, a->size, 0, 0) == a->size && !memcmp(back, a->text, a->size), "the text comes back");
    archive_block_terms(a, order, blocks, (uint32_t)count);
    uint8_t *filter = memory(archive_filter_size(rows, (uint32_t)count), 1);
    archive_filter_make(a, order, blocks, (uint32_t)count, rows, filter);
    for (int64_t i = 0; i < count; i++) {
        const struct archive_event *e = &a->event[order[blocks[i].first]];
        uint64_t found[BLOCKS / 64];
        memset(found, 255, sizeof(found));
        if (!e->terms)
            continue;
        hold(!archive_filter(filter, rows, (uint32_t)count, &a->term[e->term], &ends, 1, found), "no row is damaged");
        hold(found[i / 64] >> i % 64 & 1, "a block that has a term is found by it");
    }
    free(filter);
    free(order);
    free(blocks);
    free(back);
    free(covered);
}

static void collect(const uint8_t *data, size_t size, uint8_t how)
{
    char *text = memory(size, 1);
    struct auditns_scan scan = {.awaits = how % 3};
    struct archive_text a = {.text = text, .size = size, .seed = 7, .most_tallies = how & 4 ? 8 : 1000, .most_infos = 16};
    size_t from = 0, end = 0, piece = how & 8 ? 700 : size;

    memcpy(text, data, size);
    scan.patient = scan.awaits;
    points.n = points.line_n = points.used = points.line_used = points.total = points.line_total = 0;
    hold(auditns_scan_whole(&scan, &points, how & 16 ? 2000 : 1 << 24, how & 32 ? 3 : 300), "memory");
    for (int mode = AUDITNS_MODE_MORE; mode != AUDITNS_MODE_EOF;) {
        end = size - end > piece ? end + piece : size;
        mode = end < size ? AUDITNS_MODE_MORE : AUDITNS_MODE_EOF;
        points.buf = text + from;
        points.len = (uint32_t)(end - from);
        int64_t consumed = auditns_scan(&scan, &points, text + from, (uint32_t)(end - from), mode);
        hold(consumed >= 0, "memory");
        hold(archive_take(&a, &points, from), "memory");
        from += (size_t)consumed;
    }
    seal(&a);
    archive_free(&a);
    auditns_scan_free(&scan);
    free(text);
}

/* ---- what is damaged is refused ---- */

static void damaged(const uint8_t *data, size_t size, uint8_t how)
{
    size_t len = (size_t)data[0] % (size + 1), begin = data[1], room = 1 + (size_t)data[2] * 4;
    uint8_t *table = memory(len, 1), *covered = memory(room / 8 + 1, 1);
    char *text = memory(size - len, 1), *out = memory(room, 1);
    struct archive_window window = {out, covered, begin << (how & 7), room};

    memcpy(table, data, len);
    memcpy(text, data + len, size - len);
    read_block(table, len, data[3], text, (uint32_t)(size - len), &window);
    memset(covered, 0, room / 8 + 1);
    archive_scatter(table, len, data[3], text, size - len, &window, 1);
    for (uint64_t at = 0, next; at < room; at = next + 1)
        next = archive_next(covered, room, at, (int)(at & 1));
    free(table);
    free(covered);
    free(text);
    free(out);
}

static void index_rows(const uint8_t *data, size_t size)
{
    uint32_t blocks = 1 + data[0] % 130, rows = 1 + data[1] % 3, words = (blocks + 63) / 64, ends[] = {1, 2};
    uint32_t terms[] = {data[2], data[3] * 77777u};
    uint64_t room = archive_filter_size(rows, blocks), *found = memory(words, sizeof(*found));
    uint8_t *filter = memory(room, 1), groups[16];
    struct archive_entry *entries = memory(blocks, sizeof(*entries));
    uint32_t *out = memory(blocks, sizeof(*out));

    memcpy(filter, data, size < room ? size : room);
    memcpy(entries, data, size < blocks * sizeof(*entries) ? size : blocks * sizeof(*entries));
    memset(found, 255, words * sizeof(*found));
    archive_filter(filter, rows, blocks, terms, ends, 2, found);
    for (uint32_t i = 0; i < sizeof(groups); i++)
        groups[i] = data[i % size] & 1;
    uint32_t n = archive_pick(entries, blocks, found, data[0], data[1] << 8, data[2] & 1 ? groups : NULL, sizeof(groups), out);
    hold(n <= blocks, "no more are picked than there are");
    for (uint32_t i = 0; i < n; i++)
        hold(out[i] < blocks && (!i || out[i - 1] < out[i]), "in their order");
    free(found);
    free(filter);
    free(entries);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!points.cap)
        start();
    if (size < 6 || size > 60000)
        return 0;
    if (data[0] < 128)
        collect(data + 1, size - 1, data[0]);
    else if (data[0] & 64)
        damaged(data + 1, size - 1, data[0]);
    else
        index_rows(data + 1, size - 1);
    return 0;
}
