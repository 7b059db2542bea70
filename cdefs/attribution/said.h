/* Events whose text says already whose they are: what came of that, by the words and by what a row says of the process. */

struct said_answer {
    uint64_t key;
    uint32_t number, generation;
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
 * `generation` lasts. */
void said_put(struct said *said, uint32_t i, uint32_t number, uint32_t generation);
