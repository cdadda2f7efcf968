/*
 * Reads the kernel's trace as text and writes it in the recordings' form. A probe whose function this
 * kernel does not have leaves no lines.
 */
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing.h"
#include "guest.h"
#include "host.h"
#include "say.h"
#include "tracefs.h"

uint64_t events_s2_root;
unsigned events_s2_bits;
int events_s2_level;

/* Page table calls of include/asm/kvm_pgtable.h take the table first; its first words are ia_bits, start_level and pgd. */
#define PGT "bits=+0(%x0):u32 level=+4(%x0):s8 root=+8(%x0):x64"

static const struct probe probes[] = {
	{ 'r', "guest_abort", "kvm_handle_guest_abort", "ret=$retval:s32" },
	/* The gfn-to-pfn lookup: up to v6.12, and since v6.13. */
	{ 'r', "pfn", "__gfn_to_pfn_memslot", "pfn=$retval:x64" },
	{ 'r', "pfn_faultin", "__kvm_faultin_pfn", "pfn=$retval:x64" },
	{ 'p', "s2map", "kvm_pgtable_stage2_map", "ipa=%x1:x64 size=%x2:x64 pa=%x3:x64 prot=%x4:x32 " PGT },
	{ 'p', "s2relax", "kvm_pgtable_stage2_relax_perms", "ipa=%x1:x64 prot=%x2:x32" },
	{ 'p', "s2unmap", "kvm_pgtable_stage2_unmap", "ipa=%x1:x64 size=%x2:x64" },
	{ 'p', "s2wrprotect", "kvm_pgtable_stage2_wrprotect", "ipa=%x1:x64 size=%x2:x64" },
	{ 'p', "s2split", "kvm_pgtable_stage2_split", "ipa=%x1:x64 size=%x2:x64" },
	{ 'p', "eager_map", "kvm_phys_addr_ioremap", "ipa=%x1:x64 pa=%x2:x64 size=%x3:x64 writable=%x4:u8" },
	{ 'p', "inject_pabt", "kvm_inject_pabt", "far=%x1:x64" },
	{ 'p', "inject_dabt", "kvm_inject_dabt", "far=%x1:x64" },
	{ 'p', "inject_sea", "kvm_inject_sea", "iabt=%x1:u8 far=%x2:x64" },
	{ 'p', "inject_vabt", "kvm_inject_vabt", "" },
	{ 'p', "inject_size", "kvm_inject_size_fault", "" },
	{ 'p', "inject_undef", "kvm_inject_undefined", "" },
	{ 'r', "vfio_mmap", "vfio_pci_core_mmap", "ret=$retval:s32" },
	{ 'r', "vfio_fault", "vfio_pci_mmap_page_fault", "ret=$retval:x32" },
	{ 'r', "vfio_huge_fault", "vfio_pci_mmap_huge_fault", "ret=$retval:x32" },
	{ 'p', "vfio_zap", "vfio_pci_zap_and_down_write_memory_lock", "" },
	{ 'p', "vfio_zap_lock", "vfio_pci_zap_and_vma_lock", "" },
};

static const char *const tracepoints[] = {
	"kvm_guest_fault", "kvm_mmio_nisv", "kvm_access_fault", "kvm_userspace_exit", "kvm_unmap_hva_range", "kvm_set_spte_hva",
};

int events_init(void)
{
	int error = tracefs_init();
	if (error)
		return error;
	for (size_t i = 0; i < sizeof tracepoints / sizeof *tracepoints; i++)
		tracefs_enable("kvm", tracepoints[i]);
	if (!tracefs_enable("kvm", "kvm_guest_fault"))
		return ENOENT;
	for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
		tracefs_probe(&probes[i]);
	return 0;
}

void events_exit(void)
{
	for (size_t i = 0; i < sizeof tracepoints / sizeof *tracepoints; i++)
		tracefs_disable("kvm", tracepoints[i]);
	tracefs_remove_probes();
}

void events_start(void)
{
	tracefs_start(getpid());
}

/* The value after " NAME=" of a probe, as a number. */
static uint64_t field(const char *args, const char *name)
{
	char key[32];
	int n = snprintf(key, sizeof key, " %s=", name);
	const char *at = strstr(args, key);
	return at ? strtoull(at + n, NULL, 0) : 0;
}

/* A physical address: inside a BAR by name, else `*`, because memory has no name. */
static const char *physical(uint64_t pa, char text[static 64])
{
	struct backing *b = backing_of_pa(pa);
	if (b)
		snprintf(text, 64, "%s+0x%lx", b->name, pa - b->pa);
	else
		strcpy(text, "*");
	return text;
}

/* enum kvm_pgtable_prot (arch/arm64/include/asm/kvm_pgtable.h) by release; NORMAL_NC since v6.9. */
struct prot_bits {
	unsigned major, minor;
	uint64_t x, w, r, device, normal_nc;
};
static const struct prot_bits prot_bits[] = {
	{ 6, 19, 3, 4, 8, 16, 32 }, /* X is PX and UX */
	{ 0, 0, 1, 2, 4, 8, 16 },
};

static const char *protection(uint64_t prot, char text[static 32])
{
	static const struct prot_bits *bits;
	if (!bits) {
		bits = prot_bits;
		while (!host_is_at_least(bits->major, bits->minor))
			bits++;
	}
	snprintf(text, 32, "%s%s%s%s%s", prot & bits->r ? "R" : "", prot & bits->w ? "W" : "", prot & bits->x ? "X" : "",
		 prot & bits->device ? "+DEVICE" : "", prot & bits->normal_nc ? "+NC" : "");
	return text;
}

/* @return length of the line written to out, 0 if the event is not listed. */
static int kvm_line(const char *event, const char *args, char *out, size_t room)
{
	unsigned long long a = 0, b = 0, c = 0;
	char far[24];
	struct backing *in;
	if (strcmp(event, "kvm_guest_fault") == 0) {
		if (sscanf(args, " ipa %llx, hsr %llx, hxfar %llx", &a, &b, &c) != 3 || (a & ~0xfffULL) == DONE_IPA)
			return 0;
		snprintf(far, sizeof far, c >= CODE_IPA && c < CODE_IPA + 4096 ? "code" : "0x%llx", c);
		return snprintf(out, room, "fault ipa=0x%llx esr=0x%llx far=%s", a & ~0xfffULL, b, far);
	}
	if (strcmp(event, "kvm_mmio_nisv") == 0) {
		if (sscanf(args, " ipa %llx, esr %llx, far %llx", &a, &b, &c) != 3)
			return 0;
		return snprintf(out, room, "mmio_nisv ipa=0x%llx esr=0x%llx far=0x%llx", a, b, c);
	}
	if (strcmp(event, "kvm_access_fault") == 0 && sscanf(args, " IPA: %llx", &a) == 1)
		return snprintf(out, room, "access_fault ipa=0x%llx", a);
	if (strcmp(event, "kvm_unmap_hva_range") == 0) {
		if (sscanf(args, " mmu notifier unmap range: %llx -- %llx", &a, &b) != 2 || !(in = backing_of_range(a, b)))
			return 0;
		uint64_t base = (uint64_t)in->base;
		return snprintf(out, room, "unmap_hva_range %s+0x%llx..%s+0x%llx", in->name, a - base, in->name, b - base);
	}
	if (strcmp(event, "kvm_set_spte_hva") == 0) {
		if (sscanf(args, " mmu notifier set pte hva: %llx", &a) != 1 || !(in = backing_of_range(a, a + 1)))
			return 0;
		return snprintf(out, room, "set_spte_hva %s+0x%llx", in->name, a - (uint64_t)in->base);
	}
	return 0;
}

/* The same for events of our probes. */
static int probe_line(const char *event, const char *args, char *out, size_t room)
{
	char pa[64], prot[32];
	uint64_t ipa = field(args, "ipa"), size = field(args, "size");
	if (strcmp(event, "guest_abort") == 0)
		return snprintf(out, room, "guest_abort ret=%d", (int)(int64_t)field(args, "ret"));
	if (strncmp(event, "pfn", 3) == 0) {
		uint64_t pfn = field(args, "pfn");
		/* KVM_PFN_ERR_MASK and KVM_PFN_NOSLOT. */
		if (pfn >> 52)
			return snprintf(out, room, "pfn error");
		return snprintf(out, room, "pfn %s", physical(pfn << 12, pa));
	}
	if (strcmp(event, "s2map") == 0) {
		events_s2_root = field(args, "root");
		events_s2_bits = (unsigned)field(args, "bits");
		events_s2_level = (int)(int64_t)field(args, "level");
		return snprintf(out, room, "s2map ipa=0x%lx size=0x%lx pa=%s prot=%s", ipa, size, physical(field(args, "pa"), pa),
				protection(field(args, "prot"), prot));
	}
	if (strcmp(event, "s2relax") == 0)
		return snprintf(out, room, "s2relax ipa=0x%lx prot=%s", ipa, protection(field(args, "prot"), prot));
	if (strcmp(event, "s2unmap") == 0 || strcmp(event, "s2wrprotect") == 0 || strcmp(event, "s2split") == 0)
		return snprintf(out, room, "%s ipa=0x%lx size=0x%lx", event, ipa, size);
	if (strcmp(event, "eager_map") == 0)
		return snprintf(out, room, "eager_map ipa=0x%lx size=0x%lx pa=%s writable=%lu", ipa, size,
				physical(field(args, "pa"), pa), field(args, "writable"));
	if (strcmp(event, "inject_pabt") == 0 || strcmp(event, "inject_dabt") == 0)
		return snprintf(out, room, "%s far=0x%lx", event, field(args, "far"));
	if (strcmp(event, "inject_sea") == 0)
		return snprintf(out, room, "inject_sea iabt=%lu far=0x%lx", field(args, "iabt"), field(args, "far"));
	if (strncmp(event, "inject_", 7) == 0)
		return snprintf(out, room, "%s", event);
	if (strncmp(event, "vfio_zap", 8) == 0)
		return snprintf(out, room, "vfio_zap");
	if (strncmp(event, "vfio_", 5) == 0)
		return snprintf(out, room, "%s ret=%#lx", event, field(args, "ret"));
	return 0;
}

struct listing {
	int left; /* lines that may still be written */
	int cut;
	int held; /* a guest_abort ret=0: dropped if the exit that follows is MMIO's */
};

static void list(struct listing *l, const char *text)
{
	if (l->left-- > 0)
		say("~ %s", text);
	else
		l->cut = 1;
}

static void release(struct listing *l)
{
	if (l->held)
		list(l, "guest_abort ret=0");
	l->held = 0;
}

static void userspace_exit(struct listing *l, const char *args)
{
	const char *name = strstr(args, "reason "), *number = strrchr(args, '(');
	char text[96];
	if (!name || !number)
		return;
	int reason = atoi(number + 1);
	name += 7;
	int n = (int)strcspn(name, " ");
	int is_error = strncmp(name, "error", 5) == 0, is_restart = strncmp(name, "restart", 7) == 0;
	if (!is_error && !is_restart && reason == 6) {
		l->held = 0;
		return;
	}
	release(l);
	if (is_restart)
		return;
	if (strncmp(name, "KVM_EXIT_", 9) == 0) {
		name += 9;
		n -= 9;
	}
	/* KVM_EXIT_ARM_NISV has no name in kernels' own table. */
	if (!is_error && reason == 28)
		snprintf(text, sizeof text, "userspace_exit ARM_NISV (28)");
	else
		snprintf(text, sizeof text, "userspace_exit %.*s (%d)", n, name, reason);
	list(l, text);
}

static void event(struct listing *l, const char *name, const char *args)
{
	char text[256];
	if (strcmp(name, "kvm_userspace_exit") == 0) {
		userspace_exit(l, args);
		return;
	}
	if (kvm_line(name, args, text, sizeof text) <= 0 && probe_line(name, args, text, sizeof text) <= 0)
		return;
	release(l);
	if (strcmp(text, "guest_abort ret=0") == 0)
		l->held = 1;
	else
		list(l, text);
}

void events_drain(int most)
{
	struct listing l = { .left = most };
	char line[1024];
	FILE *f = tracefs_pipe();
	if (!f)
		return;
	/* "task-pid [cpu] flags time: event: arguments" */
	while (fgets(line, sizeof line, f)) {
		char *name = line[0] == '#' ? NULL : strchr(line, ']');
		name = name ? strstr(name, ": ") : NULL;
		char *end = name ? strchr(name + 2, ':') : NULL;
		if (!end)
			continue;
		*end = '\0';
		end[1 + strcspn(end + 1, "\n")] = '\0';
		event(&l, name + 2, end + 1);
	}
	release(&l);
	if (l.cut)
		say("~ ...");
}
