/* Reads commands and calls the room that does each. */
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backing.h"
#include "barvalues.h"
#include "events.h"
#include "s2walk.h"
#include "say.h"
#include "signals.h"
#include "vfio.h"
#include "vm.h"

#define MOST_WORDS 16
/* Events of a step beyond this are cut; of an endless fault loop, beyond the first few. */
#define MOST_EVENTS 4000
#define MOST_LOOP_EVENTS 80

static char *word[MOST_WORDS];
static int words;
static pid_t child;

static const char *arg(int n)
{
	if (n >= words)
		bad_scenario("an argument of `%s` is missing", word[0]);
	return word[n];
}

static uint64_t number(int n)
{
	const char *text = arg(n);
	char *end;
	uint64_t value = strtoull(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
	if (*end || end == text || *text == '-')
		bad_scenario("expected a number, not \"%s\"", text);
	return value;
}

static uint64_t number_or(int n, uint64_t otherwise)
{
	return n < words ? number(n) : otherwise;
}

static char *hva(int n)
{
	return backing_named(arg(n))->base + number(n + 1);
}

static uint32_t slot_flags(const char *text)
{
	return (strstr(text, "log") ? KVM_MEM_LOG_DIRTY_PAGES : 0U) | (strstr(text, "ro") ? KVM_MEM_READONLY : 0U);
}

static int advice(const char *text)
{
	static const struct {
		const char *name;
		int value;
	} all[] = {
		{ "normal", MADV_NORMAL }, { "random", MADV_RANDOM }, { "sequential", MADV_SEQUENTIAL },
		{ "willneed", MADV_WILLNEED }, { "dontneed", MADV_DONTNEED }, { "hugepage", MADV_HUGEPAGE },
		{ "nohugepage", MADV_NOHUGEPAGE }, { "dontfork", MADV_DONTFORK }, { "dofork", MADV_DOFORK },
		{ "wipeonfork", MADV_WIPEONFORK }, { "keeponfork", MADV_KEEPONFORK }, { "mergeable", MADV_MERGEABLE },
		{ "unmergeable", MADV_UNMERGEABLE }, { "cold", MADV_COLD }, { "pageout", MADV_PAGEOUT },
		{ "populate_w", MADV_POPULATE_WRITE }, { "populate_write", MADV_POPULATE_WRITE },
		{ "populate_r", MADV_POPULATE_READ }, { "populate_read", MADV_POPULATE_READ }, { "collapse", 25 /* MADV_COLLAPSE */ },
		{ "remove", MADV_REMOVE }, { "hwpoison", MADV_HWPOISON }, { "free", MADV_FREE },
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(all[i].name, text) == 0)
			return all[i].value;
	bad_scenario("no advice \"%s\"", text);
}

static int protection(const char *text)
{
	return (strchr(text, 'r') ? PROT_READ : 0) | (strchr(text, 'w') ? PROT_WRITE : 0) | (strchr(text, 'x') ? PROT_EXEC : 0);
}

/* The VMM's own access; C's volatile makes it one instruction of this size. */
static void host_access(int write, unsigned size)
{
	char *at = hva(1);
	uint64_t value = write ? number(3) : 0;
	const char *name = arg(1);
	uint64_t offset = number(2);
	volatile int came = 0;
	volatile uint64_t got = 0;
	if (sigsetjmp(*signals_catch(), 1) == 0) {
		if (size == 8 && write)
			*(volatile uint64_t *)at = value;
		else if (size == 8)
			got = *(volatile uint64_t *)at;
		else if (size == 4 && write)
			*(volatile uint32_t *)at = (uint32_t)value;
		else if (size == 4)
			got = *(volatile uint32_t *)at;
		else if (write)
			*(volatile uint8_t *)at = (uint8_t)value;
		else
			got = *(volatile uint8_t *)at;
	} else {
		came = 1;
	}
	signals_release();
	if (write) {
		if (!came)
			barvalues_access((uint64_t)at, size, 1);
		say("= hostwrite %s+%#lx size=%u val=%#lx%s", name, offset, size, value, came ? signals_text() : "");
	} else if (came) {
		say("= hostread %s+%#lx size=%u val=None%s", name, offset, size, signals_text());
	} else if (barvalues_access((uint64_t)at, size, 0)) {
		say("= hostread %s+%#lx size=%u val=*", name, offset, size);
	} else {
		say("= hostread %s+%#lx size=%u val=%#lx", name, offset, size, got);
	}
}

static void do_back(void)
{
	uint64_t size = number_or(3, 0);
	int error = backing_create(arg(1), arg(2), &size, number_or(4, 0));
	say("= back name=%s kind=%s size=%#lx errno=%d", arg(1), arg(2), size, error);
}

static void do_slot(void)
{
	struct backing *b = backing_named(arg(4));
	uint64_t offset = number(5);
	if (strcmp(arg(6), "gmem") == 0)
		vm_slot_gmem((uint32_t)number(1), number(2), number(3), b->base + offset, b->fd, offset);
	else
		vm_slot((uint32_t)number(1), number(2), number(3), b->base + offset, slot_flags(arg(6)));
}

static void do_op(void)
{
	uint64_t args[6] = { 0 };
	for (int n = 0; n < 6 && n + 2 < words; n++)
		args[n] = number(n + 2);
	vm_operation(arg(1), args);
}

static void do_fork(void)
{
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	say("= fork errno=%d", child < 0 ? errno : 0);
}

/* @return errno, 0 if there was one. */
static int end_child(void)
{
	int error = child > 0 && kill(child, SIGKILL) == 0 ? 0 : ESRCH;
	if (!error)
		waitpid(child, NULL, 0);
	child = 0;
	return error;
}

static void do_forkend(void) { say("= forkend errno=%d", end_child()); }

static void do_vfio(void)
{
	const char *what = arg(1);
	if (strcmp(what, "open") == 0)
		vfio_open(arg(2));
	else if (strcmp(what, "mem") == 0)
		vfio_command(2, number(2) ? 2 : 0);
	else if (strcmp(what, "cmd") == 0)
		vfio_command(0, (uint16_t)number(2));
	else if (strcmp(what, "reset") == 0)
		vfio_reset();
	else
		bad_scenario("no vfio command \"%s\"; known: open, mem, cmd, reset", what);
}

static void do_sysfs(void)
{
	char path[512];
	if (strstr(arg(1), ".."))
		bad_scenario("a path below /sys, without ..");
	snprintf(path, sizeof path, "/sys/%s", arg(1));
	int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;
	if (fd < 0 || write(fd, arg(2), strlen(arg(2))) < 0)
		error = errno;
	if (fd >= 0)
		close(fd);
	say("= sysfs errno=%d", error);
}

static int failed(int ret)
{
	return ret != 0 ? errno : 0;
}

static void do_madvise(void)
{
	signals_pass(1);
	int error = failed(madvise(hva(1), number(3), advice(arg(4))));
	signals_pass(0);
	say("= madvise errno=%d", error);
}

static void do_munmap(void) { say("= munmap errno=%d", failed(munmap(hva(1), number(3)))); }
static void do_mprotect(void) { say("= mprotect errno=%d", failed(mprotect(hva(1), number(3), protection(arg(4))))); }
static void do_ftruncate(void) { say("= ftruncate errno=%d", failed(ftruncate(backing_named(arg(1))->fd, (off_t)number(2)))); }
static void do_fallocate(void)
{
	int fd = backing_named(arg(1))->fd;
	say("= fallocate errno=%d", failed(fallocate(fd, (int)number(2), (off_t)number(3), (off_t)number(4))));
}
static void do_close(void) { say("= close errno=%d", failed(close(backing_named(arg(1))->fd))); }
static void do_remap(void) { say("= remap errno=%d", backing_remap(backing_named(arg(1)), number(2), number(3))); }
static void do_mapanon(void)
{
	say("= mapanon errno=%d", backing_anonymous(backing_named(arg(1)), number(2), number(3), (int)number(4)));
}
static void do_hw(void) { host_access(1, 8); }
static void do_hw32(void) { host_access(1, 4); }
static void do_hw8(void) { host_access(1, 1); }
static void do_hr(void) { host_access(0, 8); }
static void do_hr32(void) { host_access(0, 4); }
static void do_hr8(void) { host_access(0, 1); }
static void do_has(void) { vm_has((int)number(1)); }
static void do_cap(void) { vm_enable_cap((int)number(1), number(2)); }
static void do_slotflags(void) { vm_slot_flags((uint32_t)number(1), slot_flags(arg(2))); }
static void do_slotdel(void) { vm_slot_delete((uint32_t)number(1)); }
static void do_dirty(void) { vm_dirty((uint32_t)number(1)); }
static void do_cleardirty(void) { vm_clear_dirty((uint32_t)number(1), number(2), (uint32_t)number(3)); }
static void do_leave(void) { vm_leave((int)number(1)); }
static void do_events(void) { vm_events((int)number(1)); }
/* For people at the keyboard of another recorder: nothing to compare. */
static void do_nothing(void) {}

static const struct {
	const char *name;
	void (*run)(void);
} commands[] = {
	{ "vm", vm_create },	     { "cap", do_cap },		  { "has", do_has },		 { "back", do_back },
	{ "slot", do_slot },	     { "slotflags", do_slotflags }, { "slotdel", do_slotdel },	 { "op", do_op },
	{ "resume", vm_resume },     { "skip", vm_skip },	  { "munmap", do_munmap },	 { "remap", do_remap },
	{ "mapanon", do_mapanon },   { "mprotect", do_mprotect }, { "madvise", do_madvise },	 { "ftruncate", do_ftruncate },
	{ "fork", do_fork },	     { "forkend", do_forkend },	  { "hw", do_hw },		 { "hw32", do_hw32 },
	{ "hw8", do_hw8 },	     { "hr", do_hr },		  { "hr32", do_hr32 },		 { "hr8", do_hr8 },
	{ "dirty", do_dirty },	     { "cleardirty", do_cleardirty }, { "vfio", do_vfio },	 { "s2dump", s2_dump },
	{ "leave", do_leave },	     { "immediate", vm_immediate }, { "events", do_events },
	{ "fallocate", do_fallocate }, { "close", do_close },
	{ "sysfs", do_sysfs },	     { "regs", do_nothing },	  { "smaps", do_nothing },	 { "stats", do_nothing },
};

static void command(char *text)
{
	words = 0;
	for (char *w = strtok(text, " \t\r\n"); w; w = strtok(NULL, " \t\r\n")) {
		if (words == MOST_WORDS)
			bad_scenario("more than %d words", MOST_WORDS);
		word[words++] = w;
	}
	if (words == 0)
		bad_scenario("expected a command");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, word[0]) == 0) {
			commands[i].run();
			return;
		}
	bad_scenario("no command \"%s\"", word[0]);
}

void scenario_run(FILE *file, int events)
{
	char line[1024], copy[1024];
	signals_init();
	if (events)
		events_start();
	while (fgets(line, sizeof line, file)) {
		scenario_line++;
		if (line[0] != '>')
			continue;
		line[strcspn(line, "\r\n")] = '\0';
		say("%s", line);
		strcpy(copy, line + 1);
		command(copy);
		if (events)
			events_drain(strstr(signals_text(), "SIGALRM") ? MOST_LOOP_EVENTS : MOST_EVENTS);
	}
	end_child();
}
