/* Files and links of one process's folder in /proc, several system calls at a time. */

/* The file `name` below `folder` into `text`, at most `room` bytes: how many, or a negative errno. */
int64_t procfs_text(int folder, const char *name, char *text, size_t room);

/* The inodes that `count` links of the folder `where` below `folder` name ("net:[4026531833]"), `names` being NUL-ended
   one behind the other. errors[i]: 0, an errno, or EBADMSG where the link says something else. 0, or a negative errno
   when there is no such folder. */
int procfs_links(int folder, const char *where, const char *names, int count, uint64_t *inodes, int *errors);
