/**
 * The register numbers of PCI config space that this room uses (PCI Local Bus 3.0 section 6, PCI Express base
 * specification section 7; names as in include/uapi/linux/pci_regs.h).
 */
export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_REVISION_ID = 0x08;
export const PCI_CLASS_PROG = 0x09;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_LATENCY_TIMER = 0x0d;
export const PCI_BIST = 0x0f;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_ROM_ADDRESS = 0x30;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;
/** End of the type 0 header; capabilities follow. */
export const PCI_STD_HEADER_SIZEOF = 0x40;
export const PCI_CFG_SPACE_SIZE = 256;
export const PCI_CFG_SPACE_EXP_SIZE = 4096;

export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_INTX_DISABLE = 0x400;
/** Command bits that this hardware implements: I/O, memory, master, parity, SERR, INTx disable. */
export const PCI_COMMAND_WRITABLE = 0x0547;

export const PCI_STATUS_CAP_LIST = 0x10;

export const PCI_BASE_ADDRESS_SPACE_IO = 0x1;
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;

export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_CAP_ID_AF = 0x13;

/** Bytes of each capability. */
export const CAP_SIZE_PM = 8;
export const CAP_SIZE_EXP = 0x3c;
export const CAP_SIZE_MSIX = 12;
export const CAP_SIZE_AF = 6;

/** Offsets within capabilities, and their bits. */
export const PCI_PM_PMC = 2;
export const PCI_PM_CTRL = 4;
export const PCI_PM_CTRL_STATE_MASK = 0x3;
export const PCI_PM_CTRL_NO_SOFT_RESET = 0x8;
export const PCI_PM_CTRL_PME_ENABLE = 0x100;
export const PCI_PM_CTRL_PME_STATUS = 0x8000;

export const PCI_EXP_DEVCAP = 4;
export const PCI_EXP_DEVCAP_FLR = 0x10000000;
export const PCI_EXP_DEVCTL = 8;
export const PCI_EXP_DEVCTL_RELAX_EN = 0x10;
export const PCI_EXP_DEVCTL_PAYLOAD = 0xe0;
export const PCI_EXP_DEVCTL_PHANTOM = 0x200;
export const PCI_EXP_DEVCTL_NOSNOOP_EN = 0x800;
export const PCI_EXP_DEVCTL_READRQ = 0x7000;
/** Max_Read_Request_Size 512, as a function comes out of its reset. */
export const PCI_EXP_DEVCTL_READRQ_512B = 0x2000;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;
export const PCI_EXP_DEVCTL2 = 0x28;
export const PCI_EXP_DEVCTL2_ARI = 0x20;

export const PCI_AF_CAP = 3;
export const PCI_AF_CAP_TP = 1;
export const PCI_AF_CAP_FLR = 2;
export const PCI_AF_CTRL = 4;
export const PCI_AF_CTRL_FLR = 1;

export const PCI_MSIX_FLAGS = 2;
export const PCI_MSIX_TABLE = 4;
export const PCI_MSIX_PBA = 8;

/** Power states, as the state field of PCI_PM_CTRL has them. */
export const PCI_D0 = 0;
export const PCI_D3HOT = 3;

/** A mask of `bytes` low bytes, as an int32. */
export function byteMask(bytes: number): number {
  return bytes >= 4 ? -1 : (1 << (8 * bytes)) - 1;
}

/** The largest access at `offset` of at most `count` bytes that is aligned and stays within a dword: 4, 2 or 1. */
export function chunkSize(offset: number, count: number): number {
  const room = 4 - (offset & 3);
  const n = count < room ? count : room;
  if (n >= 4) return 4;
  return n >= 2 && (offset & 1) === 0 ? 2 : 1;
}
