/* What this host is called in a recording's first line. */
#ifndef RECORDER_HOST_H
#define RECORDER_HOST_H

/* Era of the running kernel: "v6.12.117"; a distribution's own version is taken where it names the stable release. */
const char *host_kernel(void);
/* The CPU by its MIDR: "cortex-a76"; "unknown" if it is not one of those recordings know. */
const char *host_cpu(void);

#endif
