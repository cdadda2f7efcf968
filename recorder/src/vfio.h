/* One PCI function held through VFIO: its regions, and its PCI command register. */
#ifndef RECORDER_VFIO_H
#define RECORDER_VFIO_H

#include <stdint.h>

struct vfio_bar {
	int fd;
	uint64_t offset; /* in fd */
	uint64_t size;	 /* bytes */
	uint64_t pa;	 /* physical address */
};

/* `vfio open BDF`: binds the function to vfio-pci if need be, opens it, lists its regions, enables memory. */
void vfio_open(const char *bdf);
/* `vfio cmd V` (mask 0) and `vfio mem 0|1` (only the bits of mask change). */
void vfio_command(uint16_t mask, uint16_t value);
/* `vfio reset`. */
void vfio_reset(void);
/* BAR n of the open device; ends the scenario if there is none. */
struct vfio_bar vfio_bar(int n);

#endif
