/* The leaves of the VM's stage-2 tables, read from the kernel's memory. */
#ifndef RECORDER_S2WALK_H
#define RECORDER_S2WALK_H

/* `s2dump`: the kernel's own text where it has one for VMs, else the tables through /proc/kcore; no line where neither is to be had. */
void s2_dump(void);

#endif
