/* Identity and life of namespaces (include/uapi/linux/nsfs.h). No descriptor outlives a call. */

struct nsid_answer {
    uint64_t dev;        /* of nsfs */
    uint64_t ino;
    uint64_t id;         /* NS_GET_ID or NS_GET_MNTNS_ID; 0: the kernel has neither for this type */
    uint64_t parent_ino; /* pid and user: the parent namespace; 0: initial, or not ours to know */
    uint64_t owner_ino;  /* the user namespace that owns it; 0: not ours to know */
    int64_t owner_uid;   /* user: who made it; -1: not given */
};

/* Ask about the namespace that is open at `path` (relative to `dirfd`, as in openat), of CLONE_NEW* type `type`.
   `family` 0 leaves parent and owner out. 0 or a negative errno. */
int nsid_ask(int dirfd, const char *path, uint32_t type, int family, struct nsid_answer *out);

/* Whether the namespace with this kernel id, type and inode is there: 1 yes, 0 no (ESTALE), or a negative errno
   (-EBADF, -EOPNOTSUPP, -EINVAL: a kernel before 6.18). */
int nsid_alive(uint64_t id, uint32_t type, uint32_t ino);

/* The path of the cgroup with id `id` below the hierarchy that is mounted at `mount`, into `path` of `size` bytes with
   its NUL; the length, or a negative errno (-ESTALE: it is gone; -ENAMETOOLONG). */
int nsid_cgroup_path(int mount, uint64_t id, char *path, size_t size);

/* listns(2), Linux 6.19: ids of namespaces to `ids`, as `request` (struct ns_id_req) asks for. How many, or a negative
   errno (-ENOSYS: an older kernel). */
int64_t nsid_list(const void *request, uint64_t *ids, size_t most);

/* The namespace with this kernel id, by its file handle: its device and inode to `out`. 0, or a negative errno (-ESTALE:
   it is gone). */
int nsid_find(uint64_t id, struct nsid_answer *out);
