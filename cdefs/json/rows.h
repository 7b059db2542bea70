/* JSON lines of events whose points rows answer, all of them: what is said of each process was put together before
 * (row_texts_find), and the interpreter has no part in it. */

#define JSON_ROWS_POINTS 256

struct json_rows {
    struct auditns_json *json;
    struct row_texts *numbers;          /* of `texts` */
    const struct auditns_tails *texts;
};

/* As auditns_json, of points that are answered at `now` (CLOCK_MONOTONIC ns); -1 where rows do not answer all of them, not
 * all that is said of their processes is known, there are too many, or there is no memory: nothing has happened then. No
 * record of ours may be in the text, and no point of a clone, whose result is not said here. `choice` has room for all
 * points. */
int64_t json_of_rows(const struct json_rows *rows, struct row_lookup *lookup, const struct auditns_points *points,
                     uint32_t careful, int64_t now, uint32_t *choice, char **out);
