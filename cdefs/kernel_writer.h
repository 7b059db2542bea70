/* A thread that writes blocks to a file as they come, without the interpreter: what a wake-up of the interpreter in
   another thread costs is many times the price of a write. */

struct writer;

/* NULL without memory. Free it only when no thread is in writer_serve. */
struct writer *writer_new(void);
void writer_free(struct writer *w);

/* The thread's part: write to `fd` (negative: write nothing) whatever is given, until it would be more than *room
   bytes in all, a write fails or falls short, writer_call is called, or `seconds` have gone by (negative: never).
   *room becomes what is left of it. Returns what was written of a block in part, else 0. */
int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds);

/* The others' part, from any thread. 1: the `size` bytes at `data` will be written, and must stay as they are until
   writer_wrote has told so; 0: it is not the moment, or there are too many. `before` is how many bytes wait that
   writer_wrote has not told of: all of them must have been given before, else nothing is taken. What was given and not
   written when writer_serve returns is forgotten. */
int writer_give(struct writer *w, const char *data, size_t size, int64_t before);
/* Have writer_serve return, or the next one as soon as it is called. */
void writer_call(struct writer *w);
/* Bytes written in whole blocks since this was last asked. */
int64_t writer_wrote(struct writer *w);
