/** VFIO_DEVICE_GET_INFO and VFIO_DEVICE_GET_REGION_INFO (vfio_pci_core.c vfio_pci_ioctl_get_region_info). */
import { EINVAL } from "../sim/errno.js";
import { CONFIG_REGION, NUM_REGIONS, REGION_SPAN, ROM_REGION, VGA_REGION, type VfioDevices } from "./device.js";

export const VFIO_REGION_INFO_FLAG_READ = 1;
export const VFIO_REGION_INFO_FLAG_WRITE = 2;
export const VFIO_REGION_INFO_FLAG_MMAP = 4;
export const VFIO_REGION_INFO_FLAG_CAPS = 8;

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

export const VFIO_DEVICE_FLAGS_RESET = 1;
export const VFIO_DEVICE_FLAGS_PCI = 2;

/** sizeof(struct vfio_region_info). */
const REGION_INFO_SIZE = 32;
/** Header 8, nr_areas and reserved 8, 16 for each area; the MSI-X capability is a header. */
const SPARSE_SIZE = 16;
const CAP_HEADER = 8;

export interface SparseArea {
  readonly offset: number;
  readonly size: number;
}

/** What the ioctl gave. */
export interface RegionInfo {
  /** 0 or -errno. */
  readonly ret: number;
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  /** Bytes. */
  readonly size: number;
  /** In the device file. */
  readonly offset: number;
  /** What the user should have said (or did). */
  readonly argsz: number;
  /** 0: no capability, or no room for them. */
  readonly capOffset: number;
  readonly capabilities: readonly { readonly id: number; readonly areas?: readonly SparseArea[] }[];
}

/** VFIO_DEVICE_GET_REGION_INFO. @param argsz size of the user's structure in bytes */
export function regionInfo(v: VfioDevices, dev: number, index: number, argsz = 4096): RegionInfo {
  const refuse = { ret: -EINVAL, index, flags: 0, size: 0, offset: 0, argsz, capOffset: 0, capabilities: [] };
  if (argsz < REGION_INFO_SIZE || index < 0 || index >= NUM_REGIONS || index === VGA_REGION) return refuse;
  const f = v.function(dev);
  const bar = f.bars[index];
  let flags = 0;
  let size = 0;
  if (index === CONFIG_REGION) {
    size = f.configSize;
    flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  } else if (index !== ROM_REGION && bar !== undefined) {
    size = bar.size;
    flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if (v.mappable(dev, bar)) flags |= VFIO_REGION_INFO_FLAG_MMAP;
  }
  const caps = (flags & VFIO_REGION_INFO_FLAG_MMAP) === 0 ? [] : capabilities(v, dev, index, size);
  const capBytes = caps.reduce((n, c) => n + (c.areas === undefined ? CAP_HEADER : SPARSE_SIZE + 16 * c.areas.length), 0);
  if (caps.length > 0) flags |= VFIO_REGION_INFO_FLAG_CAPS;
  const fits = caps.length > 0 && argsz >= REGION_INFO_SIZE + capBytes;
  return {
    ret: 0,
    index,
    flags,
    size,
    offset: index * REGION_SPAN,
    argsz: caps.length > 0 && !fits ? REGION_INFO_SIZE + capBytes : argsz,
    capOffset: fits ? REGION_INFO_SIZE : 0,
    capabilities: fits ? caps : [],
  };
}

/** The capability of the BAR that holds the MSI-X table. */
function capabilities(v: VfioDevices, dev: number, index: number, size: number): { id: number; areas?: SparseArea[] }[] {
  const end = v.msixEnd(dev, index) * 4096;
  if (end === 0 || v.d.vfioMsixMmap === "excluded") return [];
  if (v.d.vfioMsixMmap === "mappable") return [{ id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE }];
  const first = v.msixFirst(dev) * 4096;
  const areas: SparseArea[] = [];
  if (first > 0) areas.push({ offset: 0, size: first });
  if (end < size) areas.push({ offset: end, size: size - end });
  return [{ id: VFIO_REGION_INFO_CAP_SPARSE_MMAP, areas }];
}

/** VFIO_DEVICE_GET_INFO. */
export function deviceInfo(v: VfioDevices, dev: number): { readonly flags: number; readonly numRegions: number; readonly numIrqs: number } {
  const reset = v.resetWorks(dev) ? VFIO_DEVICE_FLAGS_RESET : 0;
  return { flags: VFIO_DEVICE_FLAGS_PCI | reset, numRegions: NUM_REGIONS, numIrqs: 5 };
}
