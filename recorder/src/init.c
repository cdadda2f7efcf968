/* Sets the machine up as recordings have it: 16 hugetlb pages of 2 MiB, THP as the kernel has it. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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

void init_machine(void)
{
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("tracefs", "/sys/kernel/tracing");
	mount_at("debugfs", "/sys/kernel/debug");
	mount_at("tmpfs", "/tmp");
	FILE *pages = fopen("/proc/sys/vm/nr_hugepages", "we");
	if (pages) {
		fputs("16", pages);
		fclose(pages);
	}
	load_modules();
}

void init_power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
