/* Notes signals instead of dying of them. */
#include "signals.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile uint8_t *leave_run;
static volatile int came, code;
static volatile int catching, passing;
static sigjmp_buf back;

static void handler(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (passing)
		return;
	came = number;
	code = info->si_code;
	if (leave_run)
		*leave_run = 1;
	if (catching)
		siglongjmp(back, 1);
	if (!leave_run) {
		/* Not of the scenario's making: die of it as usual. */
		signal(number, SIG_DFL);
		raise(number);
	}
}

void signals_init(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
}

void signals_watch(volatile uint8_t *leave)
{
	struct itimerval limit = { .it_value = { .tv_usec = 700000 } };
	came = 0;
	*leave = 0;
	leave_run = leave;
	setitimer(ITIMER_REAL, &limit, NULL);
}

void signals_unwatch(void)
{
	struct itimerval none = { 0 };
	setitimer(ITIMER_REAL, &none, NULL);
	if (leave_run)
		*leave_run = 0;
	leave_run = NULL;
}

const char *signals_text(void)
{
	static char text[64];
	if (!came)
		return "";
	snprintf(text, sizeof text, " signal=SIG%s si_code=%d", sigabbrev_np(came), code);
	return text;
}

sigjmp_buf *signals_catch(void)
{
	came = 0;
	catching = 1;
	return &back;
}

void signals_release(void)
{
	catching = 0;
}

void signals_pass(int yes)
{
	passing = yes;
}
