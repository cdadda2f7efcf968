/* What the recorder writes: lines of the recording, and errors of the scenario. */
#ifndef RECORDER_SAY_H
#define RECORDER_SAY_H

#include <stdint.h>

/* Starts every line on a console that the kernel writes to as well; "" otherwise. */
extern const char *say_prefix;

/* One line of the recording, without its newline. Flushed at once: the host may crash next. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The scenario cannot go on: one error with its file and line; ends the process with status 2. */
void bad_scenario(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Where bad_scenario says the error is. */
extern const char *scenario_file;
extern int scenario_line;

/* Name of an errno as recordings write it ("EFAULT"), or its number. */
const char *errno_name(int error);

#endif
