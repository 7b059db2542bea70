/* Modes of truth.c of processes that change what they are, or fork until they get a cue. A part of it, not of its own. */
#define USER 1000

/* n children, each an ordinary user that execs `target`, which changes what it may do: see after() */
static void asuser(void)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            if (setgroups(0, NULL) || setresgid(USER, USER, USER) || setresuid(USER, USER, USER))
                die("setresuid");
            self = target;
            become(label, seq + 1 + 4 * i, "mode=after", NULL);
        }
        reap(pid);
    }
}

/* the same process acts, then a child of it, then a child by exec */
static void after(void)
{
    act(label, seq + 1);
    then = "sys";
    children(label, seq + 2, 1);
    then = "exec";
    children(label, seq + 3, 1);
}

/* one process that enters new namespaces again and again and acts in each of them */
static void churn(void)
{
    for (long i = 0; i < n; i++) {
        if (unshare((int)flags))
            die("unshare");
        act(label, seq + 1 + i);
    }
}

/* a child moves itself into cgroup cg; it then execs as label2, or has a child made with `flags` act so */
static void selfmove(void)
{
    char path[512];

    snprintf(path, sizeof path, "%s/cgroup.procs", cg);
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid == 0) {
            write_number(path, 0);
            if (!flags)
                become(label2, seq + 1 + i, NULL, NULL);
            if ((pid = clone3_child(flags, -1)) < 0)
                die("clone3");
            if (pid == 0)
                do_action(label2, seq + 1 + i);
            reap(pid);
            _exit(0);
        }
        reap(pid);
    }
}

static void make_ready(void)
{
    int fd;

    if (!ready)
        return;
    if ((fd = open(ready, O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) < 0)
        die(ready);
    close(fd);
}

/* forks every `gap` microseconds until the cue, then has n children act. chain: whoever forked exits, and its child
   goes on, so that who acts in the end has not lived for long before the cue */
static void busy(int chain)
{
    int status;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1))
        die("prctl");
    make_ready();
    if (chain) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if (pid) {
            while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
                if (status)
                    die("chain");
            return;
        }
    }
    while (access(cue, F_OK)) {
        pid_t pid = fork();

        if (pid < 0)
            die("fork");
        if ((pid == 0) != chain)
            _exit(0);
        if (!chain)
            reap(pid);
        usleep(gap);
    }
    children(label2, seq + 1, n);
}
