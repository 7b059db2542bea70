/* The limit for comparison: read lines with getline, insert a fixed record behind each SYSCALL, write. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    static char in[1 << 18], out[1 << 18];
    setvbuf(stdin, in, _IOFBF, sizeof(in));
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    while ((n = getline(&line, &size, stdin)) > 0) {
        fwrite_unlocked(line, 1, (size_t)n, stdout);
        if (!strncmp(line, "type=SYSCALL ", 13)) {
            char *msg = line + 13, *end = memchr(msg, ' ', (size_t)(n - 13));
            fputs_unlocked("type=CONTAINER_ID ", stdout);
            fwrite_unlocked(msg, 1, end ? (size_t)(end - msg) : 0, stdout);
            fputs_unlocked(" record=1 contid=1234567890\n", stdout);
        }
    }
    free(line);
    return 0;
}
