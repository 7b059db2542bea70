/* Whether the wall clock was set: a timerfd on CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET, see timerfd_create(2). */

/* A descriptor to ask, or -errno. */
int clock_watch_open(void);
/* 1 when the clock was set since the last call (or the opening), 0 when not, or -errno. */
int clock_watch_changed(int fd);
