/* Capabilities of a long-running program (capabilities(7)); sets are bit masks, bit n is capability n. */

/* Keep only `keep`, in the bounding set too, and set no_new_privs: no exec gives anything back. Only the calling thread:
   to be called before there are others. 0, or a negative errno. Without CAP_SETPCAP the bounding set stays, which
   no_new_privs makes harmless for all but a child that is root. */
int privileges_drop(uint64_t keep);
