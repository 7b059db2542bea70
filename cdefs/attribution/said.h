/* Events whose text says already whose they are: what came of that, by the words and by what a row says of the process. */

struct said_answer {
    uint64_t key;
    uint32_t number, state, generation;
};

struct said {
    uint64_t seed;              /* secret and odd: nobody can choose words that are taken for others */
    uint64_t *key;              /* by point of the last look-up, from `first` on: under which said_put() remembers it; 0: none */
    uint32_t key_room, first, keys;
    uint64_t *words;            /* by event of the block in hand: all that its records of ours say; 0: there are none */
    uint32_t words_room, event, events;
    struct said_answer *answer;
    uint32_t answers;
};

/* NULL: there is no memory. */
struct said *said_new(uint64_t seed);
void said_free(struct said *said);

/* Points that say what point i of the last look-up says, and whose process is of the same profile, have `number` as long as
 * `generation` is current; `state` is the number of the state that the text says, 0 where it follows from the evidence. */
void said_put(struct said *said, uint32_t i, uint32_t number, uint32_t state, uint32_t generation);

/* Of each event the first line of ours goes to `found`, which has room for all lines, where `types` (a byte for each of
 * 65536, 0 for those that are not ours) says that it may be an event of its own: alone, or, where it has a "reason" in
 * it, by_reason; and where nothing else is in that event. Returns how many. The lines must stand event by event. */
#define SAID_PART 1
#define SAID_BY_REASON 2
#define SAID_ALONE 3
uint32_t said_alone(const struct auditns_points *points, const uint8_t *types, uint32_t *found);
/* All lines of ours, in the same way. */
uint32_t said_lines(const struct auditns_points *points, const uint8_t *types, uint32_t *found);

/* Put into `who`, for each of n points that `texts` has a state for, what `numbers` has for that. */
void said_spread(const uint32_t *texts, uint32_t n, const uint32_t *numbers, uint32_t *who);
