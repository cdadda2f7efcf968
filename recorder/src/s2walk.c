/* Walks stage-2 tables of 4 KiB granule (Arm ARM D8.2, D8.3) through /proc/kcore. */
#include "s2walk.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "events.h"
#include "say.h"
#include "vm.h"

#define OA_MASK 0x0000fffffffff000UL

static int kcore = -1;
static Elf64_Phdr *segments;
static unsigned segment_count;
static unsigned leaves;

static int open_kcore(void)
{
	Elf64_Ehdr header;
	if (kcore >= 0)
		return 1;
	kcore = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	if (kcore < 0 || pread(kcore, &header, sizeof header, 0) != sizeof header)
		return 0;
	segment_count = header.e_phnum;
	segments = calloc(segment_count, sizeof *segments);
	ssize_t size = (ssize_t)(segment_count * sizeof *segments);
	return segments && pread(kcore, segments, (size_t)size, (off_t)header.e_phoff) == size;
}

/* One table's entries from a kernel address or, if physical, a physical one. @return true if read. */
static int read_table(uint64_t at, int physical, uint64_t *entries, size_t size)
{
	for (unsigned i = 0; i < segment_count; i++) {
		const Elf64_Phdr *s = &segments[i];
		uint64_t start = physical ? s->p_paddr : s->p_vaddr;
		if (s->p_type != PT_LOAD || (physical && s->p_paddr == (Elf64_Addr)-1) || at < start || at - start >= s->p_memsz)
			continue;
		if (pread(kcore, entries, size, (off_t)(s->p_offset + (at - start))) == (ssize_t)size)
			return 1;
	}
	return 0;
}

static void walk(uint64_t table, int physical, size_t entries, int level, uint64_t ipa)
{
	uint64_t *entry = malloc(entries * 8);
	unsigned shift = 12 + 9 * (unsigned)(3 - level);
	if (entry && read_table(table, physical, entry, entries * 8))
		for (size_t i = 0; i < entries; i++) {
			uint64_t d = entry[i], at = ipa + ((uint64_t)i << shift);
			if (!(d & 1))
				continue;
			if (level < 3 && d & 2) {
				walk(d & OA_MASK, 1, 512, level + 1, at);
				continue;
			}
			leaves++;
			say("= s2 ipa=0x%lx level=%d s2ap=%lu memattr=%lu xn=%lu af=%lu cont=%lu", at, level, d >> 6 & 3, d >> 2 & 15,
			    d >> 53 & 3, d >> 10 & 1, d >> 52 & 1);
		}
	free(entry);
}

/* CONFIG_PTDUMP_STAGE2_DEBUGFS: /sys/kernel/debug/kvm/PID-FD/stage2_page_tables. */
static int kernel_dump(void)
{
	char path[128], line[256];
	snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%d-%d/stage2_page_tables", getpid(), vm_fd());
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f)) {
		size_t n = strlen(line);
		while (n && strchr(" \t\n", line[n - 1]))
			line[--n] = '\0';
		if (n)
			say("= ptdump %s", line);
	}
	fclose(f);
	return 1;
}

void s2_dump(void)
{
	if (kernel_dump() || !events_s2_root || !open_kcore())
		return;
	/* Root tables are concatenated: as many entries as the IPA bits above this level ask for. */
	unsigned shift = 12 + 9 * (unsigned)(3 - events_s2_level);
	leaves = 0;
	walk(events_s2_root, 0, 1UL << (events_s2_bits - shift), events_s2_level, 0);
	say("= s2 leaves=%u", leaves);
}
