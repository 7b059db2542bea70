/* Login uid, session and program of many processes of /proc at a time. */

/* As in the payload of a LOGINS frame. */
struct procfs_login {
    int32_t pid;
    uint32_t auid, ses;
};

/* As in the payload of a PROGRAMS frame; so many bytes of its path follow. */
struct procfs_program {
    int32_t pid;
    uint32_t size;
};

#define PROCFS_MAX_PROGRAM 4352

/* Read the processes `pids`, in that order, while `programs` has `room` for the longest path. logins[*found] has room for
   all; *done: how many were gone through. Returns how many bytes of programs there are. */
size_t procfs_who(int root, const int32_t *pids, size_t count, struct procfs_login *logins, size_t *found,
                  uint8_t *programs, size_t room, size_t *done);
