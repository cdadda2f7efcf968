/* Writes tracefs' control files. */
#include "tracefs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define GROUP "faultline"

static const char *root;

static int put(const char *file, int flags, const char *text)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", root, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return errno;
	int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return error;
}

int tracefs_init(void)
{
	static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	for (size_t i = 0; i < 2; i++) {
		root = places[i];
		int error = put("tracing_on", 0, "0");
		if (error == ENOENT)
			continue;
		if (error)
			break;
		put("current_tracer", 0, "nop");
		/* A step's first events are those that count: a full buffer drops the later ones. */
		put("options/overwrite", 0, "0");
		put("buffer_size_kb", 0, "4096");
		return 0;
	}
	root = NULL;
	return EACCES;
}

int tracefs_enable(const char *group, const char *event)
{
	char file[128];
	snprintf(file, sizeof file, "events/%s/%s/enable", group, event);
	return root && put(file, 0, "1") == 0;
}

void tracefs_disable(const char *group, const char *event)
{
	char file[128];
	snprintf(file, sizeof file, "events/%s/%s/enable", group, event);
	if (root)
		put(file, 0, "0");
}

void tracefs_probe(const struct probe *probe)
{
	char text[512];
	snprintf(text, sizeof text, "%c:" GROUP "/%s %s %s", probe->kind, probe->event, probe->function, probe->args);
	int error = put("kprobe_events", O_APPEND, text);
	if (error)
		fprintf(stderr, "recorder: no probe on %s: %s\n", probe->function, strerror(error));
	else
		tracefs_enable(GROUP, probe->event);
}

void tracefs_remove_probes(void)
{
	if (!root)
		return;
	put("events/" GROUP "/enable", 0, "0");
	put("tracing_on", 0, "0");
	put("set_event_pid", O_TRUNC, "");
	/* Ours alone: other users of tracefs may have probes too. */
	FILE *f;
	char path[256], line[512], remove[300];
	snprintf(path, sizeof path, "%s/kprobe_events", root);
	while ((f = fopen(path, "re"))) {
		char *at = NULL;
		while (!at && fgets(line, sizeof line, f))
			at = strstr(line, GROUP "/");
		fclose(f);
		if (!at)
			break;
		at[strcspn(at, " \n")] = '\0';
		snprintf(remove, sizeof remove, "-:%s", at);
		if (put("kprobe_events", O_APPEND, remove) != 0)
			break;
	}
}

void tracefs_start(pid_t pid)
{
	char text[32];
	if (!root)
		return;
	/* What another process has left. */
	put("trace", O_TRUNC, "");
	snprintf(text, sizeof text, "%d", pid);
	put("set_event_pid", O_TRUNC, text);
	put("tracing_on", 0, "1");
}

/* Reading "trace" and clearing it would wait for a grace period of RCU each time; the pipe gives each event once. */
FILE *tracefs_pipe(void)
{
	static FILE *pipe;
	char path[256];
	if (!pipe && root) {
		snprintf(path, sizeof path, "%s/trace_pipe", root);
		int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		pipe = fd < 0 ? NULL : fdopen(fd, "r");
	}
	if (pipe)
		clearerr(pipe);
	return pipe;
}
