/*
 * truth: a process whose audited actions carry the truth about the container it runs in.
 *
 *     truth TOKEN WORKLOAD LABEL SEQ [key=value ...]
 *
 * The exec of this program is one action: its EXECVE record holds TOKEN (16 hex digits, unique to the run), WORKLOAD,
 * LABEL (a number the bench gave to the container) and SEQ. An action without exec is
 * getpriority(TOKEN >> 32, LABEL, SEQ, WORKLOAD): it always fails with EINVAL, and the SYSCALL record shows its
 * arguments as a0..a3. With out=FILE each action also appends what this process sees of its own namespaces,
 * "TOKEN WORKLOAD LABEL SEQ KIND dev cgroup ipc mnt net pid time user uts" (KIND e exec, s syscall; inodes), so that
 * the answer of an observer can be compared with it. A TOKEN of 16 zeros records nothing.
 *
 * Keys: mode (below), n repeats, par processes working at once, seq step is 1, label step lstep, how
 * (fork, vfork, clone3), flags (CLONE_* number), then (exec, sys), gap in microseconds, cg (a cgroup directory),
 * label2 (that of the children, or after the change; LABEL when absent), pid, ready (a file made when at work),
 * cue (a file that is waited for), target (what mode=asuser execs), await (used by mode=moved itself).
 * Exit status: 0, or 1 with a message on stderr: a workload that could not be done is never taken for a done one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self, *token, *out, *mode = "none", *how = "fork", *then = "exec", *cg, *ready, *await_fds, *cue,
                  *target;
static unsigned long long token_number;
static long workload, label, seq, n = 1, par = 1, lstep, gap, label2 = -1, pid_value;
static unsigned long long flags;

static const char *const ns_names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};

static void die(const char *what)
{
    fprintf(stderr, "truth: %s: %s (mode %s)\n", what, strerror(errno), mode);
    _exit(1);
}

static void record(long lab, long s, char kind)
{
    char line[512], path[40];
    struct stat st;
    unsigned long long ino[8], dev = 0;
    int fd, len;

    if (!out)
        return;
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "/proc/thread-self/ns/%s", ns_names[i]);
        ino[i] = 0;
        if (stat(path, &st) == 0) {
            ino[i] = st.st_ino;
            dev = st.st_dev;
        }
    }
    len = snprintf(line, sizeof line, "%s %ld %ld %ld %c %llu %llu %llu %llu %llu %llu %llu %llu %llu\n", token, workload,
                   lab, s, kind, dev, ino[0], ino[1], ino[2], ino[3], ino[4], ino[5], ino[6], ino[7]);
    fd = open(out, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, len) != len)
        die(out);
    close(fd);
}

/* one audited action without exec */
static void act(long lab, long s)
{
    record(lab, s, 's');
    syscall(SYS_getpriority, (long)(token_number >> 32), lab, s, workload);
}

/* one audited action by exec: becomes a new truth that does `more` (may be NULL) */
static void become(long lab, long s, const char *more, const char *more2)
{
    char a[3][24], o[512];
    char *argv[9];
    int k = 0;

    snprintf(a[0], sizeof a[0], "%ld", workload);
    snprintf(a[1], sizeof a[1], "%ld", lab);
    snprintf(a[2], sizeof a[2], "%ld", s);
    argv[k++] = (char *)self;
    argv[k++] = (char *)token;
    argv[k++] = a[0];
    argv[k++] = a[1];
    argv[k++] = a[2];
    if (out) {
        snprintf(o, sizeof o, "out=%s", out);
        argv[k++] = o;
    }
    if (more)
        argv[k++] = (char *)more;
    if (more2)
        argv[k++] = (char *)more2;
    argv[k] = NULL;
    execv(self, argv);
    die("execv");
}

static void do_action(long lab, long s)
{
    if (!strcmp(then, "exec"))
        become(lab, s, NULL, NULL);
    act(lab, s);
    _exit(0);
}

static void reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    if (status) {
        fprintf(stderr, "truth: child ended with status 0x%x (mode %s)\n", status, mode);
        _exit(1);
    }
}

static pid_t clone3_child(unsigned long long fl, int cgroup_fd)
{
    struct clone_args args;

    memset(&args, 0, sizeof args);
    args.flags = fl;
    args.exit_signal = SIGCHLD;
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup_fd;
    }
    return syscall(SYS_clone3, &args, sizeof args);
}

/* n children one after the other, each with one action of its own */
static void children(long lab, long s, long count)
{
    volatile int cgroup_fd = -1;

    if (cg && (cgroup_fd = open(cg, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        die(cg);
    for (long i = 0; i < count; i++) {
        pid_t pid;

        if (!strcmp(how, "clone3"))
            pid = clone3_child(flags, cgroup_fd);
        else if (!strcmp(how, "vfork") && !strcmp(then, "exec"))
            pid = vfork();
        else
            pid = fork();
        if (pid < 0)
            die(how);
        if (pid == 0)
            do_action(lab + i * lstep, s + i);
        reap(pid);
        if (gap)
            usleep(gap);
    }
}

/* a child enters namespaces of its own before its action; a new pid namespace holds only its children */
static void unshared(void)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            if (unshare((int)flags))
                die("unshare");
            if (flags & CLONE_NEWPID) {
                if ((pid = fork()) < 0)
                    die("fork");
                if (pid) {
                    reap(pid);
                    _exit(0);
                }
            }
            do_action(label2 + i * lstep, seq + 1 + i);
        }
        reap(pid);
    }
}

/* one process, before and after it unshares (label before, label2 + i after) */
static void transition(void)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            act(label, seq + 1 + 2 * i);
            usleep(gap);
            if (unshare((int)flags))
                die("unshare");
            usleep(gap);
            act(label2 + i * lstep, seq + 2 + 2 * i);
            _exit(0);
        }
        reap(pid);
    }
}

static void write_number(const char *path, long value)
{
    char text[24];
    int fd = open(path, O_WRONLY | O_CLOEXEC), len = snprintf(text, sizeof text, "%ld", value);

    if (fd < 0 || write(fd, text, len) != len)
        die(path);
    close(fd);
}

/* a child that has had its first exec is put into cgroup cg by its parent, then execs as label2 */
static void moved(void)
{
    char path[512];

    snprintf(path, sizeof path, "%s/cgroup.procs", cg);
    for (long i = 0; i < n; i++) {
        int go[2], up[2];
        char c = 1, fds[32], l2[24];
        pid_t pid;

        if (pipe(go) || pipe(up) || (pid = fork()) < 0)
            die("fork");
        if (pid == 0) {
            close(go[1]);
            close(up[0]);
            snprintf(fds, sizeof fds, "await=%d,%d", go[0], up[1]);
            snprintf(l2, sizeof l2, "label2=%ld", label2);
            become(label, seq + 1 + 2 * i, fds, l2);
        }
        close(go[0]);
        close(up[1]);
        /* not before the exec is over: a pipe closed by the exec itself would still be within it */
        if (read(up[0], &c, 1) != 1)
            die("moved child");
        if (gap)
            usleep(gap);
        write_number(path, pid);
        if (write(go[1], &c, 1) != 1)
            die("pipe");
        close(go[1]);
        close(up[0]);
        reap(pid);
    }
}

static void await(const char *fds)
{
    int go, up;
    char c = 1;

    if (sscanf(fds, "%d,%d", &go, &up) != 2 || write(up, &c, 1) != 1 || read(go, &c, 1) != 1)
        die("await");
    close(go);
    close(up);
    become(label2, seq + 1, NULL, NULL);
}

static void *thread_unshares(void *arg)
{
    if (unshare((int)flags))
        die("unshare");
    act(label, (long)arg);
    return NULL;
}

static void *thread_execs(void *arg)
{
    become(label, (long)arg, NULL, NULL);
    return NULL;
}

/* in each child: a second thread unshares and acts, then the first acts; or the second thread execs */
static void threads(void *(*body)(void *), int both)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();
        pthread_t thread;

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            if (pthread_create(&thread, NULL, body, (void *)(seq + 1 + i * (both ? 2 : 1))))
                die("pthread_create");
            pthread_join(thread, NULL);
            if (both)
                act(label, seq + 2 + i * 2);
            _exit(0);
        }
        reap(pid);
    }
}

/* double fork: the grandchild acts only when it has been given to a new parent */
static void daemons(void)
{
    int done[2];
    char c;

    if (pipe(done))
        die("pipe");
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            pid_t between = getpid();

            setsid();
            if ((pid = fork()) < 0)
                die("fork");
            if (pid)
                _exit(0);
            while (getppid() == between)
                usleep(50);
            if (fcntl(done[0], F_SETFD, FD_CLOEXEC))
                die("fcntl");
            do_action(label, seq + 1 + i);
        }
        reap(pid);
        if (i % 64 == 63)
            usleep(20000);
    }
    close(done[1]);
    while (read(done[0], &c, 1) > 0)
        ;
}

#include "changes.h"

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
    (void)sig;
    stopped = 1;
}

static void hold(void)
{
    signal(SIGTERM, stop);
    signal(SIGCHLD, SIG_IGN);
    make_ready();
    while (!stopped)
        usleep(20000);
}

static void spin(void)
{
    signal(SIGTERM, stop);
    for (volatile unsigned long i = 0; !stopped; i++)
        ;
}

static void storm(void)
{
    signal(SIGTERM, stop);
    while (!stopped) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        if (pid > 0)
            waitpid(pid, NULL, 0);
    }
}

/* keep the pid allocator near one number, so that processes of all containers share a few pids */
static void lastpid(void)
{
    signal(SIGTERM, stop);
    while (!stopped) {
        write_number("/proc/sys/kernel/ns_last_pid", pid_value);
        usleep(gap ? gap : 500);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: truth TOKEN WORKLOAD LABEL SEQ [key=value ...]\n");
        return 2;
    }
    self = argv[0];
    token = argv[1];
    token_number = strtoull(token, NULL, 16);
    workload = atol(argv[2]);
    label = atol(argv[3]);
    seq = atol(argv[4]);
    for (int i = 5; i < argc; i++) {
        char *value = strchr(argv[i], '=');

        if (!value)
            return 2;
        *value++ = 0;
        if (!strcmp(argv[i], "out")) out = value;
        else if (!strcmp(argv[i], "mode")) mode = value;
        else if (!strcmp(argv[i], "how")) how = value;
        else if (!strcmp(argv[i], "then")) then = value;
        else if (!strcmp(argv[i], "cg")) cg = value;
        else if (!strcmp(argv[i], "ready")) ready = value;
        else if (!strcmp(argv[i], "await")) await_fds = value;
        else if (!strcmp(argv[i], "cue")) cue = value;
        else if (!strcmp(argv[i], "target")) target = value;
        else if (!strcmp(argv[i], "n")) n = atol(value);
        else if (!strcmp(argv[i], "par")) par = atol(value);
        else if (!strcmp(argv[i], "lstep")) lstep = atol(value);
        else if (!strcmp(argv[i], "gap")) gap = atol(value);
        else if (!strcmp(argv[i], "label2")) label2 = atol(value);
        else if (!strcmp(argv[i], "pid")) pid_value = atol(value);
        else if (!strcmp(argv[i], "flags")) flags = strtoull(value, NULL, 0);
        else {
            fprintf(stderr, "truth: unknown key %s\n", argv[i]);
            return 2;
        }
    }
    if (label2 < 0)
        label2 = label;
    if (token_number)
        record(label, seq, 'e');
    if (await_fds)
        await(await_fds);
    if (!strcmp(mode, "none"))
        return 0;
    if (!strcmp(mode, "children")) {
        /* par workers share the n repeats: worker k does [k * n / par, (k + 1) * n / par) */
        for (long k = 1; k < par; k++) {
            pid_t pid = fork();

            if (pid < 0)
                die("fork");
            if (pid == 0) {
                long from = k * n / par, to = (k + 1) * n / par;

                children(label2 + from * lstep, seq + 1 + from, to - from);
                _exit(0);
            }
        }
        children(label2, seq + 1, n / par);
        for (long k = 1; k < par; k++)
            reap(-1);
    }
    else if (!strcmp(mode, "unshare")) unshared();
    else if (!strcmp(mode, "transition")) transition();
    else if (!strcmp(mode, "moved")) moved();
    else if (!strcmp(mode, "threads")) threads(thread_unshares, 1);
    else if (!strcmp(mode, "threadexec")) threads(thread_execs, 0);
    else if (!strcmp(mode, "daemons")) daemons();
    else if (!strcmp(mode, "asuser")) asuser();
    else if (!strcmp(mode, "after")) after();
    else if (!strcmp(mode, "churn")) churn();
    else if (!strcmp(mode, "selfmove")) selfmove();
    else if (!strcmp(mode, "busy")) busy(0);
    else if (!strcmp(mode, "chain")) busy(1);
    else if (!strcmp(mode, "hold")) hold();
    else if (!strcmp(mode, "spin")) spin();
    else if (!strcmp(mode, "storm")) storm();
    else if (!strcmp(mode, "lastpid")) lastpid();
    else {
        fprintf(stderr, "truth: unknown mode %s\n", mode);
        return 2;
    }
    return 0;
}
