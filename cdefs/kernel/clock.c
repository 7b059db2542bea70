#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "kernel/clock.h"

int clock_watch_open(void)
{
    /* far away: it is never to expire, only to be cancelled */
    struct itimerspec never = {.it_value = {.tv_sec = (time_t)INT64_MAX / 2000000000}};
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC), err;

    if (fd < 0)
        return -errno;
    if (timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0) {
        err = errno;
        close(fd);
        return -err;
    }
    return fd;
}

static int64_t read_clock(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int64_t clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static int was_set(int watch)
{
    uint64_t ticks;

    return watch >= 0 && read(watch, &ticks, sizeof(ticks)) < 0 && errno == ECANCELED;
}

int clock_look(struct clock_sample *sample)
{
    int64_t offset = 0, best = INT64_MAX, before, real, after;
    int set = was_set(sample->watch), tries = 3, moved;

    do {
        before = clock_now();
        real = read_clock(CLOCK_REALTIME);
        after = clock_now();
        if (after - before < best) {
            best = after - before;
            offset = real - before - best / 2;
        }
    } while (best >= 2000 && --tries);
    sample->before = sample->at;
    sample->at = after;
    moved = !sample->emitted || offset - sample->offset > sample->step || sample->offset - offset > sample->step;
    if (!moved && !set)
        return 0;
    sample->emitted = 1;
    sample->missed = !moved;
    sample->offset = offset;
    return 1;
}
