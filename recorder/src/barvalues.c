/* Keeps a short list of written BAR addresses; a scenario writes few. */
#include "barvalues.h"

#include <stddef.h>
#include <string.h>

#include "backing.h"
#include "vm.h"

#define MOST_WRITES 4096

static struct {
	uint64_t word;	/* PA of 4 bytes */
	unsigned bytes; /* bit n: its byte n */
} written[MOST_WRITES];
static size_t count;

/* @return the word's bytes, NULL if none of them is written. */
static unsigned *bytes_written(uint64_t word)
{
	for (size_t i = 0; i < count; i++)
		if (written[i].word == word)
			return &written[i].bytes;
	return NULL;
}

/* Bytes [hva, hva + size) of the word at `at`. */
static unsigned bytes_of(uint64_t at, uint64_t hva, uint32_t size)
{
	unsigned bytes = 0;
	for (unsigned n = 0; n < 4; n++)
		if (at + n >= hva && at + n < hva + size)
			bytes |= 1U << n;
	return bytes;
}

int barvalues_access(uint64_t hva, uint32_t size, int write)
{
	struct backing *b = backing_of_range(hva, hva + size);
	int unknown = 0;
	if (!b || !backing_is_bar(b))
		return 0;
	for (uint64_t at = hva & ~3UL; at < hva + size; at += 4) {
		uint64_t word = b->pa + (at - (uint64_t)b->base);
		unsigned *known = bytes_written(word), bytes = bytes_of(at, hva, size);
		if (!write)
			unknown |= !known || (bytes & ~*known) != 0;
		else if (known)
			*known |= bytes;
		else if (count < MOST_WRITES) {
			written[count].word = word;
			written[count++].bytes = bytes;
		}
	}
	return unknown;
}

int barvalues_guest_access(const char *op, uint64_t ipa)
{
	static const struct {
		const char *op;
		uint8_t size, write, unknown;
	} accesses[] = {
		{ "ldr64", 8, 0, 3 }, { "ldr32", 4, 0, 3 }, { "ldr16", 2, 0, 3 }, { "ldr8", 1, 0, 3 },
		{ "ldrsb", 1, 0, 3 }, { "ldrsb32", 1, 0, 3 }, { "ldrsh", 2, 0, 3 }, { "ldrsw", 4, 0, 3 },
		{ "ldar", 8, 0, 3 }, { "ldxr", 8, 0, 3 }, { "ldp", 16, 0, 3 }, { "ldr_post", 8, 0, 2 },
		{ "touchr", 8, 0, 2 }, { "ldadd", 8, 0, 3 }, { "swp", 8, 0, 3 }, { "cas", 8, 0, 3 },
		{ "str64", 8, 1, 0 }, { "str32", 4, 1, 0 }, { "str16", 2, 1, 0 }, { "str8", 1, 1, 0 },
		{ "strz", 8, 1, 0 }, { "stlr", 8, 1, 0 }, { "stp", 16, 1, 0 }, { "str_post", 8, 1, 0 },
		{ "strq", 16, 1, 0 }, { "strd", 8, 1, 0 }, { "zva", 64, 1, 0 },
	};
	char *hva = vm_hva(ipa);
	for (size_t i = 0; hva && i < sizeof accesses / sizeof *accesses; i++)
		/* A store through a read-only slot is an exit: it writes nothing. */
		if (strcmp(accesses[i].op, op) == 0 && !(accesses[i].write && vm_read_only(ipa)))
			return barvalues_access((uint64_t)hva, accesses[i].size, accesses[i].write) ? accesses[i].unknown : 0;
	return 0;
}
