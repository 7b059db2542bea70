/* Events as JSON lines. What comes out is what emit/render.py, jsonout.py and records.py make of the same points;
 * a test holds the two byte-identical. */

#define AUDITNS_JSON_NUMERIC 1
#define AUDITNS_JSON_UNTRUSTED 2
#define AUDITNS_JSON_NAME 23

struct auditns_json;
struct auditns_json *auditns_json_new(uint32_t seed);
void auditns_json_free(struct auditns_json *json);

/* The names of fields that are numbers or untrusted strings: count names, NUL-ended one behind the other, of
 * AUDITNS_JSON_NAME bytes at most. To be called first; both must stay where they are. */
void auditns_json_names(const char *names, const uint8_t *kinds, uint32_t count);

/* Leave out records of which nobody speaks: by type (a byte for each of 65536, which must stay where they are), those of a
 * system call, and those beside a program with its arguments. */
#define AUDITNS_JSON_OF_CALL 1
#define AUDITNS_JSON_OF_EXEC 2
void auditns_json_silent(struct auditns_json *json, const uint8_t *types);

/* A byte in a text that stands for which process it is about: its pid, a colon, and when it began. */
#define AUDITNS_JSON_WHICH 2

/* One line for each event and each foreign line of the ready ones, which must be listed. who: for each point the number
 * of a text like "contid":"1" (0: the host); starts: NULL, or when its process began (ns), for AUDITNS_JSON_WHICH; made:
 * NULL, or for each point what a clone returned, 0 where that is not known, -1 where it was none; alone: the numbers of
 * `alone_n` events that have a text of their own, in the order of their lines, with those of the texts behind them; keep as
 * in auditns_assemble. *out is valid until the next call. Returns its length, -1 for lack of memory. */
int64_t auditns_json(struct auditns_json *json, const char *buf, const struct auditns_points *points,
                     const uint32_t *who, const uint64_t *starts, const int32_t *made, const uint32_t *alone, uint32_t alone_n,
                     const struct auditns_tails *texts, const uint8_t *keep, uint32_t keep_first, uint32_t keep_count,
                     char **out);
