#include <stdint.h>

/* Drop from the bounding set what is not in `keep`; 0, or a negative errno. */
int privileges_bound(uint64_t keep);
/* Keep of the permitted and effective sets only what is in `keep`; 0, or a negative errno. */
int privileges_keep(uint64_t keep);
