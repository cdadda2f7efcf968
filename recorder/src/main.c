/*
 * faultline-recorder: carries out recorded scenarios on this arm64 host's KVM and writes recordings.
 * As the first process of a machine (record.sh --qemu) it records /scenarios over the console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "events.h"
#include "host.h"
#include "init.h"
#include "say.h"
#include "scenario.h"

static const char usage[] =
	"usage: faultline-recorder [--cpu NAME] [--kernel ERA] [--no-events] [--out DIR] FILE...\n"
	"Carries out the commands of scenario files or recordings on /dev/kvm, one process each, and\n"
	"writes DIR/NAME.rec (--out, by default the current directory). Run as root, so that the\n"
	"kernel's events can be traced.\n";

static const char *kernel, *cpu;
static int events;

/* "dir/a_demand_fault.rec" -> "a_demand_fault" */
static const char *scenario_name(const char *path)
{
	static char name[128];
	const char *base = strrchr(path, '/');
	snprintf(name, sizeof name, "%s", base ? base + 1 : path);
	char *dot = strrchr(name, '.');
	if (dot)
		*dot = '\0';
	return name;
}

/* One scenario in a process of its own: its mappings, VM and device end with it. @return its exit status. */
static int record(const char *path, int out)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		FILE *file = fopen(path, "re");
		if (out >= 0)
			dup2(out, STDOUT_FILENO);
		scenario_file = path;
		if (!file)
			bad_scenario("cannot be read: %s", strerror(errno));
		say("# kernel %s, cpu %s%s", kernel, cpu, events ? "" : ", no events");
		say("scenario %s", scenario_name(path));
		/* Who reads it can tell that it has been cut. */
		say("# the last line is \"# end\"");
		scenario_run(file, events);
		say("# end");
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Records to DIR/NAME.rec; the file has its name only when it is whole. @return the scenario's status. */
static int record_file(const char *path, const char *dir)
{
	char name[512], temporary[520], line[1024];
	snprintf(name, sizeof name, "%s/%s.rec", dir, scenario_name(path));
	snprintf(temporary, sizeof temporary, "%s.tmp", name);
	int out = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0) {
		fprintf(stderr, "faultline-recorder: %s: %s\n", temporary, strerror(errno));
		return 2;
	}
	int status = record(path, out);
	FILE *f = fdopen(out, "r");
	rewind(f);
	while (fgets(line, sizeof line, f))
		if (line[0] == '!')
			fprintf(stderr, "faultline-recorder: %s", line + 2);
	fclose(f);
	if (status == 0 && rename(temporary, name) == 0)
		return 0;
	if (status >= 128)
		fprintf(stderr, "faultline-recorder: %s: ended by signal %d\n", path, status - 128);
	unlink(temporary);
	return status ? status : 2;
}

static int is_scenario(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Name and value of a word of the kernel's command line, or NULL. */
static const char *boot_word(const char *key)
{
	static char text[4096];
	FILE *f = fopen("/proc/cmdline", "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		fclose(f);
	text[n] = '\0';
	for (char *w = strtok(text, " \n"); w; w = strtok(NULL, " \n"))
		if (strncmp(w, key, strlen(key)) == 0)
			return strdup(w + strlen(key));
	return NULL;
}

static void run_as_init(void)
{
	struct dirent **all;
	char path[512];
	init_machine();
	kernel = boot_word("recorder.kernel=");
	cpu = boot_word("recorder.cpu=");
	kernel = kernel ? kernel : host_kernel();
	cpu = cpu ? cpu : host_cpu();
	events = events_init() == 0;
	say_prefix = "@rec ";
	int n = scandir("/scenarios", &all, is_scenario, alphasort);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "/scenarios/%s", all[i]->d_name);
		say("begin %s", scenario_name(path));
		say("end %d", record(path, -1));
	}
	say("off");
	init_power_off();
}

/*
 * One layout on every run: whether a mapping shares its PMD table with the rest of the process decides which splits the
 * kernel announces. In QEMU norandmaps does it.
 */
static void fix_layout(char **argv)
{
	int now = personality(0xffffffff);
	if (now >= 0 && !(now & ADDR_NO_RANDOMIZE) && personality(now | ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	const char *dir = ".";
	int n = 1, worst = 0, want_events = 1;
	if (getpid() == 1)
		run_as_init();
	fix_layout(argv);
	kernel = host_kernel();
	cpu = host_cpu();
	for (; n < argc && strncmp(argv[n], "--", 2) == 0; n++) {
		if (strcmp(argv[n], "--no-events") == 0)
			want_events = 0;
		else if (strcmp(argv[n], "--help") == 0)
			return fputs(usage, stdout), 0;
		else if (n + 1 < argc && strcmp(argv[n], "--cpu") == 0)
			cpu = argv[++n];
		else if (n + 1 < argc && strcmp(argv[n], "--kernel") == 0)
			kernel = argv[++n];
		else if (n + 1 < argc && strcmp(argv[n], "--out") == 0)
			dir = argv[++n];
		else
			return fprintf(stderr, "faultline-recorder: no option %s\n%s", argv[n], usage), 2;
	}
	if (n == argc)
		return fputs(usage, stderr), 2;
	events = want_events && events_init() == 0;
	if (want_events && !events)
		fprintf(stderr, "faultline-recorder: the kernel's events cannot be traced here: only what the VMM sees is recorded\n");
	for (; n < argc; n++) {
		int status = record_file(argv[n], dir);
		worst = status > worst ? status : worst;
	}
	if (events)
		events_exit();
	return worst ? 2 : 0;
}
