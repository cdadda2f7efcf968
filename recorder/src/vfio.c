/* Holds one PCI function through /dev/vfio (container, group, type 1 IOMMU). */
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "say.h"

static int device = -1;
static char opened[32];

static int write_sysfs(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static void bind_driver(const char *bdf)
{
	char path[128], driver[256];
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", bdf);
	ssize_t n = readlink(path, driver, sizeof driver - 1);
	driver[n > 0 ? n : 0] = '\0';
	if (strstr(driver, "/vfio-pci"))
		return;
	if (n > 0)
		bad_scenario("%s is held by the driver %s: bind it to vfio-pci first", bdf, strrchr(driver, '/') + 1);
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver_override", bdf);
	if (write_sysfs(path, "vfio-pci") != 0)
		bad_scenario("no PCI function %s, or it cannot be bound: %s", bdf, strerror(errno));
	write_sysfs("/sys/bus/pci/drivers_probe", bdf);
}

static int group_number(const char *bdf)
{
	char path[128], link[256];
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", bdf);
	ssize_t n = readlink(path, link, sizeof link - 1);
	if (n <= 0)
		bad_scenario("%s is in no IOMMU group", bdf);
	link[n] = '\0';
	return atoi(strrchr(link, '/') + 1);
}

static int region(unsigned index, struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){ .argsz = sizeof *info, .index = index };
	return ioctl(device, VFIO_DEVICE_GET_REGION_INFO, info);
}

static uint16_t command(void)
{
	struct vfio_region_info config;
	uint16_t value = 0;
	if (device < 0)
		bad_scenario("a command that needs a device before `vfio open`");
	region(VFIO_PCI_CONFIG_REGION_INDEX, &config);
	if (pread(device, &value, 2, (off_t)config.offset + PCI_COMMAND) != 2)
		bad_scenario("cannot read the PCI command register: %s", strerror(errno));
	return value;
}

static ssize_t write_command(uint16_t value)
{
	struct vfio_region_info config;
	region(VFIO_PCI_CONFIG_REGION_INDEX, &config);
	return pwrite(device, &value, 2, (off_t)config.offset + PCI_COMMAND);
}

void vfio_open(const char *bdf)
{
	char path[64];
	bind_driver(bdf);
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof path, "/dev/vfio/%d", group_number(bdf));
	int group = open(path, O_RDWR | O_CLOEXEC);
	if (container < 0 || group < 0)
		bad_scenario("cannot open %s: %s", container < 0 ? "/dev/vfio/vfio" : path, strerror(errno));
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0)
		bad_scenario("VFIO_GROUP_SET_CONTAINER: %s", strerror(errno));
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0)
		bad_scenario("VFIO_SET_IOMMU: %s", strerror(errno));
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device < 0)
		bad_scenario("VFIO_GROUP_GET_DEVICE_FD: %s", strerror(errno));
	snprintf(opened, sizeof opened, "%s", bdf);
	for (unsigned index = 0; index < VFIO_PCI_NUM_REGIONS; index++) {
		struct vfio_region_info info;
		if (region(index, &info) == 0 && info.size > 0)
			say("= region index=%u size=%#llx flags=%u", index, info.size, info.flags);
	}
	write_command(command() | PCI_COMMAND_MEMORY);
}

void vfio_command(uint16_t mask, uint16_t value)
{
	uint16_t old = command();
	uint16_t new = mask ? (uint16_t)((old & ~mask) | (value & mask)) : value;
	int rc = (int)write_command(new);
	say("= pcicmd old=%#x write=%#x rc=%d new=%#x", old, new, rc, command());
}

void vfio_reset(void)
{
	if (device < 0)
		bad_scenario("a command that needs a device before `vfio open`");
	say("= vfioreset errno=%d", ioctl(device, VFIO_DEVICE_RESET) != 0 ? errno : 0);
}

struct vfio_bar vfio_bar(int n)
{
	struct vfio_region_info info;
	char path[128];
	unsigned long long start = 0, end, flags;
	if (device < 0)
		bad_scenario("a BAR as backing before `vfio open`");
	if (region((unsigned)n, &info) != 0 || info.size == 0)
		bad_scenario("%s has no BAR %d", opened, n);
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource", opened);
	FILE *f = fopen(path, "re");
	for (int i = 0; f && i <= n; i++)
		if (fscanf(f, "%llx %llx %llx", &start, &end, &flags) != 3)
			break;
	if (f)
		fclose(f);
	return (struct vfio_bar){ .fd = device, .offset = info.offset, .size = info.size, .pa = start };
}
