/* The scenario language: one command a line, carried out and reported one by one. */
#ifndef RECORDER_SCENARIO_H
#define RECORDER_SCENARIO_H

#include <stdio.h>

/* Carries out the `> ` lines of a file (a recording will do: its observations are passed over). events: false for `=` lines only. */
void scenario_run(FILE *file, int events);

#endif
