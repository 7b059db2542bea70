/* Lines of the records of ours that come in numbers: how namespaces come to be, change and go. audittext/own_records.py is
 * the readable form of the same lines; a test holds both byte-identical. */

#define RECORD_NS_INIT 0
#define RECORD_NS_CHANGE 1
#define RECORD_NS_DEL 2
#define RECORD_KINDS 3

/* Which fields are known; one that is not is written "?". */
#define RECORD_KNOWS_PID 1
#define RECORD_KNOWS_UID 2
#define RECORD_KNOWS_AUID 4
#define RECORD_KNOWS_SES 8
#define RECORD_KNOWS_SNUM 16
#define RECORD_KNOWS_OLD_SNUM 32
#define RECORD_KNOWS_DEV 64
#define RECORD_KNOWS_INO 128
#define RECORD_KNOWS_OLD_INO 256
#define RECORD_KNOWS_COMM 512
#define RECORD_HAS_CONTID 1024
#define RECORD_IS_LAST 2048
#define RECORD_KNOWS_PPID 4096
#define RECORD_KNOWS_EXE 8192

/* One record. comm, exe, contid and word (the reason of an NS_CHANGE, held= of an NS_DEL) are bytes of a text pool. */
struct lifecycle_record {
    int64_t ms;                                  /* milliseconds since 1970 */
    uint64_t snum, old_snum, dev, ino, old_ino;
    int64_t pid, tid, uid, auid, ses, ppid;      /* tid 0: the leader */
    uint32_t nstype;                             /* its CLONE_NEW* flag */
    uint32_t kind, flags;
    uint32_t comm, comm_len, contid, contid_len, word, word_len, exe, exe_len;
};

/* Bytes that these lines take at most. */
size_t records_room(const struct lifecycle_record *records, uint32_t count, size_t node_len);

/* One line for each record to `out`, which has that room; their serials are `serial` and on, modulo 2^32. `types` are
 * the RECORD_KINDS names of the record types, `node` a prefix with its space or empty. Returns the length; -1 where
 * a record names bytes that the pool does not have, or a kind that there is none of. */
int64_t records_lines(const struct lifecycle_record *records, uint32_t count, const uint8_t *pool, size_t pool_len,
                      const char *const *types, const uint8_t *node, size_t node_len, uint32_t serial, uint8_t *out);
