/* Looks up operations in the table that guest.S lays out. */
#include "guest.h"

#include <string.h>

extern const struct guest_op guest_ops[], guest_ops_end[];

uint64_t guest_entry(const char *name)
{
	for (const struct guest_op *op = guest_ops; op < guest_ops_end; op++)
		if (strcmp(op->name, name) == 0)
			return CODE_IPA + op->offset;
	return 0;
}
