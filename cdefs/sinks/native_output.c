/* Writing to outputs without blocking, whatever their descriptors are. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
#include "audittext/lines_impl.h"
#include "sinks/file_writer.h"
#include "sinks/native_output.h"

/* O_NONBLOCK would change the open file that others share, but a pipe that polls writable takes PIPE_BUF bytes: pipe(7). */
static ssize_t write_pipe(int fd, const char *data, size_t size)
{
    struct pollfd p = {fd, POLLOUT, 0};

    if (poll(&p, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, data, size < PIPE_BUF ? size : PIPE_BUF);
}

int64_t output_write(int fd, int kind, const char *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t went = kind == OUTPUT_PIPE ? write_pipe(fd, data + done, size - done)
                                           : send(fd, data + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (went < 0 && errno != EAGAIN && errno != EINTR && !done)
            return -errno;
        if (went <= 0)
            break;
        done += (size_t)went;
    }
    return (int64_t)done;
}

int output_give(struct native_output *o, const char *data, size_t size)
{
    int64_t went;

    o->part = 0;
    if (o->kind == OUTPUT_WRITER) {
        o->refused = !writer_copy(o->writer, data, size);
        return !o->refused;
    }
    went = output_write(o->fd, o->kind, data, size);
    o->refused = went != (int64_t)size;
    if (o->refused) {
        o->part = went > 0 ? (uint64_t)went : 0;
        return 0;
    }
    o->bytes += size;
    o->lines += newlines(data, size);
    return 1;
}
