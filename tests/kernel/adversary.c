/* Does what makes one process look like another. adversary MODE ARG...; what it audits says in its arguments whose it is.
 *
 *     settid PID DIR WORD   a child with the number PID, born in the cgroup DIR ("-": where we are), is /bin/true WORD
 *     target PID DIR SIGNAL such a child waits, is traced, and gets SIGNAL
 *     vfork WORD            the child of a vfork forks: its child is true WORD, and so is it itself then
 *     thread WORD           a thread that is not the leader is true WORD
 *     setns-thread FD WORD  a thread enters the namespace of the path FD, and ends; its process is true WORD
 *     double WORD           execs itself twice, and is true WORD then
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *word, *path;

static void be_true(void)
{
    execl("/bin/true", "/bin/true", word, (char *)0);
    _exit(127);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static pid_t child(int pid, const char *dir)
{
    pid_t wanted = pid;
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1};
    pid_t made;
    int fd = -1;

    if (strcmp(dir, "-")) {
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            fail(dir);
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)fd;
    }
    for (int i = 0; (made = (pid_t)syscall(SYS_clone3, &args, sizeof(args))) < 0; i++) {
        if (errno != EEXIST || i == 2000)
            fail("clone3");
        usleep(1000); /* another process of the host has it just now */
    }
    if (fd >= 0)
        close(fd);
    return made;
}

static void *execs(void *nothing)
{
    be_true();
    return nothing;
}

static void *enters(void *nothing)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || setns(fd, 0))
        fail("setns");
    close(fd);
    return nothing;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    pthread_t thread;
    pid_t pid;

    word = argv[argc - 1];
    if (!strcmp(mode, "settid")) {
        pid = child(atoi(argv[2]), argv[3]);
        if (!pid)
            be_true();
    } else if (!strcmp(mode, "target")) {
        pid = child(atoi(argv[2]), argv[3]);
        if (!pid)
            for (;;)
                pause();
        if (ptrace(PTRACE_SEIZE, pid, 0, 0) || kill(pid, atoi(argv[4])))
            fail("target");
        kill(pid, SIGKILL);
    } else if (!strcmp(mode, "vfork")) {
        pid = vfork();
        if (!pid) {
            if (!fork())
                be_true();
            be_true();
        }
    } else if (!strcmp(mode, "thread")) {
        pthread_create(&thread, NULL, execs, NULL);
        for (;;)
            pause();
    } else if (!strcmp(mode, "setns-thread")) {
        path = argv[2];
        pthread_create(&thread, NULL, enters, NULL);
        pthread_join(thread, NULL);
        be_true();
    } else if (!strcmp(mode, "double")) {
        execl("/proc/self/exe", argv[0], "double2", word, (char *)0);
    } else if (!strcmp(mode, "double2")) {
        execl("/proc/self/exe", argv[0], "double3", word, (char *)0);
    } else if (!strcmp(mode, "double3")) {
        be_true();
    } else {
        return 2;
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}
