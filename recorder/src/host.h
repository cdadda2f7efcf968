/* What this host is called in a recording's first line. */
#ifndef RECORDER_HOST_H
#define RECORDER_HOST_H

#include <stdbool.h>

/* Era of the running kernel: "v6.12.117"; a distribution's own version is taken where it names the stable release. */
const char *host_kernel(void);
/* Whether the running kernel is of this release or a later one. */
bool host_is_at_least(unsigned major, unsigned minor);
/* The CPU by its MIDR: "cortex-a76"; "unknown" if it is not one of those recordings know. */
const char *host_cpu(void);

#endif
