/* NS_INIT, NS_CHANGE and NS_DEL as audit text. A storm of namespaces makes eight of them for each: put together one by
 * one in Python they cost more than everything else that is done about it. */
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include "records/lines.h"

/* The names of fields, numbers at their longest, and a type in its numeric spelling. */
#define LONGEST 512

static const char HEX[] = "0123456789abcdef";
static const char UPPER_HEX[] = "0123456789ABCDEF";

#define PUT(p, literal) put(p, literal, sizeof(literal) - 1)

static uint8_t *put(uint8_t *p, const void *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}

static uint8_t *put_decimal(uint8_t *p, uint64_t value, int width)
{
    uint8_t digits[24], *at = digits + sizeof(digits);
    do {
        *--at = (uint8_t)('0' + value % 10);
        value /= 10;
        width--;
    } while (value || width > 0);
    return put(p, at, (size_t)(digits + sizeof(digits) - at));
}

static uint8_t *put_signed(uint8_t *p, int64_t value)
{
    if (value >= 0)
        return put_decimal(p, (uint64_t)value, 1);
    *p++ = '-';
    return put_decimal(p, -(uint64_t)value, 1);
}

static uint8_t *put_hex(uint8_t *p, uint64_t value, int width)
{
    uint8_t digits[16], *at = digits + sizeof(digits);
    do {
        *--at = (uint8_t)HEX[value & 15];
        value >>= 4;
        width--;
    } while (value || width > 0);
    return put(p, at, (size_t)(digits + sizeof(digits) - at));
}

static uint8_t *put_optional(uint8_t *p, const struct lifecycle_record *r, uint32_t flag, int64_t value)
{
    return r->flags & flag ? put_signed(p, value) : PUT(p, "?");
}

static uint8_t *put_optional_ino(uint8_t *p, const struct lifecycle_record *r, uint32_t flag, uint64_t value)
{
    return r->flags & flag ? put_decimal(p, value, 1) : PUT(p, "?");
}

static uint8_t *put_optional_hex(uint8_t *p, const struct lifecycle_record *r, uint32_t flag, uint64_t value)
{
    return r->flags & flag ? put_hex(p, value, 1) : PUT(p, "?");
}

/* As audit_log_untrustedstring() writes it: in quotes, or in hex where it holds a quote, a byte below 0x21 or one above
 * 0x7e. */
static uint8_t *put_untrusted(uint8_t *p, const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] > 0x20 && s[i] < 0x7f && s[i] != '"')
            continue;
        for (size_t j = 0; j < n; j++) {
            *p++ = (uint8_t)UPPER_HEX[s[j] >> 4];
            *p++ = (uint8_t)UPPER_HEX[s[j] & 15];
        }
        return p;
    }
    *p++ = '"';
    p = put(p, s, n);
    *p++ = '"';
    return p;
}

static uint8_t *put_who(uint8_t *p, const struct lifecycle_record *r, const uint8_t *pool)
{
    p = PUT(p, "comm=");
    p = r->flags & RECORD_KNOWS_COMM ? put_untrusted(p, pool + r->comm, r->comm_len) : PUT(p, "?");
    if (r->flags & RECORD_HAS_CONTID) {
        p = PUT(p, " contid=");
        p = put(p, pool + r->contid, r->contid_len);
    }
    return p;
}

static uint8_t *put_dev(uint8_t *p, const struct lifecycle_record *r)
{
    if (!(r->flags & RECORD_KNOWS_DEV))
        return PUT(p, "?");
    p = put_hex(p, major(r->dev), 2);
    *p++ = ':';
    return put_hex(p, minor(r->dev), 2);
}

static uint8_t *put_type(uint8_t *p, const struct lifecycle_record *r)
{
    p = PUT(p, " type=");
    return put_hex(p, r->nstype, 1);
}

static uint8_t *put_ids(uint8_t *p, const struct lifecycle_record *r)
{
    p = PUT(p, "pid=");
    p = put_optional(p, r, RECORD_KNOWS_PID, r->pid);
    p = PUT(p, " uid=");
    p = put_optional(p, r, RECORD_KNOWS_UID, r->uid);
    p = PUT(p, " auid=");
    p = put_optional(p, r, RECORD_KNOWS_AUID, r->auid);
    p = PUT(p, " ses=");
    return put_optional(p, r, RECORD_KNOWS_SES, r->ses);
}

static uint8_t *put_serials(uint8_t *p, const struct lifecycle_record *r)
{
    p = PUT(p, " old_snum=");
    p = put_optional_hex(p, r, RECORD_KNOWS_OLD_SNUM, r->old_snum);
    p = PUT(p, " snum=");
    p = put_optional_hex(p, r, RECORD_KNOWS_SNUM, r->snum);
    *p++ = ' ';
    return p;
}

static uint8_t *put_where(uint8_t *p, const struct lifecycle_record *r)
{
    p = PUT(p, " dev=");
    p = put_dev(p, r);
    p = PUT(p, " ino=");
    return put_optional_ino(p, r, RECORD_KNOWS_INO, r->ino);
}

static uint8_t *put_init(uint8_t *p, const struct lifecycle_record *r, const uint8_t *pool)
{
    p = put_type(put_ids(p, r), r);
    return put_where(put_who(put_serials(p, r), r, pool), r);
}

static uint8_t *put_del(uint8_t *p, const struct lifecycle_record *r, const uint8_t *pool)
{
    p = put_type(put_ids(p, r), r);
    p = PUT(p, " snum=");
    p = put_optional_hex(p, r, RECORD_KNOWS_SNUM, r->snum);
    *p++ = ' ';
    p = put_where(put_who(p, r, pool), r);
    p = PUT(p, " held=");
    return put(p, pool + r->word, r->word_len);
}

static uint8_t *put_change(uint8_t *p, const struct lifecycle_record *r, const uint8_t *pool)
{
    p = PUT(p, "pid=");
    p = put_optional(p, r, RECORD_KNOWS_PID, r->pid);
    if (r->tid) {
        p = PUT(p, " tid=");
        p = put_signed(p, r->tid);
    }
    p = PUT(p, " ppid=");
    p = put_optional(p, r, RECORD_KNOWS_PPID, r->ppid);
    p = PUT(p, " auid=");
    p = put_optional(p, r, RECORD_KNOWS_AUID, r->auid);
    p = PUT(p, " ses=");
    p = put_optional(p, r, RECORD_KNOWS_SES, r->ses);
    p = put_type(p, r);
    p = PUT(p, " reason=");
    p = put(p, pool + r->word, r->word_len);
    p = put_who(put_serials(p, r), r, pool);
    p = PUT(p, " exe=");
    p = r->flags & RECORD_KNOWS_EXE ? put_untrusted(p, pool + r->exe, r->exe_len) : PUT(p, "?");
    p = PUT(p, " dev=");
    p = put_dev(p, r);
    p = PUT(p, " old-ino=");
    p = put_optional_ino(p, r, RECORD_KNOWS_OLD_INO, r->old_ino);
    p = PUT(p, " ino=");
    p = put_optional_ino(p, r, RECORD_KNOWS_INO, r->ino);
    return r->flags & RECORD_IS_LAST ? PUT(p, " last=1") : p;
}

static uint8_t *put_head(uint8_t *p, const char *type, const uint8_t *node, size_t node_len, int64_t ms, uint32_t serial)
{
    /* times before 1970 as Python divides them: rounded down */
    int64_t seconds = ms / 1000 - (ms % 1000 < 0);
    p = put(p, node, node_len);
    p = PUT(p, "type=");
    p = put(p, type, strlen(type));
    p = PUT(p, " msg=audit(");
    p = put_signed(p, seconds);
    *p++ = '.';
    p = put_decimal(p, (uint64_t)(ms - seconds * 1000), 3);
    *p++ = ':';
    p = put_decimal(p, serial, 1);
    return PUT(p, "): ");
}

size_t records_room(const struct lifecycle_record *records, uint32_t count, size_t node_len)
{
    size_t room = count * (LONGEST + node_len);
    for (uint32_t i = 0; i < count; i++)
        room += 2 * (size_t)records[i].comm_len + 2 * (size_t)records[i].exe_len + records[i].contid_len + records[i].word_len;
    return room;
}

static int inside(uint32_t at, uint32_t len, size_t pool_len)
{
    return at <= pool_len && len <= pool_len - at;
}

int64_t records_lines(const struct lifecycle_record *records, uint32_t count, const uint8_t *pool, size_t pool_len,
                      const char *const *types, const uint8_t *node, size_t node_len, uint32_t serial, uint8_t *out)
{
    uint8_t *p = out;
    for (uint32_t i = 0; i < count; i++) {
        const struct lifecycle_record *r = records + i;
        if (r->kind >= RECORD_KINDS || !inside(r->comm, r->comm_len, pool_len)
            || !inside(r->contid, r->contid_len, pool_len) || !inside(r->word, r->word_len, pool_len)
            || !inside(r->exe, r->exe_len, pool_len))
            return -1;
        p = put_head(p, types[r->kind], node, node_len, r->ms, serial++);
        p = r->kind == RECORD_NS_INIT ? put_init(p, r, pool)
            : r->kind == RECORD_NS_CHANGE ? put_change(p, r, pool)
                                          : put_del(p, r, pool);
        p = PUT(p, " res=1\n");
    }
    return p - out;
}
