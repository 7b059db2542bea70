/* Read files of the tracing file system where it is not mounted: a child mounts it in a mount namespace of its own,
   which ends with it. */

/* Start the child. `paths` are `count` paths below the root of tracefs. Returns the reading end of a pipe, or a
   negative errno. For each path the child writes an i32 length and that many bytes, or a negative errno in the
   length's place; nothing at all when it cannot mount (then *pid's exit status is the errno). */
int tracefs_spawn(const char *const *paths, int count, int *pid);
