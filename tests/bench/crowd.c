/* crowd N: as many small processes that wait. Says "there" when all of them do; ends them when its input ends. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long n = argc == 2 ? atol(argv[1]) : 0, there = 0;
    int ready[2];
    char byte[4096];
    ssize_t got;

    signal(SIGCHLD, SIG_IGN); /* the kernel buries them */
    if (pipe(ready))
        return 1;
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("fork");
            kill(0, SIGKILL);
        }
        if (pid == 0) {
            close(0);
            close(1);
            if (write(ready[1], ".", 1) == 1)
                pause();
            _exit(0);
        }
    }
    while (there < n && (got = read(ready[0], byte, sizeof(byte))) > 0)
        there += got;
    puts("there");
    fflush(stdout);
    while (read(0, byte, sizeof(byte)) > 0)
        ;
    kill(0, SIGKILL);
}
