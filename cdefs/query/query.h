/* Audit text that is asked for something: bytes that a match must have, and the values of fields of whole events, each
 * distinct one once. auditns_connector/query/ says what is done with them. */

/* Distinct texts, numbered from 1 in the order in which they came. */
struct auditns_strings;
struct auditns_strings *auditns_strings_new(uint64_t seed);
void auditns_strings_free(struct auditns_strings *strings);
void auditns_strings_clear(struct auditns_strings *strings);
uint32_t auditns_strings_count(const struct auditns_strings *strings);
const char *auditns_strings_text(const struct auditns_strings *strings, uint32_t number, uint32_t *len);

#define AUDITNS_FIELD_KERNEL 1  /* what stands in front of msg=' */
#define AUDITNS_FIELD_MESSAGE 2 /* what stands inside */
#define AUDITNS_FIELD_JOINED 4  /* interned as prefix NUL value; of an absolute path the prefix is empty */
#define AUDITNS_FIELD_PREFIX 8  /* interned nowhere: the prefix of what is joined in its column behind it in the event */

/* A field that is looked for: its name, and the column that its values go to. */
struct auditns_field {
    const char *name;
    uint32_t len, column, where;
};

#define AUDITNS_MOST_FIELDS 64
#define AUDITNS_MOST_COLUMNS 32

/* What auditns_values fills: event, column and number of each value, as it stands in the text. */
struct auditns_values {
    const uint64_t *of_type;               /* 65536: a bit for each field that a record of the type may have */
    const struct auditns_field *field;
    uint32_t fields;
    uint32_t argv;                         /* the column of the EXECVE bodies of an event, NUL between; NONE: not wanted */
    struct auditns_strings *strings[AUDITNS_MOST_COLUMNS];
    uint32_t cap, n;
    uint32_t *event, *number;
    uint8_t *column;
    char *room;                            /* a place of `room_len` bytes to put values together in */
    uint64_t room_len;
};

/* The values of the ready events, which must be listed; events count from 0 in that order. Returns 0; -1 where `cap` is
 * too small, -2 where the room is (it must have the bytes of the largest event), -3 for lack of memory: try again. */
int auditns_values(struct auditns_values *values, const struct auditns_points *points);

/* The ready events, which must be listed: number of each event, its first line, how many it has, time (ms), serial, and
 * whether it has a record of ours (2: it is one of ours, that stands alone). Arrays of line_n. Foreign lines are none.
 * Returns how many. */
uint32_t auditns_query_events(const struct auditns_points *points, uint32_t *event, uint32_t *first, uint32_t *lines,
                              int64_t *ms, uint64_t *serial, uint8_t *own);

/* Set good[e] = 1 for the events with a value of that column whose number has a 1 in `verdict`. */
void auditns_values_good(const struct auditns_values *values, uint32_t column, const uint8_t *verdict, uint8_t *good);

#define AUDITNS_WHO_HOST 0    /* nothing in the text says that it is of a container */
#define AUDITNS_WHO_UNCLEAR 1 /* the records of ours contradict each other, or are too many */
#define AUDITNS_WHO_FIRST 2

/* For each point whose its process is by the records of ours in its event: one of the above, or AUDITNS_WHO_FIRST and a
 * number of `strings`, less 1: contid, NUL, entry. 0: there is no memory. */
int auditns_who(const struct auditns_points *points, struct auditns_strings *strings, uint32_t *who);

/* Where lines of CONTAINER_INFO begin that say what none before has said, as `seen` remembers: at most `cap`. Returns how
 * many; *next is where to go on, `len` at the end; *own is set where there is any record of ours. */
struct auditns_seen {
    uint64_t hash[65536];
    uint32_t count;
};
uint32_t auditns_infos(const char *buf, uint64_t len, struct auditns_seen *seen, uint64_t *next, uint32_t *own,
                       uint64_t *found, uint32_t cap);

/* Whether a record may be of a time between `since` and `until` (seconds, both included). */
int auditns_has_time(const char *buf, uint64_t len, int64_t since, int64_t until);
