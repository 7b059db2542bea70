#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "kernel_clock.h"

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

int clock_watch_changed(int fd)
{
    uint64_t ticks;

    if (read(fd, &ticks, sizeof(ticks)) >= 0)
        return 0;
    if (errno == ECANCELED)
        return 1;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}
