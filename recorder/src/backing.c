/* Maps backings of every kind with the calls a VMM uses. */
#include "backing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "say.h"
#include "vfio.h"
#include "vm.h"

#define BLOCK 0x200000UL
#define MOST_BACKINGS 32

static struct backing backings[MOST_BACKINGS];
static size_t count;

char *reserve(uint64_t size, uint64_t misalign)
{
	uint64_t length = (size + misalign + BLOCK - 1) & ~(BLOCK - 1);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	/* Room to align, and one block that stays a hole, so that neighbours never merge. */
	uint64_t room = length + 2 * BLOCK;
	char *at = mmap(NULL, room, PROT_NONE, flags, -1, 0);
	if (at == MAP_FAILED)
		bad_scenario("cannot reserve %#lx bytes of address space: %s", room, strerror(errno));
	char *base = (char *)(((uintptr_t)at + BLOCK - 1) & ~(BLOCK - 1));
	if (base > at)
		munmap(at, (size_t)(base - at));
	munmap(base + length, (size_t)(at + room - (base + length)));
	return base + misalign;
}

/* A read-only file of this size: the recorder's own program, cut or extended with zeros. It has no name afterwards. */
static int read_only_file(uint64_t size)
{
	char path[] = "/tmp/faultline-recorder-XXXXXX", page[4096];
	int fd = mkstemp(path), self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	while (fd >= 0 && (n = read(self, page, sizeof page)) > 0)
		if (write(fd, page, (size_t)n) != n)
			break;
	if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
		bad_scenario("cannot make a file of %#lx bytes in /tmp: %s", size, strerror(errno));
	int ro = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	close(self);
	close(fd);
	return ro;
}

static int map(struct backing *b, uint64_t offset, uint64_t length)
{
	int bar = backing_is_bar(b);
	int shared = bar || strcmp(b->kind, "memfd") == 0 || strcmp(b->kind, "gmem") == 0;
	int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE);
	int prot = strcmp(b->kind, "filero") == 0 ? PROT_READ : PROT_READ | PROT_WRITE;
	if (b->fd < 0)
		flags |= MAP_ANONYMOUS;
	if (strcmp(b->kind, "hugetlb") == 0)
		flags |= MAP_HUGETLB;
	off_t from = b->fd < 0 ? 0 : (off_t)(b->offset + offset);
	if (mmap(b->base + offset, length, prot, flags, b->fd, from) == MAP_FAILED)
		return errno;
	int advice = strcmp(b->kind, "nohuge") == 0 ? MADV_NOHUGEPAGE : strcmp(b->kind, "thp") == 0 ? MADV_HUGEPAGE : -1;
	return advice >= 0 && madvise(b->base + offset, length, advice) != 0 ? errno : 0;
}

int backing_create(const char *name, const char *kind, uint64_t *size, uint64_t misalign)
{
	static const char *const kinds[] = { "nohuge", "thp", "anon", "memfd", "hugetlb", "filero", "gmem" };
	struct backing *b = &backings[count];
	size_t k = 0;
	if (count == MOST_BACKINGS)
		bad_scenario("more than %d backings", MOST_BACKINGS);
	for (size_t i = 0; i < count; i++)
		if (strcmp(backings[i].name, name) == 0)
			bad_scenario("there is a backing named %s already", name);
	if (strlen(name) >= sizeof b->name)
		bad_scenario("the name %s is longer than %zu letters", name, sizeof b->name - 1);
	*b = (struct backing){ .fd = -1 };
	snprintf(b->name, sizeof b->name, "%s", name);
	if (strncmp(kind, "bar", 3) == 0 && kind[3] >= '0' && kind[3] <= '5' && kind[4] == '\0') {
		struct vfio_bar bar = vfio_bar(kind[3] - '0');
		if (*size == 0)
			*size = (bar.size + 4095) & ~4095UL;
		b->fd = bar.fd;
		b->offset = bar.offset;
		b->pa = bar.pa;
	} else {
		while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k], kind) != 0)
			k++;
		if (k == sizeof kinds / sizeof *kinds)
			bad_scenario("no kind of backing \"%s\"; known: nohuge, thp, anon, memfd, hugetlb, filero, gmem, barN", kind);
	}
	snprintf(b->kind, sizeof b->kind, "%s", kind);
	if (*size == 0)
		bad_scenario("expected a size");
	if (strcmp(kind, "memfd") == 0) {
		b->fd = memfd_create(name, MFD_CLOEXEC);
		if (b->fd < 0 || ftruncate(b->fd, (off_t)*size) != 0)
			bad_scenario("memfd_create: %s", strerror(errno));
	} else if (strcmp(kind, "gmem") == 0) {
		b->fd = vm_guest_memfd(*size);
		if (b->fd < 0)
			return errno;
	} else if (strcmp(kind, "filero") == 0) {
		b->fd = read_only_file(*size);
	}
	b->size = *size;
	b->base = reserve(*size, misalign);
	count++;
	return map(b, 0, *size);
}

int backing_remap(struct backing *b, uint64_t offset, uint64_t length)
{
	return map(b, offset, length);
}

int backing_anonymous(struct backing *b, uint64_t offset, uint64_t length, int byte)
{
	char *at = b->base + offset;
	if (mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return errno;
	madvise(at, length, MADV_NOHUGEPAGE);
	memset(at, byte, length);
	return 0;
}

struct backing *backing_named(const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(backings[i].name, name) == 0)
			return &backings[i];
	bad_scenario("no backing named %s", name);
}

struct backing *backing_of_range(uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t base = (uint64_t)backings[i].base;
		if (start >= base && end <= base + backings[i].size)
			return &backings[i];
	}
	return NULL;
}

struct backing *backing_of_pa(uint64_t pa)
{
	for (size_t i = 0; i < count; i++)
		if (backings[i].pa && pa >= backings[i].pa && pa < backings[i].pa + backings[i].size)
			return &backings[i];
	return NULL;
}

struct backing *backing_at(size_t n)
{
	return n < count ? &backings[n] : NULL;
}
