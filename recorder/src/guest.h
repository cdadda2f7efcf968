/* The guest's code page (guest.S): where it lies, how it reports, and its table of operations. */
#ifndef RECORDER_GUEST_H
#define RECORDER_GUEST_H

#include <stdint.h>

/* IPA and size of memslot 0, the guest's code. Its first page holds guest_code. */
#define CODE_IPA 0x40000000UL
#define CODE_SIZE 0x200000UL
/* A finished operation stores x0 here. */
#define DONE_IPA 0x10000000UL
/* An exception is reported by stores 8 bytes apart: ESR, FAR, SPSR, ELR, offset of the vector. */
#define EXCEPTION_IPA 0x10000100UL
#define EXCEPTION_WORDS 5

struct guest_op {
	char name[16];
	uint64_t offset; /* of the stub in the code page */
};

extern const char guest_code[], guest_code_end[];

/* IPA of an operation's stub, or 0 if there is no such operation. */
uint64_t guest_entry(const char *name);

#endif
