/* What clone, fork and vfork returned; attribution/clone_result.py says what for. */

/* By profile, whether its pid namespace is the initial one. */
#define CLONE_SPACE_UNREAD 0
#define CLONE_SPACE_UNKNOWN 1
#define CLONE_SPACE_INITIAL 2
#define CLONE_SPACE_OTHER 3

struct clone_calls {
    struct table *table;
    uint32_t arches, numbers;
    const uint32_t *arch;
    const uint8_t *wanted;      /* for each arch a byte for each number of a system call */
    const uint8_t *space;       /* by profile */
    uint32_t profiles;
    int64_t offset, now, longest; /* of CLOCK_MONOTONIC; the time of the model; how long such a call takes at most (ns) */
};

/* In place of a number: it must be asked for; the space of profile CLONE_READ - number must be read first. */
#define CLONE_ASK -1
#define CLONE_READ -2

/* The points from `first` up to `end` that are successful calls go to `found`, what they returned to `result`, 0 where
 * that is not known; `rows` is what rows have answered (NULL: none). Returns how many. */
uint32_t clone_results(const struct clone_calls *calls, const struct auditns_points *points, uint32_t first, uint32_t end,
                       const uint32_t *rows, uint32_t *found, int32_t *result);

/* Whether one of the points is of such a call. */
int clone_any(const struct clone_calls *calls, const struct auditns_points *points);
