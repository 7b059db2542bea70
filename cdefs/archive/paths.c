/* The terms of a file: its path as a search means it, joined with the directory that the process was in, without what
 * leads nowhere (`//`, `/./`, `x/..`). auditns_connector/matching/paths.py says the same of one value. */
#define _GNU_SOURCE /* memrchr */
#include "archive/archive_impl.h"

/* Whether it is normal as it stands: so most are. */
static int is_normal(struct span path)
{
    const char *end = path.at + path.len;

    for (const char *s = path.at; (s = memchr(s, '/', (size_t)(end - s))); s++)
        if (s + 1 == end || s[1] == '/' || s[1] == '.')
            return 0;
    return *path.at == '/' && path.len > 1;
}

/* Append the components of `path` to the normal one of `len` bytes at `out`, `floor` of which stay; -> its length. */
static uint32_t append(char *out, uint32_t len, uint32_t floor, struct span path)
{
    const char *end = path.at + path.len, *next;

    for (const char *s = path.at; s < end; s = next + 1) {
        next = memchr(s, '/', (size_t)(end - s));
        next = next ? next : end;
        uint32_t n = (uint32_t)(next - s);
        if (!n || (n == 1 && *s == '.'))
            continue;
        int up = n == 2 && s[0] == '.' && s[1] == '.';
        const char *slash = len > floor ? memrchr(out + floor, '/', len - floor) : NULL;
        uint32_t last = slash ? (uint32_t)(slash + 1 - out) : floor;
        if (up && len > floor && !(len - last == 2 && out[last] == '.' && out[last + 1] == '.')) {
            len = slash ? (uint32_t)(slash - out) : floor;
            continue;
        }
        if (up && floor) /* above the root is the root */
            continue;
        if (len > floor)
            out[len++] = '/';
        memcpy(out + len, s, n);
        len += n;
    }
    return len;
}

static int path_terms(struct archive_text *a, struct span path)
{
    const char *slash = memrchr(path.at, '/', path.len);
    struct span last = path;

    if (slash) {
        last.len = (uint32_t)(path.at + path.len - (slash + 1));
        last.at = slash + 1;
    }
    return archive_add_term(a, ARCHIVE_TERM_PATH, path.at, path.len) &&
           (!last.len || archive_add_term(a, ARCHIVE_TERM_BASE, last.at, last.len));
}

int archive_path(struct archive_text *a, const struct work *w, struct span raw)
{
    char name[MOST_DECODED], cwd[MOST_DECODED], whole[2 * MOST_DECODED + 2];
    struct span path, base = NO_SPAN;
    uint32_t len = 0, floor;

    if (!archive_untrusted(raw, name, &path))
        return 1;
    if (is_normal(path))
        return path_terms(a, path);
    if (*path.at != '/' && !(w->cwd.len && archive_untrusted(w->cwd, cwd, &base)) &&
        !archive_add_term(a, ARCHIVE_TERM_PATH, "", 0)) /* where it is may stand elsewhere */
        return 0;
    floor = *path.at == '/' || (base.len && *base.at == '/');
    if (floor)
        whole[len++] = '/';
    len = append(whole, append(whole, len, floor, base), floor, path);
    if (!len)
        whole[len++] = '.';
    return path_terms(a, (struct span){whole, len});
}
