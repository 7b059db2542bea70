/* A thread that writes blocks to a file as they come, without the interpreter: what a wake-up of the interpreter in
   another thread costs is many times the price of a write. */

struct writer;

/* What became of the blocks. */
struct writer_news {
    int64_t bytes, lines; /* of blocks that were written whole, since this was last asked */
    int64_t kept;         /* how many of these blocks were not copied */
    int64_t waits;        /* bytes of the blocks that are not written whole yet */
    int serving;          /* the thread is in writer_serve */
};

/* At most `limit` bytes wait in it. NULL without memory. Free it only when no thread is in writer_serve. */
struct writer *writer_new(int64_t limit);
void writer_free(struct writer *w);

/* The thread's part: write to `fd` (negative: write nothing) whatever is given, until it would be more than *room
   bytes in all, a write fails or falls short, writer_call is called, or `seconds` have gone by (negative: never).
   *room becomes what is left of it. Returns what was written of a block in part, else 0. What was given and not
   written whole is to be taken back before it is called again. Without `open` nothing is taken meanwhile. */
int64_t writer_serve(struct writer *w, int fd, int64_t *room, double seconds, int open);

#define WRITER_COPIED 1
#define WRITER_KEPT 2

/* The others' part; blocks are given by one thread only, in their order. 0: it is not the moment, or there is too much.
   Of a small block a copy is taken; another one must stay as it is until writer_tell says that it is written, or it
   was taken back. writer_copy takes small blocks alone, and none where writer_tell has something to tell of others.
   What writer_give refuses comes before all that is taken later: nothing is before the next writer_serve. */
int writer_copy(struct writer *w, const char *data, size_t size);
int writer_give(struct writer *w, const char *data, size_t size);
/* Have writer_serve return, or the next one as soon as it is called; nothing more is taken until the one after it. */
void writer_call(struct writer *w);
void writer_tell(struct writer *w, struct writer_news *news);
/* The size of the first block that is not written whole, which is taken out; 0: there is none. *data: NULL where it
   was not copied, else its bytes, there until the next block is given. Not for a thread that serves, unless that
   hangs and what it does is of no more interest; what it was given must stay then. */
size_t writer_take_back(struct writer *w, const char **data);
