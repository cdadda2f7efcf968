/* The kernel's tracefs: events, kprobes and the trace itself. */
#ifndef RECORDER_TRACEFS_H
#define RECORDER_TRACEFS_H

#include <stdio.h>
#include <sys/types.h>

struct probe {
	char kind; /* 'p': at the entry, 'r': at the return */
	const char *event;
	const char *function;
	const char *args; /* as in Documentation/trace/kprobetrace.rst */
};

/* Finds tracefs. @return 0, or the errno of why it cannot be used. */
int tracefs_init(void);
/* @return true if there is such an event and it is on now. */
int tracefs_enable(const char *group, const char *event);
void tracefs_disable(const char *group, const char *event);
/* Sets and enables a probe; says on stderr which ones this kernel does not have. */
void tracefs_probe(const struct probe *probe);
void tracefs_remove_probes(void);
/* Traces events of this process only, from now on. */
void tracefs_start(pid_t pid);
/* What was traced since the last reading, as text, up to its end; NULL if tracing is off. Stays open. */
FILE *tracefs_pipe(void);

#endif
