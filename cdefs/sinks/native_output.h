/* Outputs that the loop in C writes to by itself; sinks/native.py says which and when. */

#define OUTPUT_WRITER 0 /* a thread writes */
#define OUTPUT_PIPE 1   /* a pipe that somebody else may have opened without O_NONBLOCK, as it is to stay */
#define OUTPUT_SOCKET 2 /* a stream socket, sent to without blocking */
#define OUTPUTS 16

struct native_output {
    int kind, fd;
    struct writer *writer;
    uint64_t bytes, lines;      /* of blocks that went whole, since somebody last took note of it */
    uint64_t part;              /* bytes of the last block, where that did not go whole */
    int refused;                /* it did not */
};

/* Write a block without blocking; 1 if all of it went. */
int output_give(struct native_output *output, const char *data, size_t size);
/* Write to a descriptor of that kind as much as it takes without blocking: how many bytes, or -errno where that was none
 * for another reason than want of room. */
int64_t output_write(int fd, int kind, const char *data, size_t size);
