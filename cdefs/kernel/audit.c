/* Nothing but the checks: the audit structs are used from Python. */
#include <stddef.h>
#include <stdint.h>

#include "kernel/audit.h"

_Static_assert(sizeof(struct audit_status) == 44, "audit_status");
_Static_assert(offsetof(struct audit_status, lost) == 24, "audit_status.lost");
_Static_assert(offsetof(struct audit_status, backlog_wait_time_actual) == 40, "audit_status.backlog_wait_time_actual");
_Static_assert(sizeof(struct audit_features) == 16, "audit_features");
_Static_assert(sizeof(struct audit_rule_data) == 1040, "audit_rule_data");
_Static_assert(offsetof(struct audit_rule_data, mask) == 12, "audit_rule_data.mask");
_Static_assert(offsetof(struct audit_rule_data, fields) == 268, "audit_rule_data.fields");
_Static_assert(offsetof(struct audit_rule_data, values) == 524, "audit_rule_data.values");
_Static_assert(offsetof(struct audit_rule_data, fieldflags) == 780, "audit_rule_data.fieldflags");
_Static_assert(offsetof(struct audit_rule_data, buf) == 1040, "audit_rule_data.buf");
