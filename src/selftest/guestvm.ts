/**
 * The small VMM under every selftest: a VM with stage 1 on (4 KiB granule, 48-bit VAs), code and data
 * at IPA 0, page tables in a memslot of their own, a window of stores that no memslot answers for
 * reports to the VMM, and a thread that serves userfaultfd while the vCPU sleeps.
 */
import { assemble } from "../arch/assemble.js";
import type { Apei } from "../arch/memoryerrors.js";
import { eraRow, type EraRow } from "../eras.js";
import { HostProcess, Machine, type Call, type CallResult, type RunResult, type Userfault, type Vcpu, type Vm } from "../machine.js";
import { MADV_DONTNEED, MADV_NOHUGEPAGE } from "../mmu/madvise.js";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../mmu/truncate.js";
import { MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../mmu/vmflags.js";
import { errnoName } from "../sim/errno.js";
import type { Backing, SelftestOptions } from "./report.js";

export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;

export const PAGE = 4096;
export const BLOCK = 0x200000;
/** End of the IPA space of a default VM. */
export const IPA_TOP = 2 ** 40;

/** Code and data at IPA 0; vectors at its start, the program behind them. VA and IPA are the same. */
const CODE_SIZE = BLOCK;
export const PROGRAM = 0x1000;
/** The report window: VA and IPA. No memslot answers there. */
export const REPORT_VA = 0xa0000000;
const REPORT_IPA = 0x10000000;
/** Offsets of the words that the vectors store: ESR_EL1, FAR_EL1, ELR_EL1. */
const EXCEPTION = 0x100;
const HANDLER = 0x800;

/** Where the page tables lie unless a test says otherwise. */
const PT_GPA = 0x40000000;
const PT_SIZE = 64 * PAGE;

const CODE_SLOT = 0;
export const PT_SLOT = 1;
export const DATA_SLOT = 2;

/** Descriptor bits: valid page or table, AF, inner shareable, MAIR index 1 (Normal), UXN and PXN. */
const DESC = 3n;
const AF = 1n << 10n;
const NORMAL = (3n << 8n) | (1n << 2n);
const NEVER_EXECUTE = (1n << 53n) | (1n << 54n);
/** TCR_EL1: 48-bit VAs below, none above, inner-shareable write-back walks, 40-bit IPAs. */
const TCR = 16n | (1n << 8n) | (1n << 10n) | (3n << 12n) | (1n << 23n) | (2n << 32n);
/** SCTLR_EL1: M, C, I and the bits that are always one. */
const SCTLR = 0x30d00800n | 1n | (1n << 2n) | (1n << 12n);

/** EL1h, exceptions masked. */
const PSTATE = 0x3c5n;
/** A guest that comes nowhere in so many exits hangs. */
const MOST_EXITS = 2000;

/** A memslot and its backing. */
export interface Region {
  readonly slot: number;
  readonly gpa: number;
  readonly size: number;
  readonly hva: number;
  /** memfd, or -1. */
  readonly fd: number;
}

/** A store of the guest to the report window. */
export interface Report {
  readonly kind: "report";
  readonly offset: number;
  readonly data: bigint;
}
/** KVM_RUN came back with something else; `text` names it. */
export interface Other {
  readonly kind: "exit";
  readonly result: RunResult;
  readonly text: string;
}
/** The guest took an exception. */
export interface Aborted {
  readonly kind: "exception";
  readonly esr: bigint;
  readonly far: bigint;
  readonly elr: bigint;
}

/** A page range that a userfaultfd serves with a saved copy. */
export interface Served {
  readonly uffd: Userfault;
  readonly region: Region;
  /** Address of the copy; set when the region is marked. */
  source: number;
  faults: number;
}

export class GuestVm {
  readonly machine: Machine;
  /** What the era does, without the replaced decisions: expectations that differ by release come from here. */
  readonly defaults: EraRow;
  readonly vm: Vm;
  readonly regions: Region[] = [];
  readonly served: Served[] = [];
  vcpus: Vcpu[] = [];
  /** The thread that reads userfaultfds. */
  private readonly handler: HostProcess;
  private pt: Region | undefined;
  private ptUsed = 0;
  private root = 0;
  /** IPA of every word that the VMM has stored into guest memory. */
  private readonly stored = new Set<number>();

  constructor(
    options: SelftestOptions,
    readonly ipaBits = 0,
    apei?: Apei,
  ) {
    this.machine = new Machine({
      ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
      ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
      ...(options.set === undefined ? {} : { set: options.set }),
      ...(apei === undefined ? {} : { apei }),
    });
    this.defaults = eraRow(this.machine.era.era);
    this.handler = new HostProcess(this.machine, this.machine.addThread("uffd"));
    this.vm = this.machine.createVm(ipaBits);
  }

  get vcpu(): Vcpu {
    return this.vcpus[0]!;
  }

  // ---- memory ----

  /** Memory of a backing source, aligned to 2 MiB. */
  backing(kind: Backing, size: number): { readonly hva: number; readonly fd: number } {
    const { host } = this.machine;
    const prot = PROT_READ | PROT_WRITE;
    if (kind === "shmem") {
      const fd = host.memfdCreate(size);
      return { hva: checked("mmap", host.mmap({ length: size, prot, flags: MAP_SHARED, fd, align: BLOCK })), fd };
    }
    const huge = kind === "anonymous_hugetlb_2mb";
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0);
    const hva = checked("mmap", host.mmap({ length: size, prot, flags, align: BLOCK }));
    if (!huge) host.madvise(hva, size, MADV_NOHUGEPAGE);
    return { hva, fd: -1 };
  }

  /** A memslot over new memory. @throws Error if the kernel refuses it */
  add(slot: number, gpa: number, size: number, kind: Backing, flags = 0): Region {
    const region = { slot, gpa, size, ...this.backing(kind, size) };
    checked("KVM_SET_USER_MEMORY_REGION", this.setRegion(region, flags));
    this.regions.push(region);
    return region;
  }

  /** KVM_SET_USER_MEMORY_REGION of a region's place with these flags. @returns 0 or -errno */
  setRegion(r: Region, flags: number, size = r.size): number {
    return this.vm.setUserMemoryRegion({ slot: r.slot, flags, guestPhysAddr: r.gpa, memorySize: size, userspaceAddr: r.hva });
  }

  hva(ipa: number): number {
    const r = this.regions.find((x) => ipa >= x.gpa && ipa < x.gpa + x.size);
    if (r === undefined) throw new Error(`no memslot at 0x${ipa.toString(16)}`);
    return r.hva + (ipa - r.gpa);
  }
  /** The VMM stores 8 bytes into guest memory. */
  store(ipa: number, value: bigint): void {
    this.stored.add(ipa);
    this.machine.host.write(this.hva(ipa), 8, value);
  }
  load(ipa: number): bigint {
    return this.machine.host.read(this.hva(ipa), 8).value;
  }

  /** Frees a region's backing: fallocate(PUNCH_HOLE) of a file, else MADV_DONTNEED. */
  punch(r: Region): void {
    const { host } = this.machine;
    const ret =
      r.fd >= 0 ? host.fallocate(r.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, r.size) : host.madvise(r.hva, r.size, MADV_DONTNEED);
    checked("punching a hole", ret);
  }

  // ---- stage 1 ----

  /**
   * Code at 0, page tables of `ptSize` bytes at `ptGpa`, and the mappings of both and of the report window.
   * @param flags of the page-table memslot
   */
  boot(ptGpa = PT_GPA, ptSize = PT_SIZE, kind: Backing = "anonymous", flags = 0): void {
    this.add(CODE_SLOT, 0, CODE_SIZE, "anonymous");
    this.pt = this.add(PT_SLOT, ptGpa, ptSize, kind, flags);
    this.root = this.tablePage();
    this.map(0, 0, 4);
    this.map(REPORT_VA, REPORT_IPA, 1, true);
    for (let vector = 0; vector < 0x800; vector += 0x80) this.program(vector, [`b #${HANDLER - vector}`]);
    const store = (reg: string, n: number) => [`mrs x27, ${reg}`, `str x27, [x28, #${EXCEPTION + 8 * n}]`];
    this.program(HANDLER, [...store("esr_el1", 0), ...store("far_el1", 1), ...store("elr_el1", 2), "b #0"]);
  }

  private tablePage(): number {
    const pt = this.pt!;
    const ipa = pt.gpa + this.ptUsed;
    this.ptUsed += PAGE;
    if (this.ptUsed > pt.size) throw new Error("the page-table memslot is full");
    return ipa;
  }

  /** IPA of the level-3 descriptor of a VA; makes the tables on the way. */
  descriptor(va: number): number {
    let table = this.root;
    for (let level = 0; level < 3; level++) {
      const at = table + 8 * (Math.floor(va / 2 ** (39 - 9 * level)) % 512);
      const d = this.load(at);
      if (d !== 0n) table = Number(d & 0xfffffffff000n);
      else {
        table = this.tablePage();
        this.store(at, BigInt(table) | DESC);
      }
    }
    return table + 8 * (Math.floor(va / PAGE) % 512);
  }

  /** Maps pages of VA for EL1: Normal, executable and writable; or Device. */
  map(va: number, ipa: number, pages: number, device = false): void {
    for (let n = 0; n < pages; n++) {
      const attributes = device ? NEVER_EXECUTE : NORMAL;
      this.store(this.descriptor(va + n * PAGE), BigInt(ipa + n * PAGE) | attributes | AF | DESC);
    }
  }

  /** Lets the level-2 descriptor of a VA point to a table elsewhere. */
  replaceTable(va: number, table: number): void {
    let at = this.root;
    for (let level = 0; level < 2; level++)
      at = Number(this.load(at + 8 * (Math.floor(va / 2 ** (39 - 9 * level)) % 512)) & 0xfffffffff000n);
    this.store(at + 8 * (Math.floor(va / BLOCK) % 512), BigInt(table) | DESC);
  }

  // ---- code ----

  /** Assembles instructions to an IPA of the code memslot, or to any other backed IPA. @returns the next IPA */
  program(ipa: number, lines: readonly string[]): number {
    const words = lines.flatMap((line) => assemble(line));
    for (const [n, w] of words.entries()) this.machine.host.write(this.hva(ipa + 4 * n), 4, BigInt(w >>> 0));
    for (let at = ipa - (ipa % 8); at < ipa + 4 * words.length; at += 8) this.stored.add(at);
    return ipa + 4 * words.length;
  }

  /** A vCPU with stage 1 on that starts the program. */
  start(registers: Readonly<Record<string, bigint>> = {}, pc = PROGRAM): Vcpu {
    const vcpu = this.vm.createVcpu();
    this.vcpus.push(vcpu);
    const all: Record<string, bigint> = {
      ttbr0_el1: BigInt(this.root),
      tcr_el1: TCR,
      mair_el1: 0xff00n,
      sctlr_el1: SCTLR,
      vbar_el1: 0n,
      cpacr_el1: 0x300000n,
      pstate: PSTATE,
      pc: BigInt(pc),
      x28: BigInt(REPORT_VA),
      ...registers,
    };
    for (const [name, value] of Object.entries(all)) vcpu.set(name, value);
    return vcpu;
  }

  /** Lets a vCPU run another program with these registers. */
  restart(vcpu: Vcpu, pc: number, registers: Readonly<Record<string, bigint>> = {}): void {
    vcpu.cancelMmio();
    vcpu.set("pstate", PSTATE);
    vcpu.set("pc", BigInt(pc));
    for (const [name, value] of Object.entries(registers)) vcpu.set(name, value);
  }

  // ---- running ----

  /** Runs a call; whenever it sleeps, the handler thread answers userfaults. @throws Error if nobody wakes it */
  sleeping(agent: number, call: Call): CallResult {
    const m = this.machine;
    m.begin(agent, call);
    for (;;) {
      while (m.step(agent)) if (m.crashed !== undefined) throw new Error(`the host crashed in ${m.crashed.function}: ${m.crashed.reason}`);
      if (!m.busy(agent)) return m.finish(agent);
      if (!this.serve()) throw new Error(`${call.call} sleeps for ever`);
    }
  }

  /** KVM_RUN until the guest reports something or cannot go on. */
  run(vcpu = this.vcpu): Report | Other | Aborted {
    const exception: bigint[] = [];
    for (let exits = 0; exits < MOST_EXITS; exits++) {
      const call = { call: "KVM_RUN", vcpu: vcpu.id, maxExits: MOST_EXITS, maxInstructions: 20_000 } as const;
      const { ret, exit = { reason: "UNKNOWN" }, signal } = this.sleeping(this.machine.vcpuAgent(vcpu.id), call);
      const at = exit.reason === "MMIO" && exit.isWrite ? exit.physAddr - REPORT_IPA : -1;
      if (ret < 0 || exit.reason !== "MMIO" || at < 0 || at >= PAGE) {
        const result = signal === undefined ? { ret, exit } : { ret, exit, signal };
        return { kind: "exit", result, text: ret < 0 ? errnoName(ret) : `exit ${exit.reason}` };
      }
      if (at < EXCEPTION) return { kind: "report", offset: at, data: exit.data };
      exception[(at - EXCEPTION) / 8] = exit.data;
      if (at === EXCEPTION + 16) return { kind: "exception", esr: exception[0]!, far: exception[1]!, elr: exit.data };
    }
    throw new Error("the guest makes no progress");
  }

  // ---- userfaultfd ----

  /** Registers a region for missing pages. Its faults are answered with the copy that `save` makes. */
  serveMissing(region: Region): Served {
    const uffd = this.handler.userfaultfd();
    checked("UFFDIO_REGISTER", uffd.register(region.hva, region.size, 1));
    const s = { uffd, region, source: -1, faults: 0 };
    this.served.push(s);
    return s;
  }
  /** Copies what the region holds now, for the faults to come. */
  save(s: Served): void {
    const { host } = this.machine;
    s.source = this.backing("anonymous", s.region.size).hva;
    for (const ipa of this.stored) {
      const offset = ipa - s.region.gpa;
      if (offset >= 0 && offset < s.region.size) host.write(s.source + offset, 8, this.load(ipa));
    }
  }
  /** Reads one message and fills the whole region. @returns false if there is none */
  private serve(): boolean {
    for (const s of this.served) {
      if (s.uffd.read() === undefined) continue;
      s.faults++;
      checked("UFFDIO_COPY", s.uffd.copy(s.region.hva, s.source, s.region.size));
      return true;
    }
    return false;
  }
}

function checked(what: string, ret: number): number {
  if (ret < 0) throw new Error(`${what} fails with ${errnoName(ret)}`);
  return ret;
}
