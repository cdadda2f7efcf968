/* The recorder as the first process of a machine that was booted for it. */
#ifndef RECORDER_INIT_H
#define RECORDER_INIT_H

/* Mounts what the recorder needs, loads /modules in the order of /modules/order, sets up huge pages. */
void init_machine(void);
/* Switches the machine off. */
void init_power_off(void) __attribute__((noreturn));

#endif
