/* Segments of the archive: text -> events with their places, containers, terms and counts -> blocks, and back.
 * auditns_connector/archive/segment_layout.py says what the bytes of a segment are. Offsets of text count from the start of
 * the segment's text. */

struct archive_event {
    int64_t ms;
    uint32_t first, size;       /* where its first line stands; bytes of all its lines */
    uint32_t behind;            /* `first` of the event that its lines belong to: late ones stand right behind it in a block */
    uint32_t piece, pieces;     /* the parts of the text that it is made of */
    uint32_t term, terms;
    uint32_t group, flags, records;
};

struct archive_piece {
    uint32_t off, len;
};

/* The events of one container of one host. node and contid are parts of the text; of what is no container contid is 0. */
struct archive_group {
    uint32_t holder, node_off, node_len, contid_off, contid_len;
    uint32_t events, records, execs, failures, size;
    int64_t first_ms, last_ms;
};

/* How often something came in a group. The value is a part of the text; for types value is the number and length 0, for
 * system calls value is the number and length the architecture. */
struct archive_tally {
    uint32_t group, kind, value, length;
    uint64_t count;
    int64_t first_ms, last_ms;
};

/* Serials of a host's kernel without a step back. */
struct archive_serials {
    uint32_t node_off, node_len;
    uint64_t low, high, last;
    uint64_t events;
    int64_t first_ms, last_ms;
};

/* Where the fields of a CONTAINER_INFO stand. */
struct archive_info {
    uint32_t off, len, group;
};

struct archive_text {
    const char *text;           /* set by the caller */
    uint64_t size;
    uint64_t seed;              /* secret, so that nobody can choose values that fall on one slot */
    struct archive_event *event;
    struct archive_piece *piece;
    uint32_t *term;
    struct archive_group *group;
    struct archive_tally *tally;
    struct archive_serials *serials;
    struct archive_info *info;
    uint32_t *by_number;        /* the event that the scanner gave a number to, counted from first_number */
    uint32_t *group_slot, *tally_slot, *info_slot;
    uint32_t events, pieces, terms, groups, tallies, serial_runs, infos, numbers;
    uint32_t event_room, piece_room, term_room, group_room, tally_room, serials_room, info_room, number_room;
    uint32_t group_slots, tally_slots, info_slots;
    uint32_t first_number, last_group;
    uint32_t most_tallies, most_infos, dropped_tallies, dropped_infos;
    int64_t last_ms;
    uint64_t records, lines;
    uint64_t reach;             /* where the last line ends that was taken in */
};

/* Take in the ready lines and points of a scan whose block begins at `base` in the text. 0: no memory. */
int archive_take(struct archive_text *a, const struct auditns_points *points, uint64_t base);
void archive_free(struct archive_text *a);

/* The hash of a term, as filters have it. */
uint32_t archive_term(uint32_t kind, const char *value, uint32_t len);

/* A block: events order[first] to order[first + count - 1]. */
struct archive_block {
    uint32_t first, count, size, pieces, terms;
    uint32_t low_group, high_group;
    int64_t first_ms, last_ms;
};

/* Sum up the groups, put the numbers of the events into `order`, group by group and in the order of the text, and cut it
 * into blocks of about `target` bytes. Returns how many, at most `room` are written; -1: no memory. */
int64_t archive_plan(struct archive_text *a, uint32_t *order, uint32_t target, struct archive_block *blocks, uint32_t room);

/* Write a block's table to out, returns its size (room 0: the most it can be); and its text, of block->size bytes at most
 * plus one for each piece. */
uint64_t archive_block_table(const struct archive_text *a, const uint32_t *order, const struct archive_block *block,
                             uint8_t *out, uint64_t room);
uint64_t archive_block_text(const struct archive_text *a, const uint32_t *order, const struct archive_block *block,
                            char *out, uint64_t room);

/* How many different terms each block has, about; the greatest. */
uint32_t archive_block_terms(const struct archive_text *a, const uint32_t *order, struct archive_block *blocks,
                             uint32_t count);

/* ---- reading ---- */

/* What a table says of `events` events: starts (one more than events), positions and groups of each. 0 where it is
 * damaged or does not fit the text. */
int archive_open(const uint8_t *table, uint64_t len, uint32_t events, uint64_t text_len, uint32_t *starts,
                 uint32_t *positions, uint32_t *groups);

/* A window of a segment's text: len bytes from `begin` on, and a bit for each of them that is filled. */
struct archive_window {
    char *out;
    uint8_t *covered;
    uint64_t begin, len;
};

/* Put the parts of a block's text that lie in the window where they belong; compare: instead say whether they stand there
 * already. 0 where the table is damaged, a byte is covered twice, or they differ. */
int archive_scatter(const uint8_t *table, uint64_t len, uint32_t events, const char *text, uint64_t text_len,
                    const struct archive_window *window, int compare);

/* The first byte at or behind `at` whose bit is (want 1) or is not set; len where there is none. */
uint64_t archive_next(const uint8_t *covered, uint64_t len, uint64_t at, int want);

/* Events of a block, or some of them. keep: a byte for each, 1 where it is wanted. */
struct archive_part {
    const char *text;
    const uint32_t *starts, *positions;
    uint32_t events;
    uint8_t *keep;
};

/* Of the events that are kept, keep those in which one of the needles stands. */
void archive_mark(const struct archive_part *part, const char *needles, const uint32_t *off, uint32_t count);

/* late: a byte for each event, set to 1 where it has the host, time and serial of the one before, which it was late for.
 * Returns how many. */
uint32_t archive_late(const struct archive_part *part, uint8_t *late);

/* Set found to 1 for those that lines of wanted events stand in: one byte of `wanted` for each of `count` from number
 * `first` on. The text of the part was scanned. */
void archive_lines(const struct archive_part *part, const struct auditns_points *points, const uint8_t *wanted,
                   uint32_t first, uint32_t count, uint8_t *found);

/* Those events that are kept, alone, with room for all of them; returns how many. */
uint32_t archive_less(const struct archive_part *part, char *text, uint32_t *starts, uint32_t *positions);

/* Events of a segment, of whichever blocks: where each stands in `text`, and where in the segment's. */
struct archive_row {
    uint64_t off;
    uint32_t position, len;
};

struct archive_found {
    char *text;                 /* set by the caller, as both rooms are */
    struct archive_row *row;
    uint64_t used, room;
    uint32_t rows, row_room;
};

/* Add those events that are kept. 0: there is no room. */
int archive_add(struct archive_found *found, const struct archive_part *part);

/* Put the rows in the order of their positions. 0: no memory. */
int archive_sort(struct archive_found *found);

/* Copy the events of the rows from `first` on to out, as many whole ones as there is room for. Returns the row that comes
 * next; size: how many bytes were copied. */
uint32_t archive_copy(const struct archive_found *found, uint32_t first, char *out, uint64_t room, uint64_t *size);

/* ---- filters: a row of bits, one for each block, for each of `rows` numbers ---- */

#define ARCHIVE_PROBES 6

uint64_t archive_filter_size(uint32_t rows, uint32_t blocks);
void archive_filter_make(const struct archive_text *a, const uint32_t *order, const struct archive_block *blocks,
                         uint32_t count, uint32_t rows, uint8_t *out);

/* Of each set of terms (those up to ends[i]) a block must have one: clear the bits of those in `found` that have not.
 * Returns how many rows were damaged: they exclude nothing. */
uint32_t archive_filter(const uint8_t *filter, uint32_t rows, uint32_t blocks, const uint32_t *terms,
                        const uint32_t *ends, uint32_t sets, uint64_t *found);

/* What stands of a block in a segment's index. */
struct archive_entry {
    uint64_t offset;            /* of its table's frame in the file */
    int64_t first_ms, last_ms;
    uint32_t table, frame, size, events;    /* bytes of both frames, of the text; how many events */
    uint32_t low_group, high_group;
};

/* Those blocks with a bit in `found` that may have events between two times, and of a group for which groups, NULL: any,
 * has a 1. Returns how many; their numbers go to out. */
uint32_t archive_pick(const struct archive_entry *entries, uint32_t count, const uint64_t *found, int64_t since,
                      int64_t until, const uint8_t *groups, uint32_t group_count, uint32_t *out);
