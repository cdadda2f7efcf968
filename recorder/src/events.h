/* What the host kernel did: KVM's trace events, and kprobes on the functions recordings list, through tracefs. */
#ifndef RECORDER_EVENTS_H
#define RECORDER_EVENTS_H

#include <stdint.h>

/* Installs the probes once. @return 0 if the kernel lets us trace, else an errno. */
int events_init(void);
/* Removes the probes. */
void events_exit(void);
/* Traces this process, from nothing. */
void events_start(void);
/* Writes the `~` lines since the last call, at most `most`, and forgets them. */
void events_drain(int most);

/* The stage-2 root of this VM as the last mapping call passed it: kernel address, bits of IPA, level. 0 if none was seen. */
extern uint64_t events_s2_root;
extern unsigned events_s2_bits;
extern int events_s2_level;

#endif
