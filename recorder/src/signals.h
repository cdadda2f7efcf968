/* The signals that a scenario may meet: SIGBUS of the VMM's own access or of KVM_RUN, and the alarm. */
#ifndef RECORDER_SIGNALS_H
#define RECORDER_SIGNALS_H

#include <setjmp.h>
#include <stdint.h>

/* Installs the handlers; once per scenario. */
void signals_init(void);
/* Starts the alarm of 0.7 s for a guest that makes no progress; *leave is set to 1 when a signal arrives. */
void signals_watch(volatile uint8_t *leave);
void signals_unwatch(void);
/* " signal=NAME si_code=N" if a signal came since signals_watch or signals_catch, else "". */
const char *signals_text(void);

/* if (sigsetjmp(*signals_catch(), 1) == 0) { access } else { a signal came } signals_release(); */
sigjmp_buf *signals_catch(void);
void signals_release(void);

/* While yes, a signal is no observation: `madvise … hwpoison` tells of the failing memory at once, with SIGBUS. */
void signals_pass(int yes);

#endif
