/* Reads uname and MIDR_EL1. */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

const char *host_kernel(void)
{
	static char era[64];
	struct utsname name;
	unsigned major, minor, patch = 0;
	uname(&name);
	/* Debian names its ABI in the release and the stable release in the version: "#1 SMP Debian 6.1.192-2 (…)". */
	const char *debian = strstr(name.version, "Debian ");
	const char *from = debian ? debian + 7 : name.release;
	if (sscanf(from, "%u.%u.%u", &major, &minor, &patch) < 2)
		return "unknown";
	if (patch)
		snprintf(era, sizeof era, "v%u.%u.%u", major, minor, patch);
	else
		snprintf(era, sizeof era, "v%u.%u", major, minor);
	return era;
}

bool host_is_at_least(unsigned major, unsigned minor)
{
	struct utsname name;
	unsigned is_major = 0, is_minor = 0;
	uname(&name);
	sscanf(name.release, "%u.%u", &is_major, &is_minor);
	return is_major > major || (is_major == major && is_minor >= minor);
}

const char *host_cpu(void)
{
	static const struct {
		unsigned long midr; /* implementer and part */
		const char *name;
	} known[] = { { 0x4100d080, "cortex-a72" }, { 0x4100d0b0, "cortex-a76" }, { 0x4100d400, "neoverse-v1" }, { 0x00000510, "max" } };
	unsigned long midr = 0;
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");
	if (f) {
		if (fscanf(f, "%lx", &midr) != 1)
			midr = 0;
		fclose(f);
	}
	for (size_t i = 0; midr && i < sizeof known / sizeof *known; i++)
		if ((midr & 0xff00fff0) == known[i].midr)
			return known[i].name;
	return "unknown";
}
