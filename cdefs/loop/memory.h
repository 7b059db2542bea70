/* Have malloc keep some megabytes of what is freed: blocks of text come and go all the time, and to give their pages
   back to the kernel and fault them in anew costs more than to copy them. Nothing where malloc is not glibc's. */
void memory_keep(void);
/* Give back to the kernel what malloc keeps, holes between what is in use included: some milliseconds. */
void memory_give_back(void);
