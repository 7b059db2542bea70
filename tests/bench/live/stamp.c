/* stamp OUT [SOCKET]: when does the end of each event come? Reads audit text on stdin, or from a unix stream socket,
   and writes "serial nanoseconds" (CLOCK_MONOTONIC) for each EOE record to OUT.
   stamp - RATE SECONDS: exec /bin/true at that rate (0: as fast as it goes); prints how many. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int generate(double rate, double seconds)
{
    int64_t start = now(), end = start + (int64_t)(seconds * 1e9);
    long n = 0;
    while (now() < end) {
        if (rate > 0) {
            int64_t due = start + (int64_t)((double)n / rate * 1e9);
            struct timespec t = {due / 1000000000, due % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        }
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        waitpid(pid, NULL, 0);
        n++;
    }
    printf("%ld\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    static char buf[1 << 20];
    size_t have = 0;
    int fd = 0;
    ssize_t got;

    if (argc == 4)
        return generate(atof(argv[2]), atof(argv[3]));
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    FILE *out = fopen(argv[1], "w");
    if (!out)
        return 1;
    if (argc == 3) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, argv[2], sizeof(to.sun_path) - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
            return 2;
    }
    fprintf(out, "ready 0\n");
    fflush(out);
    while ((got = read(fd, buf + have, sizeof(buf) - have)) > 0) {
        int64_t at = now();
        char *line = buf, *end = buf + have + got, *nl;
        while ((nl = memchr(line, '\n', (size_t)(end - line)))) {
            char *colon;
            if (nl - line > 10 && !memcmp(line, "type=EOE ", 9) && (colon = memchr(line, ':', (size_t)(nl - line))))
                fprintf(out, "%lu %ld\n", strtoul(colon + 1, NULL, 10), (long)at);
            line = nl + 1;
        }
        have = (size_t)(end - line);
        memmove(buf, line, have);
        if (have == sizeof(buf))
            have = 0;
    }
    return fclose(out) ? 1 : 0;
}
