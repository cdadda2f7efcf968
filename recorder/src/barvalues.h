/*
 * Which bytes of a BAR the scenario has written. A device answers reads of the others with whatever
 * it holds: recordings write `*` for those.
 */
#ifndef RECORDER_BARVALUES_H
#define RECORDER_BARVALUES_H

#include <stdint.h>

/* The VMM's or guest's access to a host address: a write is noted. @return true if a read there gives no known value. */
int barvalues_access(uint64_t hva, uint32_t size, int write);
/* The finished operation's access. @return bit 0: x0 has an unknown value; bit 1: x4 has. */
int barvalues_guest_access(const char *op, uint64_t ipa);

#endif
