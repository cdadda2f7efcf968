/* Writes lines of the recording whole and at once. */
#include "say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *say_prefix = "";
const char *scenario_file = "-";
int scenario_line;

static void line(const char *start, const char *format, va_list args)
{
	char text[4096];
	int n = snprintf(text, sizeof text, "%s%s", say_prefix, start);
	n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
	if (n > (int)sizeof text - 2)
		n = sizeof text - 2;
	text[n++] = '\n';
	for (int at = 0; at < n;) {
		ssize_t wrote = write(STDOUT_FILENO, text + at, (size_t)(n - at));
		if (wrote < 0 && errno != EINTR)
			exit(1);
		at += wrote > 0 ? (int)wrote : 0;
	}
}

void say(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	line("", format, args);
	va_end(args);
}

void bad_scenario(const char *format, ...)
{
	char start[512];
	va_list args;
	snprintf(start, sizeof start, "! %s:%d: ", scenario_file, scenario_line);
	va_start(args, format);
	line(start, format, args);
	va_end(args);
	exit(2);
}

const char *errno_name(int error)
{
	const char *name = strerrorname_np(error);
	static char number[16];
	if (name)
		return name;
	snprintf(number, sizeof number, "%d", error);
	return number;
}
