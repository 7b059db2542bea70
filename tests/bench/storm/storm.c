/*
 * storm: what an ordinary user can do to a host, and what is needed to see what it does to others.
 *
 *     storm userpid|uts|forks|execs SECONDS    one after the other, as fast as it goes
 *     storm live SECONDS COUNT                 COUNT processes at once, each in namespaces of its own
 *     storm messages SECONDS RATE              AUDIT_USER messages "op=storm-message seq=N"
 *     storm copy FILE                          a plugin of auditd that only copies: the control
 *
 * All but copy print "KIND done N failed M". userpid makes a child in a new user and pid namespace; uts enters a user
 * namespace once and new uts namespaces from there; execs runs /bin/true. A deadline is one of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32

static long done, failed;
static double deadline;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int count(int good)
{
    *(good ? &done : &failed) += 1;
    return good;
}

static pid_t in_namespaces(unsigned long long flags)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};

    return syscall(SYS_clone3, &args, sizeof args);
}

static void userpid(void)
{
    pid_t pid = in_namespaces(CLONE_NEWUSER | CLONE_NEWPID);

    if (pid == 0)
        _exit(0);
    if (count(pid > 0))
        waitpid(pid, NULL, 0);
}

static void uts(void)
{
    static int inside;

    if (!inside && unshare(CLONE_NEWUSER)) {
        count(0);
        return;
    }
    inside = 1;
    count(unshare(CLONE_NEWUTS) == 0);
}

static void forks(void)
{
    pid_t pid = vfork();

    if (pid == 0)
        _exit(0);
    if (count(pid > 0))
        waitpid(pid, NULL, 0);
}

static void execs(void)
{
    static char *const argv[] = {"/bin/true", "storm", NULL}, *const envp[] = {NULL};
    int status = -1;
    pid_t pid = vfork();

    if (pid == 0) {
        execve(argv[0], argv, envp);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, &status, 0);
    count(status == 0);
}

static void until_deadline(void (*once)(void))
{
    while (now() < deadline)
        for (int i = 0; i < BATCH; i++)
            once();
}

static void live(long number)
{
    pid_t *pids = calloc(number, sizeof *pids);

    if (!pids)
        exit(1);
    for (long i = 0; i < number; i++) {
        pids[i] = in_namespaces(CLONE_NEWUSER | CLONE_NEWPID);
        if (pids[i] == 0) {
            pause();
            _exit(0);
        }
        count(pids[i] > 0);
    }
    while (now() < deadline)
        usleep(10000);
    for (long i = 0; i < number; i++)
        if (pids[i] > 0)
            kill(pids[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
}

static void messages(double rate)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct {
        struct nlmsghdr head;
        char text[64];
    } message;
    double start = now();
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);

    if (sock < 0)
        exit(1);
    while (now() < deadline) {
        if (done + failed >= (now() - start) * rate) {
            usleep(500);
            continue;
        }
        memset(&message, 0, sizeof message);
        message.head.nlmsg_len = NLMSG_LENGTH(1 + snprintf(message.text, sizeof message.text, "op=storm-message seq=%ld", done));
        message.head.nlmsg_type = AUDIT_USER;
        message.head.nlmsg_flags = NLM_F_REQUEST;
        message.head.nlmsg_seq = done;
        count(sendto(sock, &message, message.head.nlmsg_len, 0, (void *)&kernel, sizeof kernel) >= 0);
    }
}

static int copy(const char *path)
{
    char block[1 << 16];
    ssize_t size;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* auditd closes the pipe */
    if (file < 0)
        return 1;
    while ((size = read(0, block, sizeof block)) > 0)
        if (write(file, block, size) != size)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";

    if (argc < 3)
        return 2;
    if (!strcmp(kind, "copy"))
        return copy(argv[2]);
    deadline = now() + atof(argv[2]);
    if (!strcmp(kind, "userpid")) until_deadline(userpid);
    else if (!strcmp(kind, "uts")) until_deadline(uts);
    else if (!strcmp(kind, "forks")) until_deadline(forks);
    else if (!strcmp(kind, "execs")) until_deadline(execs);
    else if (!strcmp(kind, "live") && argc > 3) live(atol(argv[3]));
    else if (!strcmp(kind, "messages") && argc > 3) messages(atof(argv[3]));
    else return 2;
    printf("%s done %ld failed %ld\n", kind, done, failed);
    return 0;
}
