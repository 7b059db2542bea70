/* How the wall clock stands to CLOCK_MONOTONIC, and whether it was set. Times in ns. */

struct clock_sample {
    int watch;       /* of clock_watch_open(), or negative */
    int emitted;     /* `offset` was written; 0: write it in any case */
    int missed;      /* the clock was set since the sample before, and set back: the offset does not show it */
    int64_t step;    /* an offset that moved more than this is worth telling */
    int64_t offset;  /* CLOCK_REALTIME minus CLOCK_MONOTONIC as it was written last, right to a microsecond or so */
    int64_t at;      /* when this sample was taken */
    int64_t before;  /* and the one before */
};

/* CLOCK_MONOTONIC. */
int64_t clock_now(void);
/* A timerfd on CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET, see timerfd_create(2); or -errno. */
int clock_watch_open(void);
/* Take a sample: 1 when it is to be written, 0 when nothing has changed. */
int clock_look(struct clock_sample *sample);
