/* libFuzzer: audit text through the scanner, the assembler and the JSON writer.
 *
 * The first bytes choose how the text is cut into pieces and whether whole events are asked for. Held besides what the
 * sanitizers hold: what comes out, less what was put in, is what went in; JSON is ASCII, one object a line. */
#define _GNU_SOURCE /* memmem */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "frames/frames.h"
#include "audittext/audittext.h"
#include "table/table.h"
#include "attribution/row_lookup.h"
#include "attribution/group.h"
#include "attribution/said.h"
#include "attribution/clone_result.h"
#include "json/json.h"
#include "query/query.h"
#include "fuzz_types.h" /* made by run.py from vocabulary/record_types.py and emit/fields.py */

#define CAP 65536

static const char tail[] = "type=CONTAINER_ID \0 contid=1\n\1type=NS_INFO \0 x\n";
static const uint32_t tail_off[] = {0, 29, sizeof(tail) - 1};
static const uint8_t headers[] = {1, 1}, nodes[] = {0, 1}, none[] = {0};
static const struct auditns_tails tails = {tail, tail_off, headers, nodes, 2};
static const char said[] = "\"contid\":\"1\",\"key\":\"\2\"";
static const uint32_t said_off[] = {0, sizeof(said) - 1};
static const struct auditns_tails texts = {said, said_off, none, none, 1};

static struct auditns_points points;
static struct auditns_json *json;

#define ARRAYS(X) X(ms) X(exit) X(serial) X(flags) X(at) X(hdr_off) X(node_off) X(line_off) X(aux1_off) X(aux2_off) \
    X(key_off) X(event) X(arch) X(aux1_len) X(aux2_len) X(key_len) X(lead_len) X(trail_off) X(trail_len) X(origin) X(pid) X(ppid) \
    X(sysno) X(hdr_len) X(node_len) X(rtype) X(recno)
#define LINE_ARRAYS(X) X(l_off) X(l_len) X(l_event) X(l_body) X(l_type)

static void start(void)
{
    auditns_text_types(type_names, type_numbers, TYPE_COUNT);
    auditns_json_names(field_names, field_kinds, FIELD_COUNT);
    json = auditns_json_new(7);
#define MAKE(f) points.f = calloc(CAP, sizeof(*points.f));
    ARRAYS(MAKE)
    LINE_ARRAYS(MAKE)
    points.cap = points.line_cap = CAP;
}

static void hold(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

/* What is found about the points fits them. */
static void measure(const char *block, uint32_t consumed)
{
    static int32_t pid[CAP];
    static uint32_t first[CAP], count[CAP], flags[CAP], group[CAP], slots[4 * CAP], numbers[CAP], spread[CAP], which[CAP];
    static int64_t low[CAP], high[CAP];
    struct auditns_groups groups = {0x9e3779b97f4a7c15u, CAP, first, count, flags, pid, low, high,
                                    which, group, slots};
    struct auditns_range range;
    uint64_t uses = 0, lines = 0;
    for (uint32_t i = 0; i < points.n; i++)
        which[i] = i;
    uint32_t n = auditns_group(&groups, &points, points.n, AUDITNS_P_EXEC);

    hold(n <= points.n, "no more groups than points");
    for (uint32_t i = 0; i < n; i++)
        numbers[i] = i;
    auditns_spread(&groups, numbers, points.n, spread);
    auditns_range(&points, 0, points.n, &range);
    for (uint32_t i = 0; i < points.n; i++) {
        uint32_t g = spread[i];
        hold(g < n && (first[g] == i || points.pid[first[g]] == points.pid[i]), "a group is of one process");
        hold(low[g] <= points.ms[i] && points.ms[i] <= high[g], "a group's times are those of its points");
        hold(range.low <= points.serial[i] && points.serial[i] <= range.high, "all lie in the range");
    }
    for (uint32_t i = 0; i < n; i++)
        uses += count[i];
    hold(uses == points.n, "each point is in a group");
    static const char words[] = "openexec";
    static const uint32_t words_off[] = {0, 4, 8};
    static uint8_t found[CAP], types[65536], kept[4096];
    uint32_t event, events;
    auditns_events(&points, &event, &events);
    auditns_keys(&points, block, words, words_off, 2, found);
    types[1300] = types[1302] = 1;
    if (events <= sizeof(kept)) {
        auditns_keep(&points, found, event, events, kept);
        auditns_keep_types(&points, types, event, events, kept);
    }
    for (uint32_t i = 0; i < consumed; i++)
        lines += block[i] == '\n';
    hold(auditns_lines(block, consumed) == lines, "lines are counted");
}

/* Calls are found, and what they returned. */
static void call(struct table *table, const uint32_t *rows)
{
    static const uint32_t arch[] = {0xc000003e, 0};
    static uint8_t wanted[2 * 400];
    static const uint8_t space[] = {0, CLONE_SPACE_INITIAL, CLONE_SPACE_OTHER};
    static uint32_t found[CAP];
    static int32_t result[CAP];
    struct clone_calls calls = {table, 2, 400, arch, wanted, space, 1 + points.n % 3, 0, INT64_MAX / 4, 1 << 30};

    memset(wanted + 40, 1, 100);
    memset(wanted + 400, 1, 400);
    uint32_t n = clone_results(&calls, &points, 0, points.n, points.n % 2 ? rows : NULL, found, result);
    hold(n <= points.n, "no more calls than points");
    for (uint32_t i = 0; i < n; i++) {
        hold(found[i] < points.n && (!i || found[i - 1] < found[i]), "in their order");
        hold(result[i] >= CLONE_READ - 2, "a number, or what there is to be asked");
    }
    auditns_pick_numbers(found, n, points.flags, found);
}

/* Rows answer those points that they can, all or some; the others are missed, in their order. */
static void answer(void)
{
    static struct table *table;
    static struct said *said;
    static uint32_t choice[CAP], missed[CAP], rows[CAP], states[CAP], spread[CAP];
    static uint8_t found[CAP], raw[TABLE_RAW];
    static const uint8_t answered[4] = {0, 1, 1, 1};
    struct row_lookup lookup = {.steady = INT64_MIN, .gap = INT64_MIN, .lag = 1 << 20, .said_generation = 1};
    uint32_t answers = 0, version;

    if (!table) {
        hold((table = table_new(7)) != NULL && (said = said_new(7)) != NULL, "memory");
        for (int kind = 0; kind < 2; kind++)
            table_profile_child(table, table_profile_add(table, raw, 0, 0, 1), 1);
    }
    lookup.table = table;
    for (uint32_t i = 0; i < points.n && i < 4096; i++) {
        struct table_exec_row exec = {.time = (uint64_t)i, .file = i};
        struct table_row row = {.pid = points.pid[i], .since = i % 7, .profile = 1 + i % 2, .execs = i % 2, .early = i % 3 > 0};
        if (row.pid <= 0 || row.pid >= TABLE_PIDS || table_find(table, row.pid, &version))
            continue;
        uint32_t at = table_pack(table, &row, &exec, NULL, NULL);
        hold(at, "memory");
        table_answer(table, at, 1 + i % 3, (uint8_t)i);
    }
    uint32_t n = lookup_find(&lookup, &points, 0, points.n, AUDITNS_P_EXEC, points.n ? points.ms[0] : 0, choice, NULL);
    hold(n <= 1, "all or none");
    memset(rows, 0, points.n * sizeof(*rows));
    memset(states, 0, points.n * sizeof(*states));
    lookup.said = said;
    lookup.rows = rows;
    lookup.texts = states;
    for (int64_t before = 0; before < 2; before++) { /* what is put is found the next time */
        n = lookup_nobody(&lookup, &points, 0, points.n, AUDITNS_P_EXEC | AUDITNS_P_OWN, before << 60, 1, choice, missed);
        for (uint32_t i = 0; i < n; i++)
            said_put(said, missed[i], 1 + i % 3, 1 + i % 2, 1);
    }
    n = lookup_find(&lookup, &points, 0, points.n, AUDITNS_P_EXEC | AUDITNS_P_OWN, 7, choice, missed);
    for (uint32_t i = 0; i < n; i++)
        said_put(said, missed[i], 1 + i % 3, i % 3, 1);
    n = lookup_find(&lookup, &points, 0, points.n, AUDITNS_P_EXEC | AUDITNS_P_OWN, 7, choice, missed);
    hold(n <= points.n, "no more are missed than asked for");
    hold(table->wanted <= sizeof(table->wanted_pid) / sizeof(*table->wanted_pid), "no more than there is room for");
    for (uint32_t i = 0; i < n; i++) {
        hold(missed[i] < points.n && (!i || missed[i - 1] < missed[i]), "in their order");
        choice[missed[i]] = 0;
    }
    auditns_pick(choice, points.n, answered, found);
    for (uint32_t i = 0; i < points.n; i++)
        answers += found[i] || /* an EOE that is late is about nobody */
                   (points.flags[i] & (AUDITNS_P_LATE | AUDITNS_P_SUBJECT | AUDITNS_P_TARGET)) == AUDITNS_P_LATE;
    hold(answers + n == points.n, "the others are answered");
    for (uint32_t i = 0; i < points.n; i++)
        hold(!rows[i] || !states[i], "a row has answered it, or the text");
    said_spread(states, points.n, tail_off, spread);
    call(table, rows);
    for (uint32_t i = 0; i < points.n; i++) {
        uint32_t row = table_find(table, points.pid[i], &version);
        if (row)
            table_unpack(table, row);
    }
    hold(!table->processes, "no row is left");
    table->effects = table->wanted = 0;
}

/* Text in its order: assembled twice, once with nothing put in. */
static void take_plain(const char *block, const uint32_t *choice, const uint32_t *nothing)
{
    char *out = NULL;
    uint32_t begun = points.out_from, end = points.out_end; /* what stands before was handed out with the block before */
    uint64_t size = auditns_assemble(block, end, &points, nothing, &tails, NULL, 0, 0, NULL, 0);
    hold(begun <= end && size == end - begun, "nothing put in, nothing changed");
    size = auditns_assemble(block, end, &points, choice, &tails, NULL, 0, 0, NULL, 0);
    hold(size >= end - begun && (out = malloc(size + 1)), "text only grows");
    hold(auditns_assemble(block, end, &points, choice, &tails, NULL, 0, 0, out, size) == size, "its size is foretold");
    uint64_t at = begun;
    for (uint64_t i = 0; i < size && at < end; i++)
        at += out[i] == block[at];
    hold(at == end, "what went in is there, in order");
    free(out);
}

/* Whole events are asked for their values, whose they are, and what they say of containers. */
static void ask(const char *block)
{
    static const struct auditns_field field[] = {{"name", 4, 0, AUDITNS_FIELD_KERNEL | AUDITNS_FIELD_JOINED},
                                                 {"cwd", 3, 0, AUDITNS_FIELD_KERNEL | AUDITNS_FIELD_PREFIX},
                                                 {"exe", 3, 1, AUDITNS_FIELD_KERNEL | AUDITNS_FIELD_MESSAGE},
                                                 {"key", 3, 1, AUDITNS_FIELD_KERNEL}};
    static struct auditns_values values = {.field = field, .fields = 4, .argv = 2, .cap = 4 * CAP};
    static uint64_t of_type[65536], serial[CAP], found[8], next;
    static uint32_t event[4 * CAP], number[4 * CAP], first[CAP], lines[CAP], who[CAP], rows[CAP], own;
    static uint8_t column[4 * CAP], mine[CAP], good[CAP], ours[65536];
    static int64_t ms[CAP];
    static struct auditns_strings *people;
    static struct auditns_seen seen;
    static const char words[] = "contid=msg=audit(";
    static const uint32_t off[] = {0, 7, 17};

    if (!people) {
        hold((people = auditns_strings_new(7)) != NULL, "memory");
        for (int i = 0; i < 3; i++)
            hold((values.strings[i] = auditns_strings_new(7)) != NULL, "memory");
        for (uint32_t i = 0; i < 65536; i++)
            of_type[i] = 15;
        values.of_type = of_type;
        values.event = event;
        values.number = number;
        values.column = column;
        values.room_len = 1 << 18;
        hold((values.room = malloc(values.room_len)) != NULL, "memory");
    }
    uint32_t n = auditns_query_events(&points, rows, first, lines, ms, serial, mine);
    hold(n <= points.line_n, "no more events than lines");
    hold(auditns_values(&values, &points) == 0, "there is room for all values");
    for (uint32_t i = 0; i < values.n; i++)
        hold(event[i] < n && number[i] && number[i] <= auditns_strings_count(values.strings[column[i]]), "a value has its text");
    uint8_t *verdict = calloc(1, auditns_strings_count(values.strings[1]) + 1);
    hold(verdict != NULL, "memory");
    auditns_values_good(&values, 1, verdict, good);
    free(verdict);
    hold(auditns_who(&points, people, who), "memory");
    for (uint32_t i = 0; i < points.n; i++)
        hold(who[i] < AUDITNS_WHO_FIRST + auditns_strings_count(people), "a process has its holder");
    for (next = own = 0; next < points.len;) {
        uint64_t before = next;
        n = auditns_infos(block, points.len, &seen, &next, &own, found, 8);
        hold(next > before, "it goes on");
        for (uint32_t i = 0; i < n; i++)
            hold(found[i] < points.len && (!found[i] || block[found[i] - 1] == '\n'), "a line begins there");
    }
    int64_t at = auditns_find(block, points.len, words, off, 2);
    const char *one = memmem(block, points.len, words, 7), *other = memmem(block, points.len, words + 7, 10);
    hold(at == (one && (!other || one < other) ? one - block : other ? other - block : -1), "it is where it is");
    auditns_has_time(block, points.len, 1, 2);
    memset(ours + 1300, 1 + points.n % 3, 100);
    n = said_alone(&points, ours, rows);
    hold(said_lines(&points, ours, rows) >= n, "some of them stand alone");
    auditns_strings_clear(people);
    for (int i = 0; i < 3; i++)
        auditns_strings_clear(values.strings[i]);
}

/* Whole events: as JSON, all and some, and as text. */
static void take_listed(const char *block, uint32_t consumed, const uint32_t *choice, const uint32_t *who)
{
    const uint32_t alone[] = {points.line_n ? points.l_event[0] : 0, 1, points.line_n ? points.l_event[points.line_n / 2] : 0, 2};
    static uint8_t keep[4096];
    char *out = NULL, *lines = NULL;
    uint64_t listed = 0;
    int64_t len = auditns_json(json, block, &points, who, points.serial, NULL, NULL, 0, &texts, NULL, 0, 0, &lines);

    ask(block);
    hold(len >= 0, "JSON is made");
    for (int64_t i = 0; i < len; i++)
        hold((lines[i] >= ' ' && lines[i] < 0x7f) || lines[i] == '\n', "JSON is printable ASCII");
    hold(!len || lines[len - 1] == '\n', "JSON ends with a line");
    for (uint32_t i = 0; i < points.line_n; i++) {
        listed += points.l_len[i];
        hold(points.l_off[i] + points.l_len[i] <= points.len, "a line lies in the text");
    }
    hold(auditns_assemble(block, consumed, &points, choice, &tails, NULL, 0, 0, NULL, 0) >= listed, "text only grows");
    memset(keep, 1, sizeof(keep));
    for (uint32_t i = 0; i < sizeof(keep); i += 3)
        keep[i] = 0;
    uint64_t size = auditns_assemble(block, consumed, &points, choice, &tails, keep, 0, sizeof(keep), NULL, 0);
    hold((out = malloc(size + 1)) != NULL, "memory");
    hold(auditns_assemble(block, consumed, &points, choice, &tails, keep, 0, sizeof(keep), out, size) == size, "filtered size");
    free(out);
    hold(auditns_json(json, block, &points, who, points.serial, NULL, alone, 2, &texts, keep, 0, sizeof(keep), &lines) >= 0, "filtered JSON");
}

/* One answer. */
static void take(const char *block, uint32_t consumed)
{
    static uint32_t choice[CAP], nothing[CAP], who[CAP];

    hold(points.n <= CAP && points.line_n <= CAP, "counts");
    measure(block, consumed);
    answer();
    for (uint32_t i = 0; i < points.n; i++) {
        choice[i] = i % 4;
        who[i] = i % 3;
        hold(points.flags[i] != 0 && points.at[i] <= (points.listed ? points.len : points.out_end), "a point lies in the text");
        hold(points.listed || points.at[i] >= points.out_from, "a place is not passed yet");
        hold(points.listed || !i || points.at[i - 1] <= points.at[i], "points are in the order of their places");
    }
    if (points.listed)
        take_listed(block, consumed, choice, who);
    else
        take_plain(block, choice, nothing);
}

/* A copy of its exact size: a step past its end is seen. */
static char *copy_of(const char *text, size_t size)
{
    char *copy = malloc(size + !size);
    hold(copy != NULL, "memory");
    memcpy(copy, text, size);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct auditns_scan scan;

    if (!json)
        start();
    if (size < 2 || size > 60000)
        return 0;
    size_t piece = data[0] < 128 ? size : (size_t)(data[0] - 127) * (1 + data[1] % 16);
    auditns_scan_free(&scan);
    memset(&scan, 0, sizeof(scan));
    points.n = points.line_n = points.used = points.line_used = points.total = points.line_total = 0;
    if (data[1] >> 7) /* small limits, so that they are met */
        hold(auditns_scan_whole(&scan, &points, data[1] & 32 ? 2000 : 1 << 24, data[1] & 16 ? 3 : 300), "memory");
    const char *text = (const char *)data + 2;
    size -= 2;
    size_t from = 0, end = 0, last = 0, given = 0;
    scan.awaits = data[0] % 3;
    scan.patient = scan.awaits || data[1] >> 3 & 1;
    scan.hold = !scan.whole && data[1] & 32;
    scan.at_end = data[1] >> 4 & 1;
    for (int mode = AUDITNS_MODE_MORE; mode != AUDITNS_MODE_EOF;) {
        end = size - end > piece ? end + piece : size;
        mode = end < size ? AUDITNS_MODE_MORE : AUDITNS_MODE_EOF;
        char *block;
        if (data[1] & 64) { /* a part of it, no less than before, is scanned ahead */
            size_t part = (last - from) + (end - last) / 2;
            block = copy_of(text + from, part);
            hold(auditns_scan(&scan, &points, block, (uint32_t)part, AUDITNS_MODE_AHEAD) == 0, "nothing is decided");
            free(block);
        }
        block = copy_of(text + from, end - from);
        points.buf = block;
        points.len = (uint32_t)(end - from);
        int64_t consumed = auditns_scan(&scan, &points, block, (uint32_t)(end - from), mode);
        hold(consumed >= 0 && (size_t)consumed <= end - from, "consumed lies in the block");
        take(block, points.out_end);
        given += points.listed ? 0 : points.out_end - points.out_from;
        free(block);
        from += (size_t)consumed;
        last = end;
    }
    hold(from == size, "at the end all is consumed");
    hold(scan.whole || given == size, "all lines are handed out, each once");
    return 0;
}
