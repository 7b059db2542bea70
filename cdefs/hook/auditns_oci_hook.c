/* auditns-oci-hook: a container runtime calls it as createRuntime, prestart or poststop hook, with the container's state
   (OCI runtime specification, "State") on stdin.

   It hands that document, whatever is in it, to the listener or plugin in a sealed memfd and waits for one line: nothing
   is parsed here, and a container's start waits for no interpreter. It must never break a start: whatever goes wrong is
   one warning on stderr and exit code 0 (1 with --strict), and it gives up after --timeout milliseconds. Sources:
   memfd_create(2), unix(7). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONTROL "/run/auditns/control"
#define TIMEOUT 1000        /* ms: a listener on a busy machine may be kept from the CPU for long */
#define MAX_TIMEOUT 3600000
#define MAX_STATE (4 << 20)
#define MAX_WAIT 50         /* ms */
#define RETRY 2             /* ms between attempts to connect while the server's backlog is full */
#define AGAIN 50            /* ms until a server that is behind is asked again */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static const char request[] = "{\"v\": 1, \"op\": \"contid-state\"}";
static int strict;
static int64_t deadline;    /* CLOCK_MONOTONIC, ms */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* The warning, and the end. What others said is shown without the bytes that a terminal would act on. */
static _Noreturn void give_up(const char *why, const char *what)
{
    char text[600];
    int size = snprintf(text, sizeof text - 100, "auditns: oci-hook: %s%s%s", what ? what : "", what ? ": " : "", why);

    if (size > (int)sizeof text - 101)
        size = (int)sizeof text - 101;
    for (int i = 0; i < size; i++)
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '?';
    size += snprintf(text + size, sizeof text - (size_t)size, "; the container is not registered (%s)\n",
                     strict ? "start refused" : "its identifier will be a derived one");
    while (write(2, text, (size_t)size) < 0 && errno == EINTR)
        ;
    _exit(strict);
}

static _Noreturn void give_up_errno(const char *what)
{
    give_up(strerror(errno), what);
}

/* Until fd has something for `events`, or the deadline. */
static void await(int fd, short events, int64_t timeout)
{
    for (;;) {
        struct pollfd one = {fd, events, 0};
        int64_t left = deadline - now_ms();
        char why[64];
        int found;

        if (left <= 0) {
            snprintf(why, sizeof why, "no answer within %lld ms", (long long)timeout);
            give_up(why, NULL);
        }
        found = poll(&one, 1, (int)left);
        if (found > 0)
            return;
        if (found < 0 && errno != EINTR && errno != EAGAIN)
            give_up_errno("poll");
    }
}

/* stdin, to its end, in a memfd that nobody can change any more. */
static int document(int64_t timeout)
{
    static char block[65536];
    int memory = memfd_create("auditns-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int64_t size = 0;

    if (memory < 0)
        give_up_errno("memfd_create");
    for (;;) {
        ssize_t got;

        await(0, POLLIN, timeout);
        got = read(0, block, sizeof block);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            give_up_errno("stdin");
        if (got == 0)
            break;
        size += got;
        if (size > MAX_STATE)
            give_up("what it reads is too large", NULL);
        for (ssize_t put = 0; put < got;) {
            ssize_t done = write(memory, block + put, (size_t)(got - put));

            if (done < 0 && errno != EINTR)
                give_up_errno("memfd");
            if (done > 0)
                put += done;
        }
    }
    if (fcntl(memory, F_ADD_SEALS, SEALS))
        give_up_errno("memfd");
    return memory;
}

static int connected(const char *path, int64_t timeout)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (sock < 0)
        give_up_errno("socket");
    if (strlen(path) >= sizeof address.sun_path)
        give_up("the path of the control socket is too long", NULL);
    strcpy(address.sun_path, path);
    while (connect(sock, (struct sockaddr *)&address, sizeof address)) {
        if (errno == ENOENT || errno == ECONNREFUSED)
            give_up("nobody serves it: neither auditns listen nor the plugin is running", path);
        if (errno != EAGAIN && errno != EINTR)
            give_up_errno(path);
        sleep_ms(RETRY);
        if (now_ms() >= deadline)
            await(sock, 0, timeout);
    }
    return sock;
}

static void ask(int sock, int memory)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } room = {{0}};
    struct iovec text = {(void *)request, sizeof request - 1};
    struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof memory);
    memcpy(CMSG_DATA(header), &memory, sizeof memory);
    while (sendmsg(sock, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            give_up_errno("control socket");
}

/* The answer is one line: "ok MS", or why not. Returns where it is to be asked again: the server is behind. */
static void finish(int sock, int64_t timeout)
{
    char line[512];
    ssize_t got;

    do {
        await(sock, POLLIN, timeout);
        got = recv(sock, line, sizeof line - 1, 0);
    } while (got < 0 && (errno == EINTR || errno == EAGAIN));
    if (got < 0)
        give_up_errno("control socket");
    line[got] = 0;
    if (!strncmp(line, "ok ", 3)) {
        long wait = strtol(line + 3, NULL, 10);

        /* audit's stamps are coarse: only after this can no event of the container be taken for one before its id */
        if (wait > 0)
            sleep_ms(wait < MAX_WAIT ? wait : MAX_WAIT);
        _exit(0);
    }
    if (!strncmp(line, "no EAGAIN:", 10) && now_ms() + AGAIN < deadline)
        return;
    if (!strncmp(line, "no ", 3))
        give_up(line + 3, "refused");
    if (line[0] == '{') /* 0.1.0 answers all requests with an object */
        give_up("an older version serves it: start that anew", "control socket");
    give_up("it gave no answer that makes sense", "control socket");
}

/* The value of option `name` at argv[*at]: behind "=", or the next word; NULL where it is another option. */
static const char *value(const char *name, char **argv, int *at)
{
    size_t size = strlen(name);

    if (strncmp(argv[*at], name, size))
        return NULL;
    if (argv[*at][size] == '=')
        return argv[*at] + size + 1;
    if (argv[*at][size])
        return NULL;
    return argv[*at + 1] ? argv[++*at] : "";
}

/* Descriptors 0 to 2 may be closed: what is opened here must not take their places. */
static void fill_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv)
{
    const char *control = CONTROL, *text;
    int64_t timeout = TIMEOUT;

    fill_standard();
    for (int i = 1; i < argc; i++)
        strict |= !strcmp(argv[i], "--strict");
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--strict") || (i == 1 && !strcmp(argv[i], "oci-hook")))
            continue; /* "auditns oci-hook" was its name once, and hook files outlive an update */
        if ((text = value("--control", argv, &i)))
            control = text;
        else if ((text = value("--timeout", argv, &i))) {
            char *end;
            long long given = strtoll(text, &end, 10);

            if (*text && !*end && given > 0 && given <= MAX_TIMEOUT)
                timeout = given;
        } else
            give_up("is not an option of it (see auditns oci-hook --help)", argv[i]);
    }
    deadline = now_ms() + timeout;
    int memory = document(timeout);

    for (;;) {
        int sock = connected(control, timeout);

        ask(sock, memory);
        finish(sock, timeout);
        close(sock);
        sleep_ms(AGAIN);
    }
}
