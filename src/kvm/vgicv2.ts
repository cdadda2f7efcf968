/**
 * The GICv2 CPU interface of a VM (arch/arm64/kvm/vgic/vgic-v2.c vgic_v2_map_resources): the one device
 * that KVM maps into stage 2 by itself. There is no memslot, no VMA and no host mapping behind it.
 *
 * Of the interrupt controller nothing else is modelled: the distributor's page is an address without
 * memory, and the physical virtual-CPU interface (GICV) never has an interrupt pending.
 */
import type { BusDevice, PhysicalMemory } from "../arch/phys.js";
import { E2BIG, EEXIST, EINVAL, ENODEV, ENXIO } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { Vms } from "./vm.js";

/** Where the host's interrupt controller has its virtual-CPU interface. */
export const GICV_BASE = 0x08040000;
/** KVM_VGIC_V2_CPU_SIZE */
export const VGIC_V2_CPU_SIZE = 0x2000;
/** KVM_VGIC_V2_DIST_SIZE */
const VGIC_V2_DIST_SIZE = 0x1000;
/** KVM_VGIC_V2_ADDR_TYPE_* */
const TYPE_DIST = 0;
const TYPE_CPU = 1;

const NONE = 0;
const CREATED = 1;
const MAPPED = 2;

/** GICV: enough of it for a guest to find no interrupt. */
class GicV implements BusDevice {
  private readonly regs: I32Pool;
  constructor(
    sim: Sim,
    private readonly phys: PhysicalMemory,
  ) {
    this.regs = sim.state.i32("gicv.regs", 2);
    phys.addWindow(GICV_BASE, VGIC_V2_CPU_SIZE, this);
  }
  read(offset: number): void {
    const { phys, regs } = this;
    phys.hi = 0;
    switch (offset) {
      case 0x00: // CTLR
        phys.lo = regs.a[0]!;
        return;
      case 0x04: // PMR
        phys.lo = regs.a[1]!;
        return;
      case 0x0c: // IAR
      case 0x18: // HPPIR
        phys.lo = 1023;
        return;
      case 0x14: // RPR: idle
        phys.lo = 0xff;
        return;
      case 0xfc: // IIDR: GICv2, Arm
        phys.lo = 0x0202043b;
        return;
      default:
        phys.lo = 0;
    }
  }
  write(offset: number, _size: number, lo: number): void {
    if (offset === 0) this.regs.set(0, lo & 0x21f);
    else if (offset === 4) this.regs.set(1, lo & 0xf8);
  }
}

export class VgicV2 {
  private readonly states: I32Pool;
  /** Per VM: distributor and CPU interface, -1 where not set. */
  private readonly addresses: F64Pool;

  constructor(
    sim: Sim,
    phys: PhysicalMemory,
    private readonly vms: Vms,
  ) {
    this.states = sim.state.i32("kvm.vgic", 4);
    this.addresses = sim.state.f64("kvm.vgicAddresses", 8);
    new GicV(sim, phys);
  }

  /** KVM_CREATE_IRQCHIP: a GICv2. @returns 0 or -errno */
  create(vm: number): number {
    this.states.ensure(vm + 1);
    this.addresses.ensure(2 * vm + 2);
    if (this.states.a[vm] !== NONE) return -EEXIST;
    this.states.set(vm, CREATED);
    this.addresses.set(2 * vm, -1);
    this.addresses.set(2 * vm + 1, -1);
    return 0;
  }

  /** KVM_ARM_SET_DEVICE_ADDR (kvm_vgic_addr). @param id device 0 << 16 | type 0 distributor, 1 CPU interface @returns 0 or -errno */
  setAddress(vm: number, id: number, address: number): number {
    if (id >>> 16 !== 0) return -ENODEV;
    if (vm >= this.states.a.length || this.states.a[vm] === NONE) return -ENXIO;
    const type = id & 0xffff;
    if (type !== TYPE_DIST && type !== TYPE_CPU) return -ENODEV;
    const size = type === TYPE_CPU ? VGIC_V2_CPU_SIZE : VGIC_V2_DIST_SIZE;
    if (address % 4096 !== 0) return -EINVAL;
    if (address + size > this.vms.ipaSize(vm)) return -E2BIG;
    if (this.addresses.a[2 * vm + type]! >= 0) return -EEXIST;
    this.addresses.set(2 * vm + type, address);
    return 0;
  }

  /** A vCPU runs for the first time and the interface is not mapped yet. */
  unmapped(vm: number): boolean {
    return this.states.a[vm] === CREATED;
  }
  /** Guest-physical address of the CPU interface; -1 while distributor or interface have none (KVM_RUN: -ENXIO). */
  cpuInterface(vm: number): number {
    return this.addresses.a[2 * vm]! < 0 ? -1 : this.addresses.a[2 * vm + 1]!;
  }
  setMapped(vm: number): void {
    this.states.set(vm, MAPPED);
  }
}
