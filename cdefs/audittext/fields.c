/* The fields of a record that a point is made of. */
#include "audittext/scan_impl.h"

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

int is_exec(uint32_t arch, int32_t nr)
{
    switch (arch) {
#define CASE(arch, is) case arch: return is;
        EXEC_CALLS(CASE)
#undef CASE
    }
    return 0;
}

/* The kernel's own part of a body: up to 0x1D (what ENRICHED adds begins there). */
static const char *kernel_part(const char *body, const char *end)
{
    const char *gs = memchr(body, 0x1d, (size_t)(end - body));
    return gs ? gs : end;
}

/* whether the word whose first bytes are x is, or begins with, up to eight bytes; no byte of theirs is a space */
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

uint32_t before_cut_pid(const char *buf, uint32_t body, uint32_t stop)
{
    static const char *const names[] = {"pid=", "ppid=", "opid="};
    uint32_t at = stop;

    while (at > body && buf[at - 1] != ' ')
        at--;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        size_t n = strlen(names[i]);
        if (stop - at >= n && !memcmp(buf + at, names[i], n))
            return at;
    }
    return stop;
}

void subject_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    struct words words = words_of(t, kernel_part(t, end));
    struct word word;

    while (take_word(&words, t, &word)) {
        size_t n = (size_t)(word.stop - t);
        uint64_t x = word.first;
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
        t = word.stop + 1;
        if ((seen & 60) == 60) { /* the others begin with one of these letters */
            t = word_ckmp(word.stop, words.end);
            words = words_of(t, words.end);
        }
    }
}

void target_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    struct words words = words_of(t, kernel_part(t, end));

    for (struct word word; take_word(&words, t, &word); t = word.stop + 1) {
        size_t n = (size_t)(word.stop - t);
        uint64_t x = word.first;
        if (IS("opid=") && FIRST(1))
            p->pid[i] = number31(t + 5, n - 5);
        else if (IS("ocomm=") && FIRST(2)) {
            p->aux1_off[i] = (uint32_t)(t + 6 - buf);
            p->aux1_len[i] = (uint32_t)(n - 6);
        }
    }
}

/* PATH item=0 of an exec: the file name */
void path_fields(struct auditns_points *p, uint32_t i, const char *buf, const char *t, const char *end)
{
    unsigned seen = 0;
    struct word name = {NULL, NULL, 0};
    struct words words = words_of(t, kernel_part(t, end));

    for (struct word word; seen != 3 && take_word(&words, t, &word); t = word.stop + 1) {
        uint64_t x = word.first;
        if (IS("item=") && FIRST(1)) {
            if (word.stop - t != 6 || t[5] != '0')
                return;
        } else if (IS("name=") && FIRST(2)) {
            name = word;
        }
    }
    if (seen == 3) {
        p->aux2_off[i] = (uint32_t)(name.at + 5 - buf);
        p->aux2_len[i] = (uint32_t)(name.stop - name.at - 5);
    }
}
