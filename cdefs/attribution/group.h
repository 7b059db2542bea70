/* Points about one process as groups; which events and points are wanted. */

/* Points about one process, found by auditns_group; arrays of `cap`, `slots` of four times as many (at least 2). */
struct auditns_groups {
    uint64_t seed;              /* odd */
    uint32_t cap;
    uint32_t *first, *count;    /* of each group: its first point, how many points it has */
    uint32_t *flags;            /* what its first point says */
    int32_t *pid;
    int64_t *low, *high;        /* and between which times they lie */
    uint32_t *which;            /* set by the caller: the points to group, in their order */
    uint32_t *group, *slots;    /* of each of these: its group */
};

/* Group the first `count` points of `which` by pid, in the order of their first points; one with a flag of `alone`, or
 * without a pid above 0, is a group of its own. Returns how many groups there are, 0xffffffff where cap is too small. */
uint32_t auditns_group(struct auditns_groups *groups, const struct auditns_points *points, uint32_t count, uint32_t alone);

/* Put into `choice`, for each of the first `count` points that were grouped, the number of its group. */
void auditns_spread(const struct auditns_groups *groups, const uint32_t *numbers, uint32_t count, uint32_t *choice);

/* Up to where the points from `first` on are of events of which none is missing in between, the one with the highest serial
 * last, all of them below `most`, with the same in front of their records, and no type with a 1 in `apart` (a byte for each
 * of 65536). On the way they may have another order than that of their serials: none comes before so many others that are
 * numbered before it, or is so much older than one before it (ms), that it would count as missing (audittext/serials.py). */
#define AUDITNS_SEQUENCE_MOST 512
#define AUDITNS_SEQUENCE_MS 999
uint32_t auditns_sequence(const struct auditns_points *points, uint32_t first, uint64_t most, const uint8_t *apart);

#define AUDITNS_KEY_OTHER 0
#define AUDITNS_KEY_WANTED 1
#define AUDITNS_KEY_UNCLEAR 2

/* The number of the first event that the ready lines are of, and how many numbers there are from it to the last one. */
void auditns_events(const struct auditns_points *points, uint32_t *first, uint32_t *count);

/* For each point whether its key= is one of the `count` wanted ones (count + 1 offsets); unclear: not plainly quoted. */
void auditns_keys(const struct auditns_points *points, const char *buf, const char *wanted, const uint32_t *off,
                  uint32_t count, uint8_t *found);

/* found[i] = table[choice[i]] */
void auditns_pick(const uint32_t *choice, uint32_t n, const uint8_t *table, uint8_t *found);

/* found[i] = numbers[which[i]] */
void auditns_pick_numbers(const uint32_t *which, uint32_t n, const uint32_t *numbers, uint32_t *found);

/* Set kept[number - first] for the events of the points that are good, or that have a line of one of the types (a byte for
 * each of 65536). */
void auditns_keep(const struct auditns_points *points, const uint8_t *good, uint32_t first, uint32_t count, uint8_t *kept);
void auditns_keep_types(const struct auditns_points *points, const uint8_t *types, uint32_t first, uint32_t count,
                        uint8_t *kept);
