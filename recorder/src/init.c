/* Sets the machine up as recordings have it: 16 hugetlb pages of 2 MiB, THP as the kernel has it, khugepaged asleep. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void mount_at(const char *type, const char *at)
{
	mkdir(at, 0755);
	if (mount(type, at, type, 0, NULL) != 0 && errno != EBUSY)
		fprintf(stderr, "recorder: cannot mount %s: %s\n", at, strerror(errno));
}

static void load_modules(void)
{
	char name[128], path[160];
	FILE *order = fopen("/modules/order", "re");
	while (order && fscanf(order, "%127s", name) == 1) {
		snprintf(path, sizeof path, "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			fprintf(stderr, "recorder: cannot load %s: %s\n", name, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (order)
		fclose(order);
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

/*
 * khugepaged would collapse pages of a scenario whenever it wakes. "enabled" does not keep it from memory with MADV_HUGEPAGE;
 * what does is its pause: it is given work once, this process's own, and then sleeps for days. The work stays, for a
 * process with memory that is the only one to collapse would wake it at once. It must be work that it cannot finish: newer
 * kernels forget a process with nothing left to collapse, and 7.2.12 collapsed memory of the first scenario of a boot. A
 * scenario can have it:
 * `sysfs kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 10`.
 */
static void still_khugepaged(void)
{
	unsigned long before = 0, now = 0;
	size_t size = 4UL << 20;
	write_text(KHUGEPAGED "scan_sleep_millisecs", "1000000000");
	write_text(KHUGEPAGED "max_ptes_none", "0");
	char *work = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(work, size, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += 1UL << 20)
		work[at] = 1;
	for (int i = 0; i < 100; i++) {
		FILE *f = fopen(KHUGEPAGED "full_scans", "re");
		if (!f)
			return;
		if (fscanf(f, "%lu", &now) != 1)
			now = 0;
		fclose(f);
		if (i == 0) {
			before = now;
			madvise(work, size, MADV_HUGEPAGE);
		} else if (now > before) {
			write_text(KHUGEPAGED "max_ptes_none", "511");
			return;
		}
		usleep(10000);
	}
	write_text(KHUGEPAGED "max_ptes_none", "511");
	fprintf(stderr, "recorder: khugepaged did not take up its work: it may wake in a scenario\n");
}

void init_machine(void)
{
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("tracefs", "/sys/kernel/tracing");
	mount_at("debugfs", "/sys/kernel/debug");
	mount_at("tmpfs", "/tmp");
	write_text("/proc/sys/vm/nr_hugepages", "16");
	still_khugepaged();
	load_modules();
}

void init_power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
