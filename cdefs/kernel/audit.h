/* Audit netlink: status, features, rules, the read-only multicast group.
   Layouts of include/uapi/linux/audit.h (Linux 6.18); older kernels send a shorter audit_status. */

#define NETLINK_AUDIT 9
#define AUDIT_GET 1000
#define AUDIT_SET 1001
#define AUDIT_ADD_RULE 1011
#define AUDIT_DEL_RULE 1012
#define AUDIT_LIST_RULES 1013
#define AUDIT_SET_FEATURE 1018
#define AUDIT_GET_FEATURE 1019
#define AUDIT_NLGRP_READLOG 1
#define AUDIT_BITMASK_SIZE 64
#define AUDIT_MAX_FIELDS 64
#define AUDIT_MESSAGE_TEXT_MAX 8560

struct audit_status {
    uint32_t mask;
    uint32_t enabled;
    uint32_t failure;
    uint32_t pid;
    uint32_t rate_limit;
    uint32_t backlog_limit;
    uint32_t lost;
    uint32_t backlog;
    uint32_t feature_bitmap;
    uint32_t backlog_wait_time;
    uint32_t backlog_wait_time_actual;
};

struct audit_features {
    uint32_t vers;
    uint32_t mask;
    uint32_t features;
    uint32_t lock;
};

struct audit_rule_data {
    uint32_t flags;
    uint32_t action;
    uint32_t field_count;
    uint32_t mask[64];
    uint32_t fields[64];
    uint32_t values[64];
    uint32_t fieldflags[64];
    uint32_t buflen;
    char buf[];
};
