/** The events of PCI functions, the host bridge and vfio-pci. */
import { declareEvent } from "../sim/events.js";

export const pciUnclaimed = declareEvent(
  "faultline",
  "pci_unclaimed",
  "an access reached the bus and no function decoded it: a read gives all-ones, a write is lost",
  [
    { name: "pa", kind: "hex" },
    { name: "size", kind: "dec", unit: "bytes" },
    { name: "write", kind: "bool" },
    { name: "device", kind: "name" },
    { name: "reason", kind: "enum", values: ["no BAR", "memory decode off", "power state"] },
  ],
);
export const barReadEvent = declareEvent("faultline", "bar_read", "a function answered a read of a BAR", [
  { name: "device", kind: "name" },
  { name: "bar", kind: "dec" },
  { name: "offset", kind: "hex" },
  { name: "size", kind: "dec", unit: "bytes" },
  { name: "value", kind: "hex64" },
]);
export const barWriteEvent = declareEvent("faultline", "bar_write", "a write arrived at a function's BAR", [
  { name: "device", kind: "name" },
  { name: "bar", kind: "dec" },
  { name: "offset", kind: "hex" },
  { name: "size", kind: "dec", unit: "bytes" },
  { name: "value", kind: "hex64" },
]);
export const pciConfigWrite = declareEvent("faultline", "pci_config_write", "a config write reached the hardware of a function", [
  { name: "device", kind: "name" },
  { name: "offset", kind: "hex" },
  { name: "size", kind: "dec", unit: "bytes" },
  { name: "value", kind: "hex" },
  { name: "old", kind: "hex" },
]);
export const pciReset = declareEvent(
  "faultline",
  "pci_reset",
  "a function was reset: its registers have their initial values, decode is off",
  [
    { name: "device", kind: "name" },
    { name: "method", kind: "enum", values: ["flr", "af", "pm", "bus"] },
  ],
);
export const vfioOpen = declareEvent("faultline", "vfio_open", "return of vfio_pci_core_enable", [
  { name: "ret", kind: "dec" },
  { name: "device", kind: "name" },
]);
export const vfioClose = declareEvent("faultline", "vfio_close", "the last reference to the device file is gone", [
  { name: "device", kind: "name" },
]);
export const vfioMmap = declareEvent("faultline", "vfio_mmap", "return of the driver's mmap", [
  { name: "ret", kind: "dec" },
  { name: "function", kind: "enum", values: ["vfio_pci_mmap", "vfio_pci_core_mmap"] },
  { name: "device", kind: "name" },
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
  { name: "pgoff", kind: "hex" },
]);
export const vfioFault = declareEvent("faultline", "vfio_fault", "return of the driver's fault handler (VM_FAULT_ bits)", [
  { name: "ret", kind: "hex" },
  { name: "function", kind: "enum", values: ["vfio_pci_mmap_fault", "vfio_pci_mmap_page_fault"] },
  { name: "device", kind: "name" },
  { name: "address", kind: "hex" },
]);
export const vfioHugeFault = declareEvent("faultline", "vfio_huge_fault", "return of vfio_pci_mmap_huge_fault (VM_FAULT_ bits)", [
  { name: "ret", kind: "hex" },
  { name: "device", kind: "name" },
  { name: "address", kind: "hex" },
  { name: "order", kind: "dec" },
]);
export const vfioZap = declareEvent("faultline", "vfio_zap", "a function that takes a device's BAR mappings away was entered", [
  { name: "device", kind: "name" },
  {
    name: "function",
    kind: "enum",
    values: ["vfio_pci_zap_and_down_write_memory_lock", "vfio_pci_zap_and_vma_lock"],
  },
]);
export const vfioZapVma = declareEvent("faultline", "vfio_zap_vma", "the entries of one BAR VMA are being cleared", [
  { name: "device", kind: "name" },
  { name: "start", kind: "hex" },
  { name: "end", kind: "hex" },
]);
export const vfioMemoryEnable = declareEvent(
  "faultline",
  "vfio_memory_enable",
  "the virtual command register's memory enable after a config write",
  [
    { name: "device", kind: "name" },
    { name: "enabled", kind: "bool" },
  ],
);
export const vfioReset = declareEvent(
  "faultline",
  "vfio_reset",
  "return of VFIO_DEVICE_RESET, a reset through config space or a hot reset",
  [
    { name: "ret", kind: "dec" },
    { name: "device", kind: "name" },
    { name: "origin", kind: "enum", values: ["ioctl", "config", "hot"] },
  ],
);
export const vfioRw = declareEvent("faultline", "vfio_rw", "return of read() or write() on a device region", [
  { name: "ret", kind: "dec" },
  { name: "device", kind: "name" },
  { name: "region", kind: "dec" },
  { name: "offset", kind: "hex" },
  { name: "write", kind: "bool" },
]);
export const vfioIoeventfdWrite = declareEvent("faultline", "vfio_ioeventfd", "an ioeventfd of a BAR was signalled", [
  { name: "device", kind: "name" },
  { name: "offset", kind: "hex" },
  { name: "dropped", kind: "bool" },
]);
