/**
 * KVM_CHECK_EXTENSION and KVM_ENABLE_CAP on a VM, as far as the fault path, memslots and dirty logging
 * have capabilities (arch/arm64/kvm/arm.c, reset.c; virt/kvm/kvm_main.c).
 */
import type { CpuFeatures } from "../arch/features.js";
import type { Row } from "../sim/decisions.js";
import { EINVAL } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { GUEST_MEMFD_FLAGS } from "./guestmemfd.js";
import type { kvmDecisions } from "./decisions.js";
import type { Vms } from "./vm.js";

export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_NR_VCPUS = 9;
export const KVM_CAP_NR_MEMSLOTS = 10;
export const KVM_CAP_SYNC_MMU = 16;
export const KVM_CAP_MAX_VCPUS = 66;
export const KVM_CAP_ONE_REG = 70;
export const KVM_CAP_READONLY_MEM = 81;
export const KVM_CAP_ARM_PSCI_0_2 = 102;
export const KVM_CAP_IMMEDIATE_EXIT = 136;
export const KVM_CAP_ARM_VM_IPA_SIZE = 165;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
export const KVM_CAP_ARM_NISV_TO_USER = 177;
export const KVM_CAP_ARM_INJECT_EXT_DABT = 178;
export const KVM_CAP_DIRTY_LOG_RING = 192;
export const KVM_CAP_ARM_MTE = 205;
export const KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223;
export const KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP = 225;
export const KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE = 228;
export const KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES = 229;
export const KVM_CAP_USER_MEMORY2 = 231;
export const KVM_CAP_GUEST_MEMFD = 234;
export const KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED = 243;
export const KVM_CAP_GUEST_MEMFD_FLAGS = 244;
export const KVM_CAP_ARM_SEA_TO_USER = 245;

const MANUAL_PROTECT_ENABLE = 1;
/** KVM_DIRTY_RING_MAX_ENTRIES × 16 bytes. */
const DIRTY_RING_MAX_BYTES = 65536 * 16;
/** Block sizes that stage 2 can split: bits 12, 21 and 30. */
const SUPPORTED_BLOCK_SIZES = (1 << 12) | (1 << 21) | (1 << 30);

/** Capabilities that memslots and dirty logging switch. */
export interface CapHooks {
  /** kvm_vm_ioctl_enable_dirty_log_ring. @returns 0 | -errno */
  enableDirtyRing(vm: number, bytes: number): number;
  /** KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP. */
  enableRingBitmap(vm: number): number;
  /** KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE. */
  setSplitChunk(vm: number, bytes: number): number;
}

export class Caps {
  /** Per VM: bit 0 SEA_TO_USER. */
  private readonly w: I32Pool;

  constructor(
    sim: Sim,
    private readonly vms: Vms,
    private readonly features: CpuFeatures,
    private readonly hooks: CapHooks,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.w = sim.state.i32("kvm.caps", 4);
  }

  /** Without FEAT_RAS (HCR_EL2.TEA) every external abort that gets here is of the host's own tables: host_owns_sea. */
  seaToUser(vm: number): boolean {
    return this.features.ras && vm < this.w.a.length && (this.w.a[vm]! & 1) !== 0;
  }

  /** KVM_CHECK_EXTENSION. @returns 0 where this kernel does not know the capability */
  checkExtension(cap: number): number {
    const { d, features } = this;
    switch (cap) {
      case KVM_CAP_USER_MEMORY:
      case KVM_CAP_SYNC_MMU:
      case KVM_CAP_ONE_REG:
      case KVM_CAP_READONLY_MEM:
      case KVM_CAP_ARM_PSCI_0_2:
        return 1;
      case KVM_CAP_NR_VCPUS:
        return 1;
      case KVM_CAP_MAX_VCPUS:
        return 512;
      case KVM_CAP_NR_MEMSLOTS:
        return d.userMemslots;
      case KVM_CAP_IMMEDIATE_EXIT:
        return d.immediateExit === "ignored" ? 0 : 1;
      case KVM_CAP_ARM_VM_IPA_SIZE:
        return d.capIpaSize ? this.vms.ipaLimit : 0;
      case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        return d.capManualProtect;
      case KVM_CAP_ARM_NISV_TO_USER:
        return d.nisvToUser ? 1 : 0;
      case KVM_CAP_ARM_INJECT_EXT_DABT:
        return d.injectDabtCap ? 1 : 0;
      case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
        return d.capDirtyRing ? DIRTY_RING_MAX_BYTES : 0;
      case KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP:
        return d.capDirtyRing ? 1 : 0;
      case KVM_CAP_DIRTY_LOG_RING:
        // Total store order only.
        return 0;
      case KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE:
        return 0;
      case KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES:
        return d.capEagerSplit ? SUPPORTED_BLOCK_SIZES : 0;
      case KVM_CAP_ARM_MTE:
        return features.mte && d.mteSupport ? 1 : 0;
      case KVM_CAP_GUEST_MEMFD:
        return d.capGuestMemfd === "always" ? 1 : 0;
      case KVM_CAP_GUEST_MEMFD_FLAGS:
        return d.capGuestMemfd === "always" ? GUEST_MEMFD_FLAGS : 0;
      case KVM_CAP_USER_MEMORY2:
        return d.capGuestMemfd === "absent" ? 0 : 1;
      case KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED:
        return d.capCacheablePfnmap && features.s2fwb && features.dic ? 1 : 0;
      case KVM_CAP_ARM_SEA_TO_USER:
        return d.seaToUser ? 1 : 0;
      default:
        return 0;
    }
  }

  /** KVM_ENABLE_CAP with its first argument. @returns 0, or -EINVAL for what this kernel does not know */
  enableCap(vm: number, cap: number, arg: number): number {
    const { d, vms } = this;
    switch (cap) {
      case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: {
        if (d.capManualProtect === 0 || (arg & ~d.capManualProtect) !== 0) return -EINVAL;
        // Initially-all-set goes only together with manual protection.
        if (arg !== 0 && (arg & MANUAL_PROTECT_ENABLE) === 0) return -EINVAL;
        vms.setManualProtect(vm, arg);
        return 0;
      }
      case KVM_CAP_ARM_NISV_TO_USER:
        if (!d.nisvToUser) return -EINVAL;
        vms.setNisvToUser(vm, true);
        return 0;
      case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
        return d.capDirtyRing ? this.hooks.enableDirtyRing(vm, arg) : -EINVAL;
      case KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP:
        return d.capDirtyRing ? this.hooks.enableRingBitmap(vm) : -EINVAL;
      case KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE:
        return d.capEagerSplit ? this.hooks.setSplitChunk(vm, arg) : -EINVAL;
      case KVM_CAP_ARM_MTE:
        if (!d.mteSupport || !this.features.mte || vms.createdVcpus(vm) > 0) return -EINVAL;
        vms.setMte(vm, true);
        return 0;
      case KVM_CAP_ARM_SEA_TO_USER:
        if (!d.seaToUser) return -EINVAL;
        this.w.ensure(vm + 1);
        this.w.set(vm, this.w.a[vm]! | 1);
        return 0;
      default:
        return -EINVAL;
    }
  }
}
