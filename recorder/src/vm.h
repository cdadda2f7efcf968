/* The VM of a scenario: memslots, one vCPU, and the loop that runs an operation. */
#ifndef RECORDER_VM_H
#define RECORDER_VM_H

#include <stdint.h>

/* `vm`: a new VM with the code slot and one vCPU at EL1h, MMU off. */
void vm_create(void);
/* `has N`, `cap N V`. */
void vm_has(int cap);
void vm_enable_cap(int cap, uint64_t value);
/* `slot`, `slotflags`, `slotdel`; flags are KVM_MEM_*. */
void vm_slot(uint32_t id, uint64_t gpa, uint64_t size, char *hva, uint32_t flags);
/* `slot … gmem`: KVM_SET_USER_MEMORY_REGION2 with a guest_memfd behind the slot. */
void vm_slot_gmem(uint32_t id, uint64_t gpa, uint64_t size, char *hva, int fd, uint64_t offset);
/* A guest_memfd that can be mapped and is shared from the start, or -1 with errno. */
int vm_guest_memfd(uint64_t size);
void vm_slot_flags(uint32_t id, uint32_t flags);
void vm_slot_delete(uint32_t id);
/* `dirty ID`, `cleardirty ID FIRST N`. */
void vm_dirty(uint32_t id);
void vm_clear_dirty(uint32_t id, uint64_t first, uint32_t n);

/* `op`: x0…x5 from args, PC at the operation; `resume`; `skip`. Each ends with a report of the guest or of KVM_RUN. */
void vm_operation(const char *name, const uint64_t args[6]);
void vm_resume(void);
void vm_skip(void);
/* `leave 0|1`; `immediate`: KVM_RUN with immediate_exit; `events EXT_DABT`: KVM_SET_VCPU_EVENTS. */
void vm_leave(int on);
void vm_immediate(void);
void vm_events(int ext_dabt);

/* File descriptor of the VM, or -1. */
int vm_fd(void);
/* Host address behind an IPA of a slot, or NULL. */
char *vm_hva(uint64_t ipa);
/* True if the slot there is KVM_MEM_READONLY. */
int vm_read_only(uint64_t ipa);

#endif
