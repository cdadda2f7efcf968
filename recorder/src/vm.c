/* Drives /dev/kvm: the VM, its slots, and KVM_RUN until the guest has reported. */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "barvalues.h"
#include "guest.h"
#include "say.h"
#include "signals.h"

/* Reads of IPAs without a slot are answered with this, cut to the access size. */
#define UNBACKED 0xf1e2d3c4b5a69788UL
/* PSTATE of a starting operation: EL1h, DAIF masked. */
#define PSTATE_START 0x3c5UL
#define MOST_SLOTS 64

#define CORE_REG(field) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(field))
#define X(n) (CORE_REG(regs.regs[0]) + 2 * (n))
#define PC CORE_REG(regs.pc)
#define PSTATE CORE_REG(regs.pstate)
#define VBAR_EL1 ARM64_SYS_REG(3, 0, 12, 0, 0)
#define CPACR_EL1 ARM64_SYS_REG(3, 0, 1, 0, 2)

static int kvm = -1, vm = -1, vcpu = -1;
static struct kvm_run *run;
static struct kvm_userspace_memory_region slots[MOST_SLOTS];
/* True while the store that reported the last operation waits to be completed. */
static int mmio_pending;
/* `leave 1`: an operation's own MMIO access ends it, answered and not completed. */
static int leave;
static int left;
static uint64_t exception[EXCEPTION_WORDS];
/* The running operation, for reports of values that it read from a BAR. */
static char op_name[16];
static uint64_t op_address;

static void set_reg(uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)&value };
	if (ioctl(vcpu, KVM_SET_ONE_REG, &reg) != 0)
		bad_scenario("KVM_SET_ONE_REG %#lx: %s", id, strerror(errno));
}

static uint64_t get_reg(uint64_t id)
{
	uint64_t value = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)&value };
	if (ioctl(vcpu, KVM_GET_ONE_REG, &reg) != 0)
		bad_scenario("KVM_GET_ONE_REG %#lx: %s", id, strerror(errno));
	return value;
}

static void need_vm(void)
{
	if (vm < 0)
		bad_scenario("a command that needs a VM before `vm`");
}

static int set_region(uint32_t id, uint64_t gpa, uint64_t size, uint64_t hva, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = id, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = hva
	};
	need_vm();
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
		return errno;
	if (id < MOST_SLOTS)
		slots[id] = region;
	return 0;
}

/* Newer than many headers: struct kvm_create_guest_memfd, struct kvm_userspace_memory_region2. */
struct create_guest_memfd {
	uint64_t size, flags, reserved[6];
};
struct region2 {
	uint32_t slot, flags;
	uint64_t guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	uint32_t guest_memfd, pad1;
	uint64_t pad2[14];
};
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct create_guest_memfd)
#define SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct region2)
#define MEM_GUEST_MEMFD 4
#define GUEST_MEMFD_MMAP_INIT_SHARED 3

int vm_guest_memfd(uint64_t size)
{
	struct create_guest_memfd create = { .size = size, .flags = GUEST_MEMFD_MMAP_INIT_SHARED };
	need_vm();
	return ioctl(vm, CREATE_GUEST_MEMFD, &create);
}

void vm_slot_gmem(uint32_t id, uint64_t gpa, uint64_t size, char *hva, int fd, uint64_t offset)
{
	struct region2 region = {
		.slot = id, .flags = MEM_GUEST_MEMFD, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uint64_t)hva, .guest_memfd = (uint32_t)fd, .guest_memfd_offset = offset
	};
	need_vm();
	int error = ioctl(vm, SET_USER_MEMORY_REGION2, &region) != 0 ? errno : 0;
	if (!error && id < MOST_SLOTS)
		slots[id] = (struct kvm_userspace_memory_region){ id, 0, gpa, size, (uint64_t)hva };
	say("= slot id=%u size=%#lx errno=%d", id, size, error);
}

static const struct kvm_userspace_memory_region *known_slot(uint32_t id)
{
	if (id >= MOST_SLOTS)
		bad_scenario("slot numbers go up to %d here", MOST_SLOTS - 1);
	return &slots[id];
}

void vm_create(void)
{
	struct kvm_vcpu_init init;
	if (vm >= 0)
		bad_scenario("a second `vm` in one scenario");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		bad_scenario("cannot open /dev/kvm: %s", strerror(errno));
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		bad_scenario("KVM_CREATE_VM: %s", strerror(errno));
	char *code = reserve(CODE_SIZE, 0);
	if (mmap(code, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		bad_scenario("no memory for the guest's code: %s", strerror(errno));
	madvise(code, CODE_SIZE, MADV_NOHUGEPAGE);
	memcpy(code, guest_code, (size_t)(guest_code_end - guest_code));
	int error = set_region(0, CODE_IPA, CODE_SIZE, (uint64_t)code, 0);
	if (error)
		bad_scenario("KVM_SET_USER_MEMORY_REGION of the code slot: %s", strerror(error));
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0 || ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init) != 0 || ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) != 0)
		bad_scenario("cannot make a vCPU: %s", strerror(errno));
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		bad_scenario("cannot map struct kvm_run: %s", strerror(errno));
	set_reg(VBAR_EL1, CODE_IPA);
	/* CPACR_EL1.FPEN = 3: no trap of FP. */
	set_reg(CPACR_EL1, 0x300000);
}

int vm_fd(void)
{
	return vm;
}

static const struct kvm_userspace_memory_region *slot_at(uint64_t ipa)
{
	for (int i = 0; i < MOST_SLOTS; i++)
		if (ipa >= slots[i].guest_phys_addr && ipa - slots[i].guest_phys_addr < slots[i].memory_size)
			return &slots[i];
	return NULL;
}

char *vm_hva(uint64_t ipa)
{
	const struct kvm_userspace_memory_region *s = slot_at(ipa);
	return s ? (char *)(s->userspace_addr + (ipa - s->guest_phys_addr)) : NULL;
}

int vm_read_only(uint64_t ipa)
{
	const struct kvm_userspace_memory_region *s = slot_at(ipa);
	return s && (s->flags & KVM_MEM_READONLY);
}

void vm_has(int cap)
{
	need_vm();
	say("= has cap=%d value=%d", cap, ioctl(vm, KVM_CHECK_EXTENSION, cap));
}

void vm_enable_cap(int cap, uint64_t value)
{
	struct kvm_enable_cap enable = { .cap = (uint32_t)cap, .args = { value } };
	need_vm();
	int has = ioctl(vm, KVM_CHECK_EXTENSION, cap);
	int error = ioctl(vm, KVM_ENABLE_CAP, &enable) != 0 ? errno : 0;
	say("= cap cap=%d has=%d errno=%d", cap, has, error);
}

void vm_slot(uint32_t id, uint64_t gpa, uint64_t size, char *hva, uint32_t flags)
{
	say("= slot id=%u size=%#lx errno=%d", id, size, set_region(id, gpa, size, (uint64_t)hva, flags));
}

void vm_slot_flags(uint32_t id, uint32_t flags)
{
	const struct kvm_userspace_memory_region *s = known_slot(id);
	int error = s->memory_size ? set_region(id, s->guest_phys_addr, s->memory_size, s->userspace_addr, flags) : EINVAL;
	say("= slot id=%u errno=%d", id, error);
}

void vm_slot_delete(uint32_t id)
{
	const struct kvm_userspace_memory_region *s = known_slot(id);
	say("= slot id=%u size=0 errno=%d", id, set_region(id, s->guest_phys_addr, 0, s->userspace_addr, 0));
}

void vm_dirty(uint32_t id)
{
	const struct kvm_userspace_memory_region *s = known_slot(id);
	uint64_t pages = s->memory_size / 4096, words = (pages + 63) / 64;
	uint64_t *bitmap = calloc(words + 1, 8);
	char text[3500] = "-";
	size_t n = 0;
	struct kvm_dirty_log log = { .slot = id, .dirty_bitmap = bitmap };
	need_vm();
	int error = ioctl(vm, KVM_GET_DIRTY_LOG, &log) != 0 ? errno : 0;
	for (uint64_t page = 0; !error && page < pages; page++)
		if (bitmap[page / 64] >> (page % 64) & 1) {
			if (n > sizeof text - 24)
				bad_scenario("more dirty pages than one line holds");
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%lu", n ? "," : "", page);
		}
	say("= dirty errno=%d pages=%s", error, text);
	free(bitmap);
}

void vm_clear_dirty(uint32_t id, uint64_t first, uint32_t n)
{
	uint64_t *bitmap = malloc(n / 8 + 16);
	memset(bitmap, 0xff, n / 8 + 16);
	struct kvm_clear_dirty_log log = { .slot = id, .num_pages = n, .first_page = first, .dirty_bitmap = bitmap };
	need_vm();
	say("= cleardirty errno=%d", ioctl(vm, KVM_CLEAR_DIRTY_LOG, &log) != 0 ? errno : 0);
	free(bitmap);
}

static const char *exit_name(uint32_t reason)
{
	static char number[16];
	switch (reason) {
	case KVM_EXIT_UNKNOWN: return "UNKNOWN";
	case KVM_EXIT_MMIO: return "MMIO";
	case KVM_EXIT_INTR: return "INTR";
	case KVM_EXIT_HYPERCALL: return "HYPERCALL";
	case KVM_EXIT_DEBUG: return "DEBUG";
	case KVM_EXIT_FAIL_ENTRY: return "FAIL_ENTRY";
	case KVM_EXIT_INTERNAL_ERROR: return "INTERNAL_ERROR";
	case KVM_EXIT_SYSTEM_EVENT: return "SYSTEM_EVENT";
	case KVM_EXIT_ARM_NISV: return "ARM_NISV";
	case 39 /* KVM_EXIT_MEMORY_FAULT, newer than many headers */: return "MEMORY_FAULT";
	}
	snprintf(number, sizeof number, "%u", reason);
	return number;
}

/* x0 and x4 of a finished operation; `*` where it read a BAR that the scenario did not write. */
static void report_done(uint64_t x0)
{
	char text0[24], text4[24];
	snprintf(text0, sizeof text0, "%#lx", x0);
	snprintf(text4, sizeof text4, "%#lx", get_reg(X(4)));
	int unknown = barvalues_guest_access(op_name, op_address);
	say("= done x0=%s x4=%s", unknown & 1 ? "*" : text0, unknown & 2 ? "*" : text4);
}

static void report_exception(void)
{
	uint64_t esr = exception[0], ec = esr >> 26;
	char far[24] = "-";
	/* All of ESR above bit 26 is looked at, as recordings do: FAR is meaningful for aborts only. */
	if (ec == 0x20 || ec == 0x21 || ec == 0x24 || ec == 0x25)
		snprintf(far, sizeof far, "%#lx", exception[1]);
	say("= guest-exception esr=%#lx far=%s spsr=%#lx vector=%#lx", esr, far, exception[2], exception[4]);
}

/* One MMIO exit. @return true if it was the last report of the operation. */
static int mmio(void)
{
	uint64_t at = run->mmio.phys_addr, data = 0;
	uint32_t len = run->mmio.len;
	if (run->mmio.is_write)
		memcpy(&data, run->mmio.data, len);
	if (run->mmio.is_write && at == DONE_IPA) {
		report_done(data);
		return 1;
	}
	if (run->mmio.is_write && at >= EXCEPTION_IPA && at < EXCEPTION_IPA + 8 * EXCEPTION_WORDS) {
		exception[(at - EXCEPTION_IPA) / 8] = data;
		if (at != EXCEPTION_IPA + 8 * (EXCEPTION_WORDS - 1))
			return 0;
		report_exception();
		return 1;
	}
	if (!run->mmio.is_write) {
		data = len == 8 ? UNBACKED : UNBACKED & ((1UL << 8 * len) - 1);
		memcpy(run->mmio.data, &data, len);
	}
	say("= exit MMIO %s ipa=%#lx len=%u data=%#lx", run->mmio.is_write ? "write" : "read", at, len, data);
	left = leave;
	return 0;
}

/* KVM completes a pending access (it moves the PC) and comes back. @return the error */
static int run_immediate_exit(void)
{
	run->immediate_exit = 1;
	int error = ioctl(vcpu, KVM_RUN, 0) != 0 ? errno : 0;
	run->immediate_exit = 0;
	mmio_pending = 0;
	return error;
}

/* The store of the last report, before registers are set. */
static void complete_mmio(void)
{
	if (mmio_pending)
		run_immediate_exit();
}

static void run_guest(void)
{
	need_vm();
	complete_mmio();
	if (!left)
		run->exit_reason = KVM_EXIT_UNKNOWN;
	left = 0;
	signals_watch(&run->immediate_exit);
	for (;;) {
		int error = ioctl(vcpu, KVM_RUN, 0) != 0 ? errno : 0;
		if (!error && run->exit_reason == KVM_EXIT_MMIO) {
			if (mmio()) {
				mmio_pending = 1;
				break;
			}
			if (left)
				break;
			continue;
		}
		if (error)
			say("= run errno=%s exit=%s%s", errno_name(error), exit_name(run->exit_reason), signals_text());
		else if (run->exit_reason == KVM_EXIT_ARM_NISV)
			say("= exit ARM_NISV esr_iss=%#llx fault_ipa=%#llx", run->arm_nisv.esr_iss, run->arm_nisv.fault_ipa);
		else
			say("= exit %s", exit_name(run->exit_reason));
		break;
	}
	signals_unwatch();
}

void vm_operation(const char *name, const uint64_t args[6])
{
	uint64_t entry = guest_entry(name);
	need_vm();
	if (!entry)
		bad_scenario("no operation \"%s\"", name);
	complete_mmio();
	left = 0;
	snprintf(op_name, sizeof op_name, "%s", name);
	op_address = args[0];
	if (strcmp(name, "touchr") == 0)
		op_address += (args[1] - 1) * args[2]; /* what it reports is the last page's */
	for (unsigned n = 0; n < 6; n++)
		set_reg(X(n), args[n]);
	set_reg(PC, entry);
	set_reg(PSTATE, PSTATE_START);
	run_guest();
}

void vm_resume(void)
{
	run_guest();
}

void vm_skip(void)
{
	need_vm();
	set_reg(PC, get_reg(PC) + 4);
	run_guest();
}

void vm_leave(int on)
{
	leave = on;
}

/* What KVM_RUN does with a pending access, and where it leaves the PC: behind the instruction, or at a vector. */
void vm_immediate(void)
{
	need_vm();
	uint64_t before = get_reg(PC);
	int error = run_immediate_exit();
	uint64_t pc = get_reg(PC);
	char where[32];
	if (pc < CODE_IPA + 0x800)
		snprintf(where, sizeof where, "vector+%#lx", pc - CODE_IPA);
	else
		snprintf(where, sizeof where, "%#lx", pc - before);
	say("= immediate errno=%s exit=%s pc=%s x4=%#lx", errno_name(error), exit_name(run->exit_reason), where, get_reg(X(4)));
}

void vm_events(int ext_dabt)
{
	need_vm();
	struct kvm_vcpu_events events = { .exception.ext_dabt_pending = (uint8_t)ext_dabt };
	say("= events errno=%d", ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events) != 0 ? errno : 0);
}
