/* The terms of a line: what a block's filter is asked for. tests/reference/index_terms.py is the readable reference. */
#define _GNU_SOURCE /* memrchr */
#include <arpa/inet.h>
#include "archive/archive_impl.h"

#define TYPE_USER_LOGIN 1112
/* what a security module says of a file that it was asked about */
#define IS_ACCESS(type) ((type >= 1400 && type < 1600) || (type >= 1800 && type < 1900))

static struct span last_component(struct span path)
{
    while (path.len > 1 && path.at[path.len - 1] == '/')
        path.len--;
    const char *slash = memrchr(path.at, '/', path.len);
    if (slash && path.len > 1) {
        path.len -= (uint32_t)(slash + 1 - path.at);
        path.at = slash + 1;
    }
    return path;
}

static int text_term(struct archive_text *a, uint32_t kind, uint32_t last, struct span raw)
{
    char buf[MOST_DECODED];
    struct span value;

    if (!archive_untrusted(raw, buf, &value))
        return 1;
    if (!archive_add_term(a, kind, value.at, value.len))
        return 0;
    value = last_component(value);
    return !last || archive_add_term(a, last, value.at, value.len);
}

static int plain_term(struct archive_text *a, uint32_t kind, struct span raw)
{
    return !raw.len || span_is(raw, "?", 1) || archive_add_term(a, kind, raw.at, raw.len);
}

/* Keys are separated by a byte 1. */
static int key_terms(struct archive_text *a, struct span raw)
{
    char buf[MOST_DECODED];
    struct span keys;

    if (!archive_untrusted(raw, buf, &keys)) /* a user's program may write one as it is */
        return span_is(raw, "(null)", 6) || plain_term(a, ARCHIVE_TERM_KEY, unquoted(raw));
    while (keys.len) {
        const char *stop = memchr(keys.at, 1, keys.len);
        uint32_t len = stop ? (uint32_t)(stop - keys.at) : keys.len;
        if (len && !archive_add_term(a, ARCHIVE_TERM_KEY, keys.at, len))
            return 0;
        keys.at += stop ? len + 1 : len;
        keys.len -= stop ? len + 1 : len;
    }
    return 1;
}

static int contid_terms(struct archive_text *a, struct span s)
{
    const char *end;

    s = unquoted(s);
    end = s.at + s.len;
    for (const char *p = s.at; p < end;) {
        const char *start = p;
        while (p < end && *p != ',' && *p != '^')
            p++;
        if (p > start && !archive_add_term(a, ARCHIVE_TERM_CONTID, start, (uint32_t)(p - start)))
            return 0;
        p++;
    }
    return 1;
}

/* A struct sockaddr in hex: its address. */
static int sockaddr_term(struct archive_text *a, struct span raw)
{
    char buf[MOST_DECODED], text[INET6_ADDRSTRLEN];
    uint32_t len;

    if (!archive_from_hex(raw, buf, sizeof(buf), &len) || len < 3)
        return 1;
    uint16_t family;
    memcpy(&family, buf, sizeof(family));
    if (family == 1) { /* unix: a path, or a name behind a NUL */
        uint32_t skip = 2 + !buf[2], n = 0;
        while (skip + n < len && buf[skip + n])
            n++;
        return !n || archive_add_term(a, ARCHIVE_TERM_ADDR, buf + skip, n);
    }
    int inet = family == 2 && len >= 8, inet6 = family == 10 && len >= 24;
    if (!inet && !inet6)
        return 1;
    if (!inet_ntop(inet ? AF_INET : AF_INET6, buf + (inet ? 4 : 8), text, sizeof(text)))
        return 1;
    return archive_add_term(a, ARCHIVE_TERM_ADDR, text, (uint32_t)strlen(text));
}

#define ARGUMENT 1
#define PIECE 2 /* a12[3]: of one that is put together of several records perhaps */

static int is_argument(const char *t, size_t n)
{
    if (n < 2 || *t != 'a' || t[1] < '0' || t[1] > '9')
        return 0;
    for (size_t i = 2; i < n; i++)
        if (t[i] < '0' || t[i] > '9')
            return t[i] == '[' ? PIECE : 0;
    return ARGUMENT;
}

static int argument_term(struct archive_text *a, int how, struct span v)
{
    return how == PIECE ? archive_add_term(a, ARCHIVE_TERM_ARG, "", 0) : text_term(a, ARCHIVE_TERM_ARG, 0, v);
}

/* A word NAME=VALUE of a line. */
struct named {
    const char *t;
    size_t n;
    uint64_t x; /* the name, where it has eight bytes or less */
    struct span v;
    uint32_t type; /* of the record */
};

#define NAMED(word) (f->n == sizeof(word) - 1 && f->x == eight(word "\0\0\0\0\0\0\0"))
#define NAMED_LONG(word) (f->n == sizeof(word) - 1 && !memcmp(f->t, word, sizeof(word) - 1))

static struct named named_of(const char *t, size_t n, struct span v, uint32_t type)
{
    return (struct named){t, n, n <= 8 ? first_of(eight_before(t, v.at + v.len), n) : 0, v, type};
}

static int word_of_o(struct archive_text *a, const struct named *f)
{
    if (NAMED("opid"))
        return plain_term(a, ARCHIVE_TERM_PID, f->v);
    if (NAMED("ocomm"))
        return text_term(a, ARCHIVE_TERM_COMM, 0, f->v);
    if (NAMED("old-auid"))
        return plain_term(a, ARCHIVE_TERM_AUID, f->v);
    return !NAMED_LONG("old-contid") || contid_terms(a, f->v);
}

static int word_of_a(struct archive_text *a, const struct named *f)
{
    int how = f->type == TYPE_EXECVE ? is_argument(f->t, f->n) : 0;

    if (NAMED("auid"))
        return plain_term(a, ARCHIVE_TERM_AUID, f->v);
    return !how || argument_term(a, how, f->v);
}

static int word_of_e(struct archive_text *a, struct work *w, const struct named *f)
{
    if (NAMED("exe")) {
        w->exe = f->v;
        return text_term(a, ARCHIVE_TERM_EXE, ARCHIVE_TERM_EXENAME, f->v);
    }
    if (NAMED("entry"))
        return plain_term(a, ARCHIVE_TERM_ENTRY, f->v) && archive_add_term(a, ARCHIVE_TERM_ENTRY, "*", 1);
    if (NAMED_LONG("entry-how")) /* the record tells who came, and how */
        return archive_add_term(a, ARCHIVE_TERM_ENTRY, "how", 3);
    return !NAMED("euid") || plain_term(a, ARCHIVE_TERM_UID, f->v);
}

static int word_of_c(struct archive_text *a, struct work *w, const struct named *f)
{
    if (NAMED("comm"))
        return text_term(a, ARCHIVE_TERM_COMM, 0, f->v);
    if (NAMED("contid"))
        return contid_terms(a, f->v);
    if (f->type == TYPE_CWD && NAMED("cwd") && !w->has_cwd++)
        w->cwd = f->v;
    return 1;
}

static int word_of_s(struct archive_text *a, struct work *w, const struct named *f)
{
    if (NAMED("syscall"))
        return plain_term(a, ARCHIVE_TERM_SYSCALL, f->v);
    if (NAMED("success"))
        w->failed |= span_is(f->v, "no", 2);
    else if (NAMED("saddr"))
        return f->type == TYPE_NETFILTER_PKT ? plain_term(a, ARCHIVE_TERM_ADDR, f->v) : sockaddr_term(a, f->v);
    return 1;
}

static int word_of_p(struct archive_text *a, struct work *w, const struct named *f)
{
    if (NAMED("pid") || NAMED("ppid"))
        return plain_term(a, ARCHIVE_TERM_PID, f->v);
    return !NAMED("path") || archive_path(a, w, f->v);
}

static int word_of_k(struct archive_text *a, struct work *w, const struct named *f)
{
    if (!NAMED("key"))
        return 1;
    w->key = f->v;
    return key_terms(a, f->v);
}

static int word_of_n(struct archive_text *a, struct work *w, const struct named *f)
{
    return !(NAMED("name") && (f->type == TYPE_PATH || IS_ACCESS(f->type))) || archive_path(a, w, f->v);
}

/* One word that the kernel wrote. */
static int kernel_word(struct archive_text *a, struct work *w, const struct named *f)
{
    switch (*f->t) {
    case 'p':
        return word_of_p(a, w, f);
    case 'o':
        return word_of_o(a, f);
    case 'a':
        return word_of_a(a, f);
    case 'u':
        return !NAMED("uid") || plain_term(a, ARCHIVE_TERM_UID, f->v);
    case 'e':
        return word_of_e(a, w, f);
    case 'n':
        return word_of_n(a, w, f);
    case 'k':
        return word_of_k(a, w, f);
    case 'c':
        return word_of_c(a, w, f);
    case 's':
        return word_of_s(a, w, f);
    case 'd':
        return !NAMED("daddr") || plain_term(a, ARCHIVE_TERM_ADDR, f->v);
    }
    w->failed |= NAMED("res") && span_is(f->v, "0", 1);
    return 1;
}

/* One word of msg='…': what the sender says of itself. */
static int user_word(struct archive_text *a, struct work *w, const struct named *f)
{
    struct span v = f->v;

    if (v.len && v.at[v.len - 1] == '\'')
        v.len--;
    if (NAMED("exe"))
        return text_term(a, ARCHIVE_TERM_EXE, ARCHIVE_TERM_EXENAME, v);
    if (NAMED("addr"))
        return plain_term(a, ARCHIVE_TERM_ADDR, v);
    if (NAMED("res"))
        w->failed |= span_is(v, "failed", 6) || span_is(v, "0", 1);
    return 1;
}

int archive_line(struct archive_text *a, struct work *w, const char *t, const char *end, uint32_t type)
{
    struct words words = words_of(t, end);
    int user = 0;

    if (type == TYPE_PROCTITLE || type == AUDIT_EOE)
        return 1;
    w->has_cwd = 0;
    while (t < end) {
        const char *q = word_stop(&words, t), *eq;
        if (!user && q - t > 5 && !memcmp(t, "msg='", 5)) {
            user = 1;
            t += 5;
        }
        eq = memchr(t, '=', (size_t)(q - t));
        if (eq) {
            struct named f = named_of(t, (size_t)(eq - t), (struct span){eq + 1, (uint32_t)(q - eq - 1)}, type);
            if (!(user ? user_word(a, w, &f) : kernel_word(a, w, &f)))
                return 0;
        }
        t = q + 1;
    }
    return 1;
}
