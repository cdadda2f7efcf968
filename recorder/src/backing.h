/* Backings: named host mappings at addresses aligned to 2 MiB, which memslots are laid over. */
#ifndef RECORDER_BACKING_H
#define RECORDER_BACKING_H

#include <stddef.h>
#include <stdint.h>

struct backing {
	char name[32];
	char kind[16];
	char *base;	 /* host address */
	uint64_t size;	 /* bytes */
	int fd;		 /* -1: anonymous */
	uint64_t offset; /* of the backing's start in fd */
	uint64_t pa;	 /* physical address of a BAR, 0 for memory */
};

/* `back NAME KIND [SIZE] [MISALIGN]`. SIZE 0: the whole BAR. @return 0 or an errno. */
int backing_create(const char *name, const char *kind, uint64_t *size, uint64_t misalign);
/* `remap`: the same thing again over [offset, offset + length). @return 0 or an errno. */
int backing_remap(struct backing *b, uint64_t offset, uint64_t length);
/* `mapanon`: anonymous small pages, filled with a byte. @return 0 or an errno. */
int backing_anonymous(struct backing *b, uint64_t offset, uint64_t length, int byte);
/* A PROT_NONE reservation in whole 2 MiB blocks with a hole behind it; ends the scenario if there is no room. */
char *reserve(uint64_t size, uint64_t misalign);

/* By name; ends the scenario if there is none. */
struct backing *backing_named(const char *name);
/* The backing that holds all of the host range [start, end], or NULL. */
struct backing *backing_of_range(uint64_t start, uint64_t end);
/* The BAR backing that holds this physical address, or NULL. */
struct backing *backing_of_pa(uint64_t pa);
/* Backing number n in order of creation, or NULL. */
struct backing *backing_at(size_t n);
static inline int backing_is_bar(const struct backing *b)
{
	return b->kind[0] == 'b' && b->kind[1] == 'a' && b->kind[2] == 'r';
}

#endif
