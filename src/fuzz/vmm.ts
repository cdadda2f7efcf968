/** Carries out a program on a machine, step by step, as a VMM does; says what came of each step. It judges nothing. */
import { errnoName } from "../sim/errno.js";
import type { CallResult } from "../machine.js";
import { ADVICE, DEVICES, isDevice, type Kind, type Op } from "./program.js";
import type { Rig } from "./rig.js";

const PAGE = 4096;
const PROT_RW = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_HUGETLB = 0x40000;
const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;
const PUNCH_HOLE_KEEP_SIZE = 3;
const REGION_BYTES = 2 ** 40;
/** As `livelock` in a script's header: exits in one place after which a guest makes no progress. */
export const LIVELOCK = 100;
const INSTRUCTIONS = 4096;
/** MMIO exits of one operation; a pair of accesses has two. */
const MMIO_EXITS = 16;
const PSTATE_EL1H_DAIF = 0x3c5n;

export interface Outcome {
  /** `ok`, an errno or signal by name; of the guest: `done`, `exception`, `exit NAME`, `stuck`; `crash`; `skipped` where a step has nothing to act on. */
  readonly how: string;
  /** Of `hr`, and of `done`: x4. */
  readonly value: bigint;
  readonly pages: readonly number[];
  /** MMIO exits on the way. */
  readonly mmio: number;
  /** ESR of an exception. */
  readonly esr: number;
}

export interface Backing {
  readonly kind: Kind;
  readonly base: number;
  readonly size: number;
  readonly fd: number;
}
export interface Slot {
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  readonly flags: number;
}

const NO_PAGES: readonly number[] = [];
const NOTHING = { value: 0n, pages: NO_PAGES, mmio: 0, esr: 0 } as const;
const SKIPPED: Outcome = { how: "skipped", ...NOTHING };
const DONE: Outcome = { how: "ok", ...NOTHING };
const CRASHED: Outcome = { how: "crash", ...NOTHING };

/** Where backing `b` lies in the VMM's address space: far from what the kernel gives out, with room around it. */
export const backingBase = (b: number, skew: number): number => 0x7e0000000000 + b * 0x10000000 + skew;

/** Bytes that mmap makes of a size: whole pages, of the kind's size. */
export const mappedSize = (kind: Kind, size: number): number => {
  const page = kind === "hugetlb" ? 0x200000 : PAGE;
  return Math.ceil(size / page) * page;
};

export class Vmm {
  readonly backings = new Map<number, Backing>();
  readonly slots = new Map<number, Slot>();
  private child = -1;

  constructor(private readonly rig: Rig) {}

  do(op: Op): Outcome {
    const out = this.perform(op);
    return this.rig.machine.crashed === undefined ? out : CRASHED;
  }

  private perform(op: Op): Outcome {
    const { machine: m, vm } = this.rig;
    const { host } = m;
    if ("b" in op && op.op !== "back" && op.op !== "slot") {
      const b = this.backings.get(op.b);
      if (b === undefined) return SKIPPED;
      return this.onBacking(op, b);
    }
    switch (op.op) {
      case "back":
        return this.back(op);
      case "slot": {
        const b = this.backings.get(op.b);
        if (b === undefined) return SKIPPED;
        return this.region(op.id, { gpa: op.gpa, size: op.size, hva: b.base + op.off, flags: op.flags });
      }
      case "slotflags":
      case "slotmove":
      case "slotdel": {
        const s = this.slots.get(op.id);
        if (s === undefined) return SKIPPED;
        if (op.op === "slotdel") return this.region(op.id, { ...s, size: 0 });
        return this.region(op.id, op.op === "slotflags" ? { ...s, flags: op.flags } : { ...s, gpa: op.gpa });
      }
      case "guest":
        return this.guest(op.what, op.at, op.x1, op.x2);
      case "mmu":
        return this.guest(op.on ? "mmu on" : "mmu off", 0, 0, 0);
      case "fork":
        if (this.child >= 0) return SKIPPED;
        this.child = host.fork();
        return plain(this.child);
      case "kill": {
        if (this.child < 0) return SKIPPED;
        const ret = host.kill(this.child);
        this.child = -1;
        return plain(ret);
      }
      case "dirty": {
        if (!this.slots.has(op.id)) return SKIPPED;
        const { ret, pages } = vm.getDirtyLog(op.id);
        return { ...plain(ret), pages };
      }
      case "cleardirty":
        return this.slots.has(op.id) ? plain(vm.clearDirtyLog(op.id, op.first, op.n)) : SKIPPED;
      case "cap":
        return plain(vm.enableCap(op.cap, op.value));
      case "memory": {
        const at = { fd: this.rig.fds.get(op.device)!, index: 7, offset: 4, size: 2 };
        const old = m.call(0, { call: "vfio_read", ...at });
        if (old.ret < 0) return plain(old.ret);
        const value = op.on ? (old.value ?? 0n) | 2n : (old.value ?? 0n) & ~2n;
        return plain(m.call(0, { call: "vfio_write", ...at, value }).ret);
      }
      case "reset":
        return plain(m.call(0, { call: "VFIO_DEVICE_RESET", fd: this.rig.fds.get(op.device)! }).ret);
      case "affinity":
        return plain(m.call(0, { call: "sched_setaffinity", vcpu: 0, cpu: op.cpu }).ret);
    }
    return SKIPPED;
  }

  private onBacking(op: Exclude<Extract<Op, { b: number }>, { op: "back" | "slot" }>, b: Backing): Outcome {
    const { host } = this.rig.machine;
    switch (op.op) {
      case "munmap":
        return plain(host.munmap(b.base + op.off, op.len));
      case "remap":
        return op.off + op.len > b.size ? SKIPPED : plain(this.map(b, op.off, op.len));
      case "mapanon": {
        if (b.kind === "hugetlb" || op.off + op.len > b.size) return SKIPPED;
        const addr = b.base + op.off;
        return plain(host.mmap({ addr, length: op.len, prot: PROT_RW, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED }));
      }
      case "mprotect":
        return plain(host.mprotect(b.base + op.off, op.len, op.prot));
      case "madvise":
        return plain(host.madvise(b.base + op.off, op.len, ADVICE[op.advice]));
      case "ftruncate":
        return b.kind === "memfd" ? plain(host.ftruncate(b.fd, op.len)) : SKIPPED;
      case "punch":
        return b.kind === "memfd" ? plain(host.fallocate(b.fd, PUNCH_HOLE_KEEP_SIZE, op.off, op.len)) : SKIPPED;
      case "age":
        return plain(this.rig.machine.call(0, { call: "age", addr: b.base + op.off, length: op.len, kind: op.test ? 2 : 0 }).ret);
      case "hw": {
        const r = host.write(b.base + op.off, op.size, BigInt.asUintN(8 * op.size, BigInt(op.value)));
        return r.signal === undefined ? plain(r.ret) : { ...SKIPPED, how: r.signal.name };
      }
      case "hr": {
        const r = host.read(b.base + op.off, op.size);
        return r.signal === undefined ? { ...plain(r.ret), value: r.value } : { ...SKIPPED, how: r.signal.name };
      }
    }
  }

  private back(op: Extract<Op, { op: "back" }>): Outcome {
    const { machine, fds } = this.rig;
    const { host } = machine;
    const old = this.backings.get(op.b);
    if (old !== undefined) host.munmap(old.base, mappedSize(old.kind, old.size));
    const fd =
      op.kind === "memfd"
        ? host.memfdCreate(op.size)
        : op.kind === "filero"
          ? host.openReadOnlyFile(op.size)
          : isDevice(op.kind)
            ? fds.get(op.kind)!
            : -1;
    const b: Backing = { kind: op.kind, base: backingBase(op.b, op.skew), size: op.size, fd };
    const ret = this.map(b, 0, op.size);
    if (ret >= 0) this.backings.set(op.b, b);
    else this.backings.delete(op.b);
    return plain(ret);
  }

  /** Maps (a part of) a backing at its place, with its kind's madvise. */
  private map(b: Backing, off: number, length: number): number {
    const { host } = this.rig.machine;
    const addr = b.base + off;
    const shared = b.kind === "memfd" || isDevice(b.kind);
    const flags =
      MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE) | (b.fd < 0 ? MAP_ANONYMOUS : 0) | (b.kind === "hugetlb" ? MAP_HUGETLB : 0);
    const offset = b.fd < 0 ? 0 : off + (isDevice(b.kind) ? DEVICES[b.kind].bar * REGION_BYTES : 0);
    const ret = host.mmap({ addr, length, prot: b.kind === "filero" ? 1 : PROT_RW, flags, fd: b.fd, offset });
    if (ret < 0) return ret;
    if (b.kind === "nohuge") host.madvise(addr, length, MADV_NOHUGEPAGE);
    if (b.kind === "thp") host.madvise(addr, length, MADV_HUGEPAGE);
    return 0;
  }

  private region(id: number, s: Slot): Outcome {
    const ret = this.rig.vm.setUserMemoryRegion({
      slot: id,
      flags: s.flags,
      guestPhysAddr: s.gpa,
      memorySize: s.size,
      userspaceAddr: s.hva,
    });
    if (ret === 0) {
      if (s.size === 0) this.slots.delete(id);
      else this.slots.set(id, s);
    }
    return plain(ret);
  }

  private guest(what: string, at: number, x1: number, x2: number): Outcome {
    const { machine: m, vcpu, stubs } = this.rig;
    const stub = stubs.get(what);
    if (stub === undefined) return SKIPPED;
    vcpu.set("x0", BigInt(at));
    vcpu.set("x1", BigInt(x1));
    vcpu.set("x2", BigInt(x2));
    vcpu.set("x4", 0n);
    vcpu.cancelMmio();
    vcpu.set("pc", BigInt(stub.entry));
    vcpu.set("pstate", PSTATE_EL1H_DAIF);
    m.setBreakpoint(0, BigInt(stub.stop));
    for (let mmio = 0; mmio < MMIO_EXITS;) {
      const r: CallResult = m.call(m.vcpuAgent(0), { call: "KVM_RUN", vcpu: 0, maxExits: LIVELOCK, maxInstructions: INSTRUCTIONS });
      if (m.crashed !== undefined) return CRASHED;
      const reason = r.exit?.reason ?? "UNKNOWN";
      if (r.ret < 0 && reason !== "NO_PROGRESS") return { ...NOTHING, how: errnoName(r.ret), mmio };
      if (r.exit?.reason === "MMIO") {
        mmio++;
        if (!r.exit.isWrite) m.answerMmio(0, 0n);
      } else if (reason === "DEBUG") return { ...NOTHING, how: "done", value: vcpu.get("x4"), mmio };
      else if (reason === "SELF_BRANCH") return { ...NOTHING, how: "exception", esr: Number(vcpu.get("esr_el1") & 0xffffffffn), mmio };
      else if (reason === "NO_PROGRESS" || reason === "BUDGET") return { ...NOTHING, how: "stuck", mmio };
      else return { ...NOTHING, how: `exit ${reason}`, mmio };
    }
    return { ...NOTHING, how: "stuck", mmio: MMIO_EXITS };
  }
}

function plain(ret: number): Outcome {
  return ret >= 0 ? DONE : { ...NOTHING, how: errnoName(ret) };
}
