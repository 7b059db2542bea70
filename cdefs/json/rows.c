/* See json/rows.h. */
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/audittext.h"
#include "attribution/row_lookup.h"
#include "attribution/row_lookup_impl.h"
#include "json/json.h"
#include "json/rows.h"

int64_t json_of_rows(const struct json_rows *j, struct row_lookup *l, const struct auditns_points *p, uint32_t careful,
                     int64_t now, uint32_t *choice, char **out)
{
    uint32_t rows[JSON_ROWS_POINTS], who[JSON_ROWS_POINTS];
    uint64_t starts[JSON_ROWS_POINTS];
    struct execs_found execs;
    int64_t size;
    int ready;

    if (p->n > JSON_ROWS_POINTS)
        return -1;
    memset(rows, 0, p->n * sizeof(*rows));
    l->rows = rows;
    l->texts = NULL;
    ready = lookup_all(l, p, careful, now, choice, &execs) && row_texts_ready(j->numbers, l->table, rows, p->n, who, starts);
    l->rows = NULL;
    if (!ready)
        return -1;
    size = auditns_json(j->json, p->buf, p, who, starts, NULL, NULL, 0, j->texts, NULL, 0, 0, out);
    if (size >= 0)
        lookup_consume(l->table, &execs);
    return size;
}
