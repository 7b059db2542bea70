/* The block scanner: lines of audit text -> points where a record may be inserted.
 * decode/audittext.py does the same, readably, and says what each rule is for. State is kept between calls, in
 * offsets of the block that begins where the last one was consumed, so no line is ever looked at twice. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "audittext/eight_impl.h"
#include "audittext/audittext.h"

#define NONE 0xffffffffu
#define OWN 0x10000u          /* in a type number: the record is ours */
#define OWN_LONE 0x20000u     /* ours, and an event of its own */
#define LONE 0x40000u         /* a kernel record: its event is complete when the next line is not of it */
#define TYPE_SYSCALL 1300
#define TYPE_PATH 1302
#define TYPE_CONFIG_CHANGE 1305
#define TYPE_OBJ_PID 1318
#define TYPE_EOE 1320
#define TYPE_NETFILTER_PKT 1324
#define TYPE_PROCTITLE 1327
#define FIRST_EVENT 1300
#define FIRST_ANOM_MSG 2100
#define OLDER_MS 2000         /* an event this much older than a later record is complete */

/* ---- eight bytes at a time ---- */

/* memcmp of eight bytes at least, without the call */
static inline int same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i + 8 < n; i += 8)
        if (eight(a + i) != eight(b + i))
            return 0;
    return eight(a + n - 8) == eight(b + n - 8);
}

/* The number that the first n of eight bytes are, 1 to 8 digits. */
static inline uint32_t number_of(uint64_t x, unsigned n)
{
    x = (x ^ '0' * ONES) << (64 - 8 * n);
    x = x * 10 + (x >> 8); /* pairs of digits in every other byte, then the pairs of pairs */
    return (uint32_t)(((x & 0xff000000ff) * 0xf424000000064 + (x >> 16 & 0xff000000ff) * 0x271000000001) >> 32);
}

/* The spaces between words. */
struct words {
    const char *at, *next, *end; /* the eight bytes in hand, those behind them */
    uint64_t found;              /* a bit for each space in them that has not been given yet */
};

static inline struct words words_of(const char *s, const char *end)
{
    return (struct words){s, s, end, 0};
}

/* The next space at or behind s, which is where the last word ended; `end` where there is none. */
static inline const char *word_stop(struct words *w, const char *s)
{
    while (!w->found) {
        if (w->end - w->next < 8) {
            for (s = s > w->next ? s : w->next; s < w->end && *s != ' '; s++)
                ;
            return s;
        }
        w->found = zeros(eight(w->next) ^ ' ' * ONES);
        w->at = w->next;
        w->next += 8;
    }
    s = w->at + __builtin_ctzll(w->found) / 8;
    w->found &= w->found - 1;
    return s;
}

/* ---- record type names ---- */

static struct { const char *name; uint64_t first; uint32_t len, number; } types[AUDITNS_TYPES];

static uint32_t type_hash(uint64_t first, size_t n)
{
    return (uint32_t)(((first ^ n) * 0x9e3779b97f4a7c15u) >> 32) % AUDITNS_TYPES;
}

void auditns_text_types(const char *names, const uint32_t *numbers, uint32_t count)
{
    memset(types, 0, sizeof(types));
    for (uint32_t i = 0; i < count && i < AUDITNS_TYPES / 2; i++) {
        char first[8] = {0};
        size_t len = strlen(names);
        memcpy(first, names, len < sizeof(first) ? len : sizeof(first));
        uint32_t at = type_hash(eight(first), len);
        while (types[at].name)
            at = (at + 1) % AUDITNS_TYPES;
        types[at].name = names;
        types[at].first = eight(first);
        types[at].len = (uint32_t)len;
        types[at].number = numbers[i];
        names += len + 1;
    }
}

/* eight bytes at least may be read at s */
static uint32_t type_known(const char *s, size_t n)
{
    uint64_t first = first_of(eight(s), n);
    for (uint32_t at = type_hash(first, n); types[at].name; at = (at + 1) % AUDITNS_TYPES)
        if (types[at].first == first && types[at].len == n && (n <= 8 || same(types[at].name, s, n)))
            return types[at].number;
    return 0;
}

static uint32_t type_number(const char *s, size_t n)
{
    uint32_t number = type_known(s, n);
    if (number)
        return number;
    if (n >= 10 && n <= 14 && !memcmp(s, "UNKNOWN[", 8) && s[n - 1] == ']') {
        for (size_t i = 8; i < n - 1; i++) {
            if (s[i] < '0' || s[i] > '9')
                return 0;
            number = number * 10 + (uint32_t)(s[i] - '0');
        }
        if (number > 0xffff)
            return 0;
        /* the spelling by number of a type we know by name means the same */
        for (uint32_t at = 0; at < AUDITNS_TYPES; at++)
            if (types[at].name && (types[at].number & 0xffff) == number)
                return types[at].number;
        return number;
    }
    if ((n > 10 && !memcmp(s, "CONTAINER_", 10)) || (n > 3 && !memcmp(s, "NS_", 3)))
        return OWN;
    return 0;
}

/* ---- the header of a line ---- */

struct head {
    int64_t ms;
    uint64_t sec, serial, node;
    uint32_t node_len, hdr, sec_len, hdr_len, body, type;
    const char *text; /* "msg=audit(...):", NULL when there is none yet: the records of an event have the same */
};

static uint64_t node_hash(const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static const char *digits(const char *p, const char *end, int most, uint64_t *value)
{
    const char *start = p;
    uint64_t v = 0;
    if (end - p >= 8) {
        uint64_t x = eight(p);
        unsigned n = digits_of(x);
        if (!n || (int)n > most)
            return NULL;
        v = number_of(x, n);
        p += n;
        if (n < 8) {
            *value = v;
            return p;
        }
    }
    while (p < end && *p >= '0' && *p <= '9') {
        if (p - start == most)
            return NULL;
        if (p - start < 18) /* cannot overflow yet */
            v = v * 10 + (uint64_t)(*p - '0');
        else if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
            return NULL;
        p++;
    }
    *value = v;
    return p == start ? NULL : p;
}

/* Time and serial of "msg=audit(...):" at p, unless h has them; where it ends, NULL when it is none. */
static const char *parse_stamp(const char *p, const char *end, struct head *h)
{
    const char *start = p;

    if (h->text && (size_t)(end - p) >= h->hdr_len && same(p, h->text, h->hdr_len))
        return p + h->hdr_len;
    if (h->text && (size_t)(end - p) > h->sec_len && same(p, h->text, h->sec_len + 1)) { /* to the point behind them */
        p += h->sec_len;
    } else {
        h->text = NULL;
        if (end - p < 10 || memcmp(p, "msg=audit(", 10))
            return NULL;
        p = digits(p + 10, end, 11, &h->sec);
        if (!p)
            return NULL;
        h->sec_len = (uint32_t)(p - start);
    }
    h->text = NULL;
    if (end - p < 8) /* ".000:0):" */
        return NULL;
    uint64_t x = eight(p);
    if ((x & 0xff) != '.' || digits_of(x >> 8) != 3 || (x >> 32 & 0xff) != ':')
        return NULL;
    h->ms = (int64_t)(h->sec * 1000 + number_of(x >> 8, 3));
    p = digits(p + 5, end, 20, &h->serial);
    if (!p || end - p < 2 || p[0] != ')' || p[1] != ':')
        return NULL;
    h->hdr_len = (uint32_t)(p + 2 - start);
    h->text = start;
    return p + 2;
}

/* [line, end) without its newline; h has what the last line with a good header said */
static int parse_head(const char *line, const char *end, struct head *h)
{
    const char *p = line, *q;

    h->node = 0;
    h->node_len = 0;
    if (end - p < 20)
        return 0;
    if (*p == 'n') {
        if (memcmp(p, "node=", 5))
            return 0;
        q = memchr(p, ' ', (size_t)(end - p) < 261 ? (size_t)(end - p) : 261);
        if (!q || q == p + 5)
            return 0;
        h->node_len = (uint32_t)(q + 1 - p);
        h->node = node_hash(p, h->node_len);
        p = q + 1;
        if (end - p < 20)
            return 0;
    }
    if (memcmp(p, "type=", 5))
        return 0;
    p += 5;
    const char *most = end - p < 64 ? end : p + 64;
    struct words words = words_of(p, most);
    q = word_stop(&words, p);
    if (q == most || q == p)
        return 0;
    h->hdr = (uint32_t)(q + 1 - line);
    const char *body = parse_stamp(q + 1, end, h);
    if (!body)
        return 0;
    h->body = (uint32_t)(body - line);
    h->type = type_number(p, (size_t)(q - p));
    return 1;
}

/* ---- points ---- */

#define VALUES(X) X(ms) X(exit) X(serial) X(flags) X(event) X(arch) X(hdr_len) X(node_len) X(aux1_len) X(aux2_len) \
    X(key_len) X(pid) X(ppid) X(sysno) X(rtype) X(recno)
#define OFFSETS(X) X(at) X(hdr_off) X(node_off) X(line_off) X(aux1_off) X(aux2_off) X(key_off)

/* drop what the last call handed out, and let the block begin where that ended */
static void release(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t k = p->used, m = p->total - k, shift = s->consumed;
    if (k) {
#define MOVE(f) memmove(p->f, p->f + k, m * sizeof(*p->f));
        VALUES(MOVE)
        OFFSETS(MOVE)
    }
    if (shift)
        for (uint32_t i = 0; i < m; i++) {
#define SHIFT(f) p->f[i] -= shift;
            OFFSETS(SHIFT)
        }
    p->total = m;
    p->used = p->n = 0;

    uint32_t lk = p->line_used, lm = p->line_total - lk;
    if (lk) {
        memmove(p->l_off, p->l_off + lk, lm * sizeof(*p->l_off));
        memmove(p->l_event, p->l_event + lk, lm * sizeof(*p->l_event));
        memmove(p->l_body, p->l_body + lk, lm * sizeof(*p->l_body));
        memmove(p->l_next, p->l_next + lk, lm * sizeof(*p->l_next));
        memmove(p->l_type, p->l_type + lk, lm * sizeof(*p->l_type));
    }
    for (uint32_t i = 0; i < lm; i++) {
        p->l_off[i] -= shift;
        p->l_body[i] -= shift;
    }
    p->line_total = lm;
    p->line_used = p->line_n = 0;

    for (uint32_t i = 0; i < s->open; i++) {
        s->event[i].first -= shift;
        if (s->event[i].point != NONE)
            s->event[i].point -= k;
    }
    s->line -= shift;
    s->searched -= shift;
    s->consumed = 0;
}

/* take the void points out of the ready ones */
static uint32_t compact(struct auditns_scan *s, struct auditns_points *p)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->used; i++) {
        if (!p->flags[i]) {
            s->voids--;
            continue;
        }
        if (to != i) {
#define COPY(f) p->f[to] = p->f[i];
            VALUES(COPY)
            OFFSETS(COPY)
        }
        to++;
    }
    return to;
}

static int32_t number31(const char *s, size_t n)
{
    int64_t v = 0;
    if (!n || n > 10)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v > INT32_MAX ? -1 : (int32_t)v;
}

static int64_t signed64(const char *s, size_t n)
{
    int minus = n && *s == '-';
    uint64_t v = 0;
    s += minus;
    n -= (size_t)minus;
    if (!n || n > 18)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return 0;
        v = v * 10 + (uint64_t)(s[i] - '0');
    }
    return minus ? -(int64_t)v : (int64_t)v;
}

static uint32_t hex32(const char *s, size_t n)
{
    uint32_t v = 0;
    if (!n || n > 8)
        return 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint32_t)(c - 'a' + 10);
        else
            return 0;
    }
    return v;
}

static int is_exec(uint32_t arch, int32_t nr)
{
    switch (arch) {
    case 0xc000003e: return nr == 59 || nr == 322 || nr == 0x40000208 || nr == 0x40000221; /* x86_64, x32 */
    case 0x40000003: return nr == 11 || nr == 358;  /* i386 */
    case 0x40000028: return nr == 11 || nr == 387;  /* arm */
    case 0xc00000b7:                                /* aarch64 */
    case 0xc00000f3:                                /* riscv64 */
    case 0xc0000102: return nr == 221 || nr == 281; /* loongarch64 */
    case 0x80000015:                                /* ppc64 */
    case 0xc0000015: return nr == 11 || nr == 362;  /* ppc64le */
    case 0x80000016: return nr == 11 || nr == 354;  /* s390x */
    }
    return 0;
}

/* The kernel's own part of a body: up to 0x1D (what ENRICHED adds begins there). */
static const char *kernel_part(const char *body, const char *end)
{
    const char *gs = memchr(body, 0x1d, (size_t)(end - body));
    return gs ? gs : end;
}

/* whether the word is, or begins with, up to eight bytes; no byte of theirs is a space */
#define IS(word) (first_of(x, sizeof(word) - 1) == eight(word "\0\0\0\0\0\0\0"))
#define FIRST(bit) (!(seen & (bit)) && (seen |= (bit)))

/* The next word behind a space at or behind s that begins with c, k, m or p; `end` where there is none. */
static inline const char *word_ckmp(const char *s, const char *end)
{
    for (; end - s > (ptrdiff_t)sizeof(lanes); s += sizeof(lanes)) {
        lanes before, at;
        memcpy(&before, s, sizeof(before));
        memcpy(&at, s + 1, sizeof(at));
        before = (lanes)(before == ' ') &
                 ((lanes)((at | ('c' ^ 'k')) == 'k') | (lanes)(at == 'm') | (lanes)(at == 'p'));
        unsigned first = first_lane(before);
        if (first < sizeof(lanes))
            return s + 1 + first;
    }
    for (; end - s > 1; s++)
        if (*s == ' ' && (s[1] == 'c' || s[1] == 'k' || s[1] == 'm' || s[1] == 'p'))
            return s + 1;
    return end;
}

static void subject_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    end = kernel_part(t, end);
    struct words words = words_of(t, end);
    while (t < end) {
        const char *q = word_stop(&words, t);
        size_t n = (size_t)(q - t);
        uint64_t x = eight_before(t, end);
        switch (x & 0xff) {
        case 'p':
            if (IS("pid=") && FIRST(1))
                p->pid[i] = number31(t + 4, n - 4);
            else if (IS("ppid=") && FIRST(2))
                p->ppid[i] = number31(t + 5, n - 5);
            break;
        case 'a':
            if (IS("arch=") && FIRST(4))
                p->arch[i] = hex32(t + 5, n - 5);
            break;
        case 's':
            if (IS("syscall=") && FIRST(8))
                p->sysno[i] = number31(t + 8, n - 8);
            else if (IS("success=") && FIRST(16))
                p->flags[i] |= n == 11 && !memcmp(t + 8, "yes", 3) ? AUDITNS_P_SUCCESS : 0;
            break;
        case 'e':
            if (IS("exit=") && FIRST(32))
                p->exit[i] = signed64(t + 5, n - 5);
            break;
        case 'c':
            if (IS("comm=") && FIRST(64)) {
                p->aux1_off[i] = (uint32_t)(t + 5 - buf);
                p->aux1_len[i] = (uint32_t)(n - 5);
            }
            break;
        case 'k':
            if (IS("key=") && FIRST(128)) {
                p->key_off[i] = (uint32_t)(t + 4 - buf);
                p->key_len[i] = (uint32_t)(n - 4);
            }
            break;
        case 'm':
            if (IS("msg='")) /* what follows is text of the sender's choosing */
                return;
            break;
        }
        t = q + 1;
        if ((seen & 60) == 60) { /* the others begin with one of these letters */
            t = word_ckmp(q, end);
            words = words_of(t, end);
        }
    }
}

static void target_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    end = kernel_part(t, end);
    struct words words = words_of(t, end);
    while (t < end) {
        const char *q = word_stop(&words, t);
        size_t n = (size_t)(q - t);
        uint64_t x = eight_before(t, end);
        if (IS("opid=") && FIRST(1))
            p->pid[i] = number31(t + 5, n - 5);
        else if (IS("ocomm=") && FIRST(2)) {
            p->aux1_off[i] = (uint32_t)(t + 6 - buf);
            p->aux1_len[i] = (uint32_t)(n - 6);
        }
        t = q + 1;
    }
}

/* PATH item=0 of an exec: the file name */
static void path_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    const char *name = NULL;
    size_t name_len = 0;
    end = kernel_part(t, end);
    struct words words = words_of(t, end);
    while (t < end) {
        const char *q = word_stop(&words, t);
        size_t n = (size_t)(q - t);
        uint64_t x = eight_before(t, end);
        if (IS("item=") && FIRST(1)) {
            if (n != 6 || t[5] != '0')
                return;
        } else if (IS("name=") && FIRST(2)) {
            name = t + 5;
            name_len = n - 5;
        }
        if (seen == 3)
            break;
        t = q + 1;
    }
    if (seen == 3) {
        p->aux2_off[i] = (uint32_t)(name - buf);
        p->aux2_len[i] = (uint32_t)name_len;
    }
}

static uint32_t add_point(struct auditns_points *p, const struct head *h, uint32_t line, uint32_t at, uint32_t flags,
                          uint32_t event, uint16_t recno)
{
    uint32_t i = p->total++;
    p->ms[i] = h->ms;
    p->serial[i] = h->serial;
    p->flags[i] = flags | (h->node_len ? AUDITNS_P_NODE : 0);
    p->at[i] = at;
    p->line_off[i] = line;
    p->hdr_off[i] = line + h->hdr;
    p->hdr_len[i] = (uint16_t)h->hdr_len;
    p->node_off[i] = line;
    p->node_len[i] = (uint16_t)h->node_len;
    p->event[i] = event;
    p->rtype[i] = (uint16_t)h->type;
    p->recno[i] = recno;
    p->pid[i] = p->ppid[i] = p->sysno[i] = -1;
    p->arch[i] = 0;
    p->exit[i] = 0;
    p->aux1_off[i] = p->aux2_off[i] = p->key_off[i] = line;
    p->aux1_len[i] = p->aux2_len[i] = p->key_len[i] = 0;
    return i;
}

/* ---- events ---- */

static struct auditns_closed *closed_slot(struct auditns_scan *s, uint64_t serial)
{
    return &s->closed[serial % AUDITNS_CLOSED];
}

static void remember(struct auditns_scan *s, int64_t ms, uint64_t serial, uint64_t node, uint32_t recno)
{
    struct auditns_closed *c = closed_slot(s, serial);
    c->ms = ms;
    c->serial = serial;
    c->node = node;
    c->recno = recno;
    c->used = 1;
}

static void close_event(struct auditns_scan *s, uint32_t i)
{
    struct auditns_event *e = &s->event[i];
    remember(s, e->ms, e->serial, e->node, e->recno);
    s->open--;
    memmove(e, e + 1, (s->open - i) * sizeof(*e));
    s->last = 0;
}

static void close_all(struct auditns_scan *s)
{
    while (s->open)
        close_event(s, 0);
}

static int same_event(const struct auditns_event *e, const struct head *h)
{
    return e->serial == h->serial && e->ms == h->ms && e->node == h->node;
}

static uint32_t find_event(const struct auditns_scan *s, const struct head *h)
{
    if (s->last < s->open && same_event(&s->event[s->last], h))
        return s->last;
    for (uint32_t i = s->open; i-- > 0;)
        if (same_event(&s->event[i], h))
            return i;
    return NONE;
}

static uint32_t open_event(struct auditns_scan *s, const struct head *h, uint32_t line, uint16_t recno)
{
    if (s->open == AUDITNS_MAX_OPEN)
        close_event(s, 0);
    uint32_t i = s->open++;
    struct auditns_event *e = &s->event[i];
    memset(e, 0, sizeof(*e));
    e->ms = h->ms;
    e->serial = h->serial;
    e->node = h->node;
    e->base = s->clock;
    e->first = line;
    e->id = s->next_id++;
    e->point = NONE;
    e->recno = recno;
    if (s->next_id >= AUDITNS_LINE_LATE)
        s->next_id = 0;
    s->last = i;
    return i;
}

static int is_single(uint32_t type)
{
    uint32_t number = type & 0xffff;
    return (type & OWN_LONE) || (number && (number < FIRST_EVENT || number >= FIRST_ANOM_MSG));
}

/* a record of an event that was decided before */
static uint32_t late_record(struct auditns_points *p, const char *buf, const struct head *h, struct auditns_closed *c,
                            uint32_t line, uint32_t end)
{
    if (!(h->type & OWN) && c->recno < 0xffff)
        c->recno++;
    if ((h->type & 0xffff) == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, AUDITNS_P_TARGET | AUDITNS_P_LATE, AUDITNS_LINE_LATE,
                               (uint16_t)c->recno);
        target_fields(p, i, buf, buf + line + h->body, buf + end - 1);
    }
    return AUDITNS_LINE_LATE;
}

/* A record with a header; returns the number of its event. */
static uint32_t record(struct auditns_scan *s, struct auditns_points *p, const char *buf, const struct head *h,
                       uint32_t line, uint32_t end)
{
    uint32_t number = h->type & 0xffff, at = find_event(s, h);
    int single = is_single(h->type);
    const char *body = buf + line + h->body, *stop = buf + end - 1;

    if (at == NONE) {
        struct auditns_closed *c = closed_slot(s, h->serial);
        uint32_t recno = 0;
        if (c->used && c->serial == h->serial && c->ms == h->ms && c->node == h->node) {
            if (number != TYPE_SYSCALL && !single)
                return late_record(p, buf, h, c, line, end);
            recno = c->recno;
        }
        at = open_event(s, h, line, (uint16_t)recno);
    }
    s->last = at;
    s->changes += number == TYPE_CONFIG_CHANGE;
    struct auditns_event *e = &s->event[at];
    uint32_t id = e->id;

    if (h->type & OWN) {
        e->own = 1;
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_OWN;
        if ((h->type & OWN_LONE) && !e->kernel)
            close_event(s, at);
        return id;
    }
    if (e->recno < 0xffff)
        e->recno++;
    uint32_t own = e->own ? AUDITNS_P_OWN : 0;

    e->lone = !e->kernel && (h->type & LONE);

    if (single) {
        uint32_t flags = own | AUDITNS_P_SINGLE | AUDITNS_P_SUBJECT;
        if (number == 1005 || (number >= 1100 && number < 1200) || (number >= FIRST_ANOM_MSG && number < 3000))
            flags |= AUDITNS_P_USER;
        uint32_t i = add_point(p, h, line, line, flags, id, e->recno);
        subject_fields(p, i, buf, body, stop);
        if (!e->kernel)
            close_event(s, at);
        return id;
    }
    if (number == TYPE_SYSCALL && !e->syscall) {
        uint32_t flags = own | AUDITNS_P_SUBJECT | AUDITNS_P_SYSCALL;
        if (e->point != NONE) { /* its place was taken by the record that came first */
            flags |= p->flags[e->point] & AUDITNS_P_HAS_TARGET;
            p->flags[e->point] = 0;
            s->voids++;
        }
        uint32_t i = add_point(p, h, line, end, flags, id, e->recno);
        subject_fields(p, i, buf, body, stop);
        if ((p->flags[i] & AUDITNS_P_SUCCESS) && is_exec(p->arch[i], p->sysno[i])) {
            p->flags[i] |= AUDITNS_P_EXEC;
            e->exec = 1;
        }
        e->point = i;
        e->syscall = 1;
    } else if (!e->kernel && number != TYPE_EOE) {
        uint32_t who = number == TYPE_NETFILTER_PKT ? AUDITNS_P_NETFILTER : AUDITNS_P_SUBJECT;
        who |= e->lone ? AUDITNS_P_SINGLE : 0;
        e->point = add_point(p, h, line, end, own | who, id, e->recno);
        subject_fields(p, e->point, buf, body, stop);
    }
    if (number != TYPE_EOE)
        e->kernel = 1;
    if (number == TYPE_OBJ_PID) {
        uint32_t i = add_point(p, h, line, end, own | AUDITNS_P_TARGET, id, e->recno);
        target_fields(p, i, buf, body, stop);
        if (e->point != NONE)
            p->flags[e->point] |= AUDITNS_P_HAS_TARGET;
    } else if (number == TYPE_PATH) {
        if (e->exec && !p->aux2_len[e->point])
            path_fields(p, e->point, buf, body, stop);
    } else if (number == TYPE_PROCTITLE && s->whole && at == s->open - 1) {
        e->lone = 1; /* its EOE, where there is one, mostly comes next */
    } else if (number == TYPE_EOE || number == TYPE_PROCTITLE) {
        close_event(s, at);
    }
    return id;
}

static void add_line(struct auditns_points *p, uint32_t line, uint32_t event, uint32_t body, uint32_t type,
                     uint32_t next)
{
    uint32_t i = p->line_total++;
    p->l_off[i] = line;
    p->l_event[i] = event;
    p->l_body[i] = body;
    p->l_type[i] = (uint16_t)type;
    p->l_next[i] = next;
}

/* one whole line, newline included */
static void one_line(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t line, uint32_t end,
                     struct head *h)
{
    int known = !s->in_long && end - line <= AUDITNS_MAX_LINE && parse_head(buf + line, buf + end - 1, h);
    while (s->open && line - s->event[0].first > (s->whole ? AUDITNS_MAX_WHOLE : AUDITNS_MAX_SPAN))
        close_event(s, 0);
    if (end - line > AUDITNS_MAX_LINE) /* as where its start is passed on before its end has come */
        close_all(s);
    s->in_long = 0;
    if (s->open && s->event[s->open - 1].lone && !(known && same_event(&s->event[s->open - 1], h)))
        close_event(s, s->open - 1);
    if (!known) {
        add_line(p, line, AUDITNS_LINE_FOREIGN, line, 0, s->next_id);
        return;
    }
    if (h->ms > s->clock) {
        s->clock = h->ms;
        for (uint32_t i = 0; i < s->open;)
            if (h->ms - s->event[i].base >= OLDER_MS)
                close_event(s, i);
            else
                i++;
    }
    uint32_t next = s->next_id;
    uint32_t id = record(s, p, buf, h, line, end);
    add_line(p, line, id, line + h->body, h->type, next);
}

/* The last place up to s->consumed where no event has lines on both sides: numbers of events grow with their
 * first lines, so no line behind the place may have one below the next number at that time. */
static uint32_t whole_events(const struct auditns_scan *s, const struct auditns_points *p)
{
    uint32_t least = AUDITNS_LINE_LATE, place = s->consumed;
    if (place == s->line)
        return place;
    for (uint32_t i = p->line_total; i-- > 0;) {
        if (p->l_event[i] < least)
            least = p->l_event[i];
        if (p->l_off[i] <= s->consumed && least >= p->l_next[i])
            return s->line - p->l_off[i] > AUDITNS_MAX_WHOLE ? s->consumed : p->l_off[i];
    }
    return s->consumed;
}

int64_t auditns_scan(struct auditns_scan *s, struct auditns_points *p, const char *buf, uint32_t len, int mode)
{
    struct head head = {.text = NULL};

    release(s, p);
    while (s->searched < len) {
        const char *nl = memchr(buf + s->searched, '\n', len - s->searched);
        if (!nl)
            break;
        if (p->cap - p->total < 2 || p->line_cap - p->line_total < 2)
            return -1;
        uint32_t end = (uint32_t)(nl + 1 - buf);
        s->lines++;
        one_line(s, p, buf, s->line, end, &head);
        s->line = s->searched = end;
    }
    s->searched = len;
    if (mode == AUDITNS_MODE_AHEAD)
        return 0;
    if (s->line < len && (mode == AUDITNS_MODE_EOF || s->in_long || len - s->line > AUDITNS_MAX_LINE)) {
        /* the start of a line too long to be a record, or the unterminated end: passed on as it is */
        if (p->line_cap == p->line_total)
            return -1;
        close_all(s);
        add_line(p, s->line, AUDITNS_LINE_FOREIGN, s->line, 0, s->next_id);
        s->in_long = mode != AUDITNS_MODE_EOF;
        s->line = len;
    }
    if (mode != AUDITNS_MODE_MORE)
        close_all(s);
    s->consumed = s->open ? s->event[0].first : s->line;
    if (s->whole)
        s->consumed = whole_events(s, p);

    p->used = p->total;
    p->line_used = p->line_total;
    while (p->used && p->line_off[p->used - 1] >= s->consumed)
        p->used--;
    while (p->line_used && p->l_off[p->line_used - 1] >= s->consumed)
        p->line_used--;
    p->n = s->voids ? compact(s, p) : p->used;
    p->line_n = p->line_used;
    p->subjects = 0;
    for (uint32_t i = 0; i < p->n; i++)
        p->subjects += p->flags[i] & AUDITNS_P_SUBJECT;
    return s->consumed;
}

void auditns_range(const struct auditns_points *p, uint32_t first, uint32_t end, struct auditns_range *range)
{
    struct auditns_range r = {INT64_MAX, INT64_MIN, UINT64_MAX, 0, 0};
    uint64_t seen[AUDITNS_MAX_RANGE / 64], found = 0;

    for (uint32_t i = first; i < end; i++) {
        r.first_ms = p->ms[i] < r.first_ms ? p->ms[i] : r.first_ms;
        r.last_ms = p->ms[i] > r.last_ms ? p->ms[i] : r.last_ms;
        r.low = p->serial[i] < r.low ? p->serial[i] : r.low;
        r.high = p->serial[i] > r.high ? p->serial[i] : r.high;
    }
    if (first < end && r.high - r.low < AUDITNS_MAX_RANGE) {
        memset(seen, 0, ((r.high - r.low) / 64 + 1) * sizeof(*seen));
        for (uint32_t i = first; i < end; i++) {
            uint64_t at = p->serial[i] - r.low, bit = (uint64_t)1 << at % 64;
            found += !(seen[at / 64] & bit);
            seen[at / 64] |= bit;
        }
        r.complete = found == r.high - r.low + 1;
    }
    *range = r;
}
