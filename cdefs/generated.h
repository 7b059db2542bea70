/* Written by cdefs/generate.py from auditns_connector/vocabulary: change it there. */

/* frames.py: kinds and sources of frames */
#define K_FORK 1
#define K_EXEC 2
#define K_EXIT 3
#define K_EXIT_SAMPLE 4
#define K_COMM 5
#define K_NAMESPACES 6
#define K_CGROUP 7
#define K_ATTACH 8
#define K_NEWTASK 9
#define K_NM 10
#define K_UID 11
#define K_GID 12
#define K_SID 13
#define K_PTRACE 14
#define K_COREDUMP 15
#define K_ACK 16
#define K_UNSHARE 17
#define K_SETNS 18
#define K_UNKNOWN 31
#define K_LOST 32
#define K_HELLO 40
#define K_CLOCK 41
#define K_PROC 42
#define K_NSID 43
#define K_MARK 44
#define K_REGISTER 45
#define K_RESYNC 47
#define K_RULES 48
#define K_ADDRS 49
#define K_INSIDE 52
#define K_IDMAP 53
#define K_LOGIN 54
#define K_NSGONE 55
#define K_PROCESS 56
#define RULES_EXECS 1
#define RULES_CALLS 2
#define S_PERF 1
#define S_CN 2
#define S_PROCFS 3
#define S_AUDIT 4
#define S_PIPELINE 5
#define S_CONTROL 6

/* audit_text.py: flags of points, modes of a scan, marks of lines, bounds */
#define AUDITNS_P_SUBJECT 1
#define AUDITNS_P_TARGET 2
#define AUDITNS_P_EXEC 4
#define AUDITNS_P_USER 8
#define AUDITNS_P_NETFILTER 16
#define AUDITNS_P_SINGLE 32
#define AUDITNS_P_HAS_TARGET 64
#define AUDITNS_P_NODE 128
#define AUDITNS_P_OWN 256
#define AUDITNS_P_LATE 512
#define AUDITNS_P_SYSCALL 1024
#define AUDITNS_P_SUCCESS 2048
#define AUDITNS_MODE_MORE 0
#define AUDITNS_MODE_FLUSH 1
#define AUDITNS_MODE_EOF 2
#define AUDITNS_MODE_AHEAD 3
#define AUDITNS_LINE_FOREIGN 4294967295
#define AUDITNS_LINE_LATE 4294967294
#define AUDITNS_MAX_LINE 65536
#define AUDITNS_MAX_SPAN 65536
#define AUDITNS_MAX_OPEN 256
#define AUDITNS_MAX_WHOLE 1048576
#define AUDITNS_CLOSED 256
#define AUDITNS_OLDER_MS 2000
#define AUDITNS_MAX_RANGE 65536

/* timing.py, nanoseconds */
#define AUDITNS_EPSILON 1000000
#define AUDITNS_LATE 100000000
#define AUDITNS_EXEC_TIME 1000000000
#define AUDITNS_SLACK 20000000
#define AUDITNS_RECENT 10000000000

/* record_types.py */
#define AUDIT_EOE 1320
#define AUDIT_FIRST_DAEMON 1200
#define AUDIT_LAST_DAEMON 1299
#define FIRST_EVENT 1300
#define FIRST_ANOM_MSG 2100
