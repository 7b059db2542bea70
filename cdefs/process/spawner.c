/* The process that starts child plugins. Between fork and exec, and in this process itself, nothing but system calls:
   the program it is forked from may have threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include "process/privileges_impl.h"
#include "process/spawner.h"

#define SOCK 3

/* Signals as a program finds them that nobody meddled with. */
static void reset_signals(void)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &by_default, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(unsigned first)
{
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
    for (int fd = (int)first; fd < 65536; fd++) /* Linux before 5.9 */
        close(fd);
}

/* The child, up to its exec; why it failed goes to `report`, which an exec closes. */
static _Noreturn void become(const struct spawner_program *program, int in, int err, int report)
{
    char *strings[SPAWNER_STRINGS + 2];
    const char *next = program->strings;
    uint32_t at = 0;
    int failed;

    for (uint32_t i = 0; i < program->count; i++) {
        if (i == program->args)
            strings[at++] = NULL;
        strings[at++] = (char *)next;
        next += strlen(next) + 1;
    }
    if (program->count == program->args)
        strings[at++] = NULL;
    strings[at] = NULL;
    setpgid(0, 0);
    reset_signals();
    /* none of 0 to 2 is a descriptor that was passed: those are open here */
    if (dup2(in, 0) < 0 || dup2(err, 1) < 0 || dup2(err, 2) < 0 || dup2(report, SOCK) < 0)
        _exit(127);
    fcntl(SOCK, F_SETFD, FD_CLOEXEC);
    close_from(SOCK + 1);
    failed = -privileges_bound(program->caps);
    if (failed == EPERM && geteuid())
        failed = 0; /* started by an ordinary user: there is nothing to give up */
    if (!failed) {
        execve(strings[0], strings, strings + program->args + 1);
        failed = errno;
    }
    while (write(SOCK, &failed, sizeof failed) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static int start(const struct spawner_program *program, const int *fds, struct spawner_answer *answer)
{
    int report[2], failed = 0, pidfd = -1;
    ssize_t got;

    if (fds[0] < 0 || fds[1] < 0)
        return answer->error = EINVAL, -1;
    if (pipe2(report, O_CLOEXEC))
        return answer->error = errno, -1;
    answer->pid = fork();
    if (answer->pid == 0)
        become(program, fds[0], fds[1], report[1]);
    if (answer->pid < 0)
        answer->error = errno;
    close(report[1]);
    do
        got = read(report[0], &failed, sizeof failed);
    while (got < 0 && errno == EINTR);
    close(report[0]);
    if (answer->pid > 0) {
        if (got == sizeof failed)
            answer->error = failed;
        else if ((pidfd = (int)syscall(SYS_pidfd_open, answer->pid, 0)) < 0)
            answer->error = errno;
        if (answer->error) {
            kill(answer->pid, SIGKILL);
            while (waitpid(answer->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
    }
    return pidfd;
}

/* Only a child of ours can be meant: it is not reaped before it is asked for, so its pid is nobody else's. */
static void signal_or_reap(const struct spawner_request *request, struct spawner_answer *answer)
{
    if (request->pid <= 0)
        answer->error = EINVAL;
    else if (request->what == SPAWNER_REAP) {
        answer->pid = waitpid(request->pid, &answer->status, WNOHANG);
        if (answer->pid < 0)
            answer->error = errno;
    } else if (waitid(P_PID, (id_t)request->pid, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) ||
               kill(request->pid, request->number))
        answer->error = errno;
}

static void send_answer(const struct spawner_answer *answer, int pidfd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } room = {{0}};
    struct iovec text = {(void *)answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};

    if (pidfd >= 0) {
        struct cmsghdr *header;

        message.msg_control = room.bytes;
        message.msg_controllen = sizeof room;
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof pidfd);
        memcpy(CMSG_DATA(header), &pidfd, sizeof pidfd);
    }
    while (sendmsg(SOCK, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

/* One request; 0 when the other end is closed. */
static int serve(const struct spawner_program *program)
{
    struct spawner_request request = {0};
    struct spawner_answer answer = {0};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } room;
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room};
    struct cmsghdr *header;
    int fds[2] = {-1, -1}, pidfd = -1;
    ssize_t got = recvmsg(SOCK, &message, MSG_CMSG_CLOEXEC);

    if (got <= 0)
        return got < 0 && errno == EINTR;
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        size_t size = header->cmsg_len - CMSG_LEN(0);

        memcpy(fds, CMSG_DATA(header), size < sizeof fds ? size : sizeof fds);
    }
    if ((size_t)got != sizeof request || message.msg_flags & MSG_TRUNC)
        answer.error = EINVAL;
    else if (request.what == SPAWNER_START)
        pidfd = start(program, fds, &answer);
    else
        signal_or_reap(&request, &answer);
    send_answer(&answer, pidfd);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (pidfd >= 0)
        close(pidfd);
    return 1;
}

int spawner_fork(int sock, const struct spawner_program *program)
{
    pid_t pid;
    int null;

    if (!program->args || program->args > program->count || program->count > SPAWNER_STRINGS)
        return -EINVAL;
    pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    prctl(PR_SET_NAME, "auditns-spawner");
    setsid();
    reset_signals();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* it ends with the program that it serves */
    signal(SIGHUP, SIG_IGN);
    if (dup2(sock, SOCK) < 0)
        _exit(1);
    close_from(SOCK + 1);
    null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
    fcntl(SOCK, F_SETFD, FD_CLOEXEC);
    /* to bound its children, and to end those that change their user */
    privileges_keep(program->caps | 1ULL << CAP_SETPCAP | 1ULL << CAP_KILL);
    while (serve(program))
        ;
    _exit(0);
}
