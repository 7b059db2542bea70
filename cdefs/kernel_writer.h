/* A thread that writes small blocks to a file as they come, without the interpreter: what a wake-up of the interpreter
   in another thread costs is many times the price of a write. */

struct writer;

/* NULL without memory. Free it only when no thread is in writer_serve. */
struct writer *writer_new(void);
void writer_free(struct writer *w);

/* The thread's part: write to `fd` (negative: write nothing) whatever is given, until it would be more than *room
   bytes in all, a write fails or falls short, writer_call is called, or `seconds` have gone by (negative: never).
   *room becomes what is left of it. Returns what the last write took where it fell short, else 0. */
int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds);

/* The others' part, from any thread. 1: the `size` bytes at `data` are copied and will be written; 0: it is not the
   moment, or they are too many. What was given and not written when writer_serve returns is forgotten. */
int writer_give(struct writer *w, const char *data, size_t size);
/* Have writer_serve return, or the next one as soon as it is called. */
void writer_call(struct writer *w);
/* Bytes written in whole blocks since this was last asked. */
int64_t writer_wrote(struct writer *w);
