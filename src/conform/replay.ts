/**
 * A VMM that carries out the commands of a recording on a machine, through the public API, and notes
 * what it and the host kernel observed in the form that recordings use. It knows the commands of
 * recordings/README.md and no recording.
 */
import { errnoName } from "../sim/errno.js";
import { FaultlineError } from "../sim/errors.js";
import type { EventRecord } from "../sim/events.js";
import { Machine, type ExitInfo, type RunResult, type Vcpu, type Vm, type VfioDevice } from "../machine.js";
import {
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DOFORK,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_HWPOISON,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_UNMERGEABLE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
} from "../mmu/madvise.js";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../mmu/vmflags.js";
import { CODE_BASE, CODE_SIZE, DONE_IPA, EXCEPTION_IPA, EXCEPTION_WORDS, guestCode } from "./guestcode.js";
import { dumpsNoLeaves, unlistedEvents } from "./probes.js";
import type { Observation, Recording, Step } from "./recording.js";
import { RecordingError } from "./recording.js";

const BLOCK = 0x200000;
/** Reads of IPAs without a slot are answered with this, cut to the access size. */
const UNBACKED = 0xf1e2d3c4b5a69788n;
/** A step without progress over so many exits is the recorder's SIGALRM. */
const MOST_EXITS = 1000;
/** After so many instructions without an exit, the guest is looked at: an abort at its own abort vector repeats for ever. */
const SLICE = 4000;
/** More than a guest of the recorder can execute before its alarm. */
const MOST_SLICES = 5000;
/** More events of one step are not kept: an endless loop gives as many as one likes. */
const MOST_EVENTS = 20_000;
const KVM_MEM_LOG_DIRTY_PAGES = 1;
const KVM_MEM_READONLY = 2;
const KVM_MEM_GUEST_MEMFD = 4;
const GUEST_MEMFD_MMAP_INIT_SHARED = 3;

/** C's %#x. */
const hexC = (v: number | bigint): string => (v === 0 || v === 0n ? "0" : `0x${v.toString(16)}`);
const hex = (v: number | bigint): string => `0x${v.toString(16)}`;

interface Backing {
  readonly name: string;
  readonly kind: string;
  readonly base: number;
  readonly size: number;
  readonly fd: number;
  /** Offset in the file of `fd`. */
  readonly offset: number;
  /** Physical address of offset 0 for a BAR; -1 for memory. */
  readonly pa: number;
}

const ADVICE: Readonly<Record<string, number>> = {
  normal: MADV_NORMAL,
  random: MADV_RANDOM,
  sequential: MADV_SEQUENTIAL,
  willneed: MADV_WILLNEED,
  dontneed: MADV_DONTNEED,
  hugepage: MADV_HUGEPAGE,
  nohugepage: MADV_NOHUGEPAGE,
  dontfork: MADV_DONTFORK,
  dofork: MADV_DOFORK,
  wipeonfork: MADV_WIPEONFORK,
  keeponfork: MADV_KEEPONFORK,
  mergeable: MADV_MERGEABLE,
  unmergeable: MADV_UNMERGEABLE,
  cold: MADV_COLD,
  pageout: MADV_PAGEOUT,
  populate_w: MADV_POPULATE_WRITE,
  populate_write: MADV_POPULATE_WRITE,
  populate_r: MADV_POPULATE_READ,
  populate_read: MADV_POPULATE_READ,
  collapse: MADV_COLLAPSE,
  remove: MADV_REMOVE,
  hwpoison: MADV_HWPOISON,
  free: MADV_FREE,
};

const THP = "kernel/mm/transparent_hugepage/";

/** Replays one recording's commands on a machine of its own. */
export class Replayer {
  private readonly machine: Machine;
  private readonly code = guestCode();
  private vm: Vm | undefined;
  private vcpu: Vcpu | undefined;
  private device: VfioDevice | undefined;
  private child = -1;
  private readonly backings = new Map<string, Backing>();
  private readonly slots = new Map<number, { gpa: number; size: number; hva: number }>();
  private out: Observation[] = [];
  private events: Observation[] = [];
  private readonly unlisted: ReadonlySet<string>;
  /** Words of an exception report that have arrived. */
  private exception: bigint[] = [];
  /** An MMIO access of the operation ends it, answered and not completed. */
  private leave = false;
  /** Such an access, or the store of a report, waits for its completion: the next KVM_RUN finds kvm_run->exit_reason as it was. */
  private left = false;
  private reported = false;

  constructor(
    private readonly recording: Recording,
    options: {
      readonly kernel?: string;
      readonly cpu?: string;
      /** Decisions that depart from the era. */
      readonly set?: Readonly<Record<string, string>>;
      /** Every event of the machine, also those that recordings do not list. */
      readonly onEvent?: (e: EventRecord) => void;
    } = {},
  ) {
    this.machine = new Machine({
      kernel: options.kernel ?? recording.kernel,
      cpu: options.cpu ?? recording.cpu,
      profile: "recorded",
      ...(options.set === undefined ? {} : { set: options.set }),
      devices: ["edu", "testdev", "ivshmem"],
    });
    this.unlisted = unlistedEvents(this.machine.era.era);
    this.machine.on("*", (e) => {
      options.onEvent?.(e);
      this.note(e);
    });
  }

  /** Carries out one command. @returns what was observed, `=` lines first. */
  step(step: Step): readonly Observation[] {
    this.out = [];
    this.events = [];
    if (this.machine.crashed === undefined) {
      try {
        this.command(step);
      } catch (error) {
        if (error instanceof BadCommand || error instanceof FaultlineError)
          throw new RecordingError(this.recording.file, step.line, error.message);
        throw error;
      }
      if (this.machine.crashed !== undefined) {
        this.out = [{ kind: "=", text: "HOST CRASH" }];
      }
    }
    return [...this.out, ...compress(this.events)];
  }

  private say(text: string): void {
    this.out.push({ kind: "=", text });
  }

  private command(step: Step): void {
    const [verb, ...args] = step.command;
    switch (verb) {
      case "vm":
        return this.createVm();
      case "cap":
        return this.cap(num(args[0]), num(args[1]));
      case "has":
        return this.say(`has cap=${num(args[0])} value=${this.needVm().checkExtension(num(args[0]))}`);
      case "back":
        return this.back(word(args[0]), word(args[1]), args[2], args[3]);
      case "slot":
        return this.slot(num(args[0]), num(args[1]), num(args[2]), word(args[3]), num(args[4]), word(args[5]));
      case "slotflags":
        return this.slotFlags(num(args[0]), word(args[1]));
      case "slotdel":
        return this.slotDelete(num(args[0]));
      case "op":
        return this.operation(word(args[0]), args.slice(1).map(big));
      case "resume":
        return this.run();
      case "skip":
        return this.skip();
      case "leave":
        this.leave = num(args[0]) !== 0;
        return;
      case "immediate":
        return this.immediate();
      case "events":
        return this.say(`events errno=${-this.needVcpu().setEvents({ extDabtPending: num(args[0]) !== 0 })}`);
      case "munmap":
        return this.say(`munmap errno=${-this.machine.host.munmap(this.hva(args[0], args[1]), num(args[2]))}`);
      case "remap":
        return this.remap(word(args[0]), num(args[1]), num(args[2]));
      case "mapanon":
        return this.mapAnon(word(args[0]), num(args[1]), num(args[2]), num(args[3]));
      case "mprotect":
        return this.say(
          `mprotect errno=${-this.machine.host.mprotect(this.hva(args[0], args[1]), num(args[2]), protection(word(args[3])))}`,
        );
      case "madvise":
        return this.say(`madvise errno=${-this.machine.host.madvise(this.hva(args[0], args[1]), num(args[2]), advice(word(args[3])))}`);
      case "ftruncate":
        return this.say(`ftruncate errno=${-this.machine.host.ftruncate(this.backing(args[0]).fd, num(args[1]))}`);
      case "fallocate":
        return this.say(
          `fallocate errno=${-this.machine.host.fallocate(this.backing(args[0]).fd, num(args[1]), num(args[2]), num(args[3]))}`,
        );
      case "close":
        return this.say(`close errno=${-this.machine.host.close(this.backing(args[0]).fd)}`);
      case "fork":
        this.child = this.machine.host.fork();
        return this.say(`fork errno=${this.child < 0 ? -this.child : 0}`);
      case "forkend":
        return this.say(`forkend errno=${-this.machine.host.kill(this.child)}`);
      case "hw":
      case "hw32":
      case "hw8":
        return this.hostWrite(word(args[0]), num(args[1]), big(args[2]), verb === "hw" ? 8 : verb === "hw32" ? 4 : 1);
      case "hr":
      case "hr32":
      case "hr8":
        return this.hostRead(word(args[0]), num(args[1]), verb === "hr" ? 8 : verb === "hr32" ? 4 : 1);
      case "dirty":
        return this.dirty(num(args[0]));
      case "cleardirty":
        return this.say(`cleardirty errno=${-this.needVm().clearDirtyLog(num(args[0]), num(args[1]), num(args[2]))}`);
      case "vfio":
        return this.vfio(word(args[0]), args[1]);
      case "s2dump":
        return this.dump(step);
      case "sysfs":
        return this.sysfs(word(args[0]), word(args[1]));
      case "regs":
      case "smaps":
      case "stats":
        return;
      default:
        throw new BadCommand(`no command "${verb ?? ""}"`);
    }
  }

  /** Of the files of /sys only those of transparent huge pages are modelled; of the others nothing is observed. */
  private sysfs(path: string, value: string): void {
    if (path.startsWith(THP)) this.machine.call(0, { call: "transparent_hugepage", file: path.slice(THP.length), value });
  }

  // ---- the VM ----

  private createVm(): void {
    const m = this.machine;
    this.vm = m.createVm();
    const hva = this.reserve(CODE_SIZE, 0);
    m.host.mmap({ addr: hva, length: CODE_SIZE, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED });
    m.host.madvise(hva, CODE_SIZE, MADV_NOHUGEPAGE);
    for (let i = 0; i < this.code.words.length; i += 2) {
      const lo = BigInt(this.code.words[i]! >>> 0);
      const hi = BigInt(this.code.words[i + 1]! >>> 0);
      m.host.write(hva + 4 * i, 8, (hi << 32n) | lo);
    }
    this.vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: CODE_BASE, memorySize: CODE_SIZE, userspaceAddr: hva });
    this.vcpu = this.vm.createVcpu();
    this.vcpu.set("vbar_el1", BigInt(CODE_BASE));
    // FP enabled: CPACR_EL1.FPEN = 3.
    this.vcpu.set("cpacr_el1", 0x300000n);
  }

  private needVm(): Vm {
    if (this.vm === undefined) throw new BadCommand("a command that needs a VM before `vm`");
    return this.vm;
  }

  private cap(cap: number, value: number): void {
    const vm = this.needVm();
    const has = vm.checkExtension(cap);
    this.say(`cap cap=${cap} has=${has} errno=${-vm.enableCap(cap, value)}`);
  }

  private slot(id: number, gpa: number, size: number, name: string, offset: number, flags: string): void {
    const hva = this.backing(name).base + offset;
    const ret = flags === "gmem" ? this.region2(id, gpa, size, name, offset) : this.region(id, gpa, size, hva, flags);
    this.say(`slot id=${id} size=${hexC(size)} errno=${-ret}`);
  }

  private region(id: number, gpa: number, size: number, hva: number, flags: string): number {
    const bits = (flags.includes("log") ? KVM_MEM_LOG_DIRTY_PAGES : 0) | (flags.includes("ro") ? KVM_MEM_READONLY : 0);
    const ret = this.needVm().setUserMemoryRegion({ slot: id, flags: bits, guestPhysAddr: gpa, memorySize: size, userspaceAddr: hva });
    if (ret === 0) this.slots.set(id, { gpa, size, hva });
    return ret;
  }

  private region2(id: number, gpa: number, size: number, name: string, offset: number): number {
    const b = this.backing(name);
    const hva = b.base + offset;
    const ret = this.needVm().setUserMemoryRegion2({
      slot: id,
      flags: KVM_MEM_GUEST_MEMFD,
      guestPhysAddr: gpa,
      memorySize: size,
      userspaceAddr: hva,
      guestMemfd: b.fd,
      guestMemfdOffset: offset,
    });
    if (ret === 0) this.slots.set(id, { gpa, size, hva });
    return ret;
  }

  private slotFlags(id: number, flags: string): void {
    const s = this.slots.get(id);
    const ret = s === undefined ? -22 : this.region(id, s.gpa, s.size, s.hva, flags);
    this.say(`slot id=${id} errno=${-ret}`);
  }

  private slotDelete(id: number): void {
    const s = this.slots.get(id);
    const ret = this.region(id, s?.gpa ?? 0, 0, s?.hva ?? 0, "-");
    this.say(`slot id=${id} size=0 errno=${-ret}`);
  }

  private dirty(id: number): void {
    const { ret, pages } = this.needVm().getDirtyLog(id);
    this.say(`dirty errno=${-ret} pages=${ret < 0 || pages.length === 0 ? "-" : pages.join(",")}`);
  }

  private dump(step: Step): void {
    const form = step.observed.find((o) => o.kind === "=")?.text;
    if (form === undefined) return;
    if (form.startsWith("ptdump")) {
      for (const line of this.needVm().ptdump().split("\n")) if (line !== "") this.say(`ptdump ${line.trim()}`);
      return;
    }
    // A dump that found nothing where something is mapped is that kernel's form of the answer.
    if (form === "s2 leaves=0" && dumpsNoLeaves(this.machine.era.era)) return this.say(form);
    const leaves = this.needVm().stage2Leaves();
    for (const l of leaves) {
      this.say(`s2 ipa=${hex(l.ipa)} level=${l.level} s2ap=${l.s2ap} memattr=${l.memattr} xn=${l.xn} af=${l.af} cont=${l.cont}`);
    }
    this.say(`s2 leaves=${leaves.length}`);
  }

  // ---- backings ----

  /** A PROT_NONE reservation of whole 2 MiB blocks, with a hole behind it, so that neighbours never merge. */
  private reserve(size: number, misalign: number): number {
    const { host } = this.machine;
    const length = Math.ceil((size + misalign) / BLOCK) * BLOCK;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const at = host.mmap({ length: length + BLOCK, align: BLOCK, prot: PROT_NONE, flags });
    host.munmap(at + length, BLOCK);
    return at + misalign;
  }

  private back(name: string, kind: string, sizeText: string | undefined, misalignText: string | undefined): void {
    const host = this.machine.host;
    const bar = /^bar([0-5])$/.exec(kind);
    let fd = -1;
    let offset = 0;
    let pa = -1;
    let size = sizeText === undefined ? 0 : num(sizeText);
    if (bar !== null) {
      const index = Number(bar[1]);
      const device = this.needDevice();
      const info = device.regionInfo(index);
      size ||= Math.ceil(info.size / 4096) * 4096;
      fd = device.fd;
      offset = info.offset;
      pa = info.physAddr;
    } else if (kind === "memfd") {
      fd = host.memfdCreate(size);
    } else if (kind === "gmem") {
      fd = this.needVm().createGuestMemfd(size, GUEST_MEMFD_MMAP_INIT_SHARED);
      if (fd < 0) return this.say(`back name=${name} kind=${kind} size=${hexC(size)} errno=${-fd}`);
    } else if (kind === "filero") {
      fd = host.openReadOnlyFile(size);
    }
    if (size === 0) throw new BadCommand("expected a size");
    const base = this.reserve(size, misalignText === undefined ? 0 : num(misalignText));
    const backing: Backing = { name, kind, base, size, fd, offset, pa };
    this.backings.set(name, backing);
    const ret = this.mapBacking(backing, 0, size);
    this.say(`back name=${name} kind=${kind} size=${hexC(size)} errno=${ret < 0 ? -ret : 0}`);
  }

  /** Maps (part of) a backing at its place, with its kind's madvise. */
  private mapBacking(b: Backing, offset: number, length: number): number {
    const host = this.machine.host;
    const shared = b.kind === "memfd" || b.kind === "gmem" || b.pa >= 0 || b.kind.startsWith("bar");
    const anonymous = b.fd < 0;
    const ret = host.mmap({
      addr: b.base + offset,
      length,
      prot: b.kind === "filero" ? PROT_READ : PROT_READ | PROT_WRITE,
      flags: (shared ? MAP_SHARED : MAP_PRIVATE) | (anonymous ? MAP_ANONYMOUS : 0) | (b.kind === "hugetlb" ? MAP_HUGETLB : 0) | MAP_FIXED,
      fd: b.fd,
      offset: anonymous ? 0 : b.offset + offset,
    });
    if (ret < 0) return ret;
    if (b.kind === "nohuge") return host.madvise(b.base + offset, length, MADV_NOHUGEPAGE);
    if (b.kind === "thp") return host.madvise(b.base + offset, length, MADV_HUGEPAGE);
    return 0;
  }

  private backing(name: string | undefined): Backing {
    const b = this.backings.get(word(name));
    if (b === undefined) throw new BadCommand(`no backing named ${name ?? ""}`);
    return b;
  }

  private hva(name: string | undefined, offset: string | undefined): number {
    return this.backing(name).base + num(offset);
  }

  private remap(name: string, offset: number, length: number): void {
    const ret = this.mapBacking(this.backing(name), offset, length);
    this.say(`remap errno=${ret < 0 ? -ret : 0}`);
  }

  private mapAnon(name: string, offset: number, length: number, byte: number): void {
    const host = this.machine.host;
    const addr = this.backing(name).base + offset;
    const ret = host.mmap({ addr, length, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED });
    if (ret >= 0) {
      host.madvise(addr, length, MADV_NOHUGEPAGE);
      const pattern = BigInt(byte & 255) * 0x0101010101010101n;
      for (let at = 0; at < length; at += 8) host.write(addr + at, 8, pattern);
    }
    this.say(`mapanon errno=${ret < 0 ? -ret : 0}`);
  }

  private hostWrite(name: string, offset: number, value: bigint, size: number): void {
    const { signal } = this.machine.host.write(this.backing(name).base + offset, size, BigInt.asUintN(8 * size, value));
    this.say(`hostwrite ${name}+${hexC(offset)} size=${size} val=${hexC(value)}${signalText(signal)}`);
  }

  private hostRead(name: string, offset: number, size: number): void {
    const { value, signal } = this.machine.host.read(this.backing(name).base + offset, size);
    this.say(`hostread ${name}+${hexC(offset)} size=${size} val=${signal === undefined ? hexC(value) : "None"}${signalText(signal)}`);
  }

  // ---- the device ----

  private needDevice(): VfioDevice {
    if (this.device === undefined) throw new BadCommand("a command that needs a device before `vfio open`");
    return this.device;
  }

  private vfio(what: string, argument: string | undefined): void {
    switch (what) {
      case "open": {
        this.device = this.machine.vfio.open(word(argument));
        for (let index = 0; index < 9; index++) {
          const info = this.device.regionInfo(index);
          if (info.ret === 0 && info.size > 0) this.say(`region index=${index} size=${hexC(info.size)} flags=${info.flags}`);
        }
        return;
      }
      case "mem":
        return this.pciCommand((old) => (num(argument) === 0 ? old & ~2 : old | 2));
      case "cmd":
        return this.pciCommand(() => num(argument));
      case "reset":
        return this.say(`vfioreset errno=${-this.needDevice().reset()}`);
      default:
        throw new BadCommand(`no vfio command "${what}"`);
    }
  }

  private pciCommand(change: (old: number) => number): void {
    const device = this.needDevice();
    const old = device.configRead(4, 2);
    const write = change(old);
    const rc = device.configWrite(4, 2, write);
    this.say(`pcicmd old=${hexC(old)} write=${hexC(write)} rc=${rc} new=${hexC(device.configRead(4, 2))}`);
  }

  // ---- the guest ----

  private operation(name: string, args: readonly bigint[]): void {
    const vcpu = this.needVcpu();
    const entry = this.code.entry.get(name);
    if (entry === undefined) throw new BadCommand(`no operation "${name}"`);
    for (let n = 0; n < 6; n++) vcpu.set(`x${n}`, args[n] ?? 0n);
    vcpu.set("pc", BigInt(entry));
    // What the last operation left unfinished is dropped: this one starts afresh.
    vcpu.cancelMmio();
    vcpu.set("pstate", 0x3c5n);
    this.exception = [];
    this.run();
  }

  private needVcpu(): Vcpu {
    if (this.vcpu === undefined) throw new BadCommand("a command that needs a vCPU before `vm`");
    return this.vcpu;
  }

  private skip(): void {
    const vcpu = this.needVcpu();
    vcpu.set("pc", vcpu.get("pc") + 4n);
    this.run();
  }

  /** KVM_RUN with immediate_exit: a pending access is completed. */
  private immediate(): void {
    const vcpu = this.needVcpu();
    const before = vcpu.get("pc");
    const { ret, exit } = vcpu.run({ immediateExit: true });
    this.reported = false;
    const pc = vcpu.get("pc");
    const vector = pc - BigInt(CODE_BASE);
    const where = vector >= 0n && vector < 0x800n ? `vector+${hexC(vector)}` : hexC(pc - before);
    this.say(`immediate errno=${errnoName(ret)} exit=${exit.reason} pc=${where} x4=${hexC(vcpu.get("x4"))}`);
  }

  /** Runs the guest until it has finished the operation, or cannot go on. */
  private run(): void {
    const vcpu = this.needVcpu();
    if (!this.left && !this.reported) vcpu.cancelMmio();
    this.left = this.reported = false;
    let slices = 0;
    // Where the guest is before a single instruction is tried: one that leads to itself makes no progress.
    let tried: bigint | undefined;
    for (let exits = 0; exits < MOST_EXITS;) {
      const result = vcpu.run({ maxExits: MOST_EXITS, maxInstructions: tried === undefined ? SLICE : 1 });
      if (this.machine.crashed !== undefined) return;
      if (result.exit.reason === "BUDGET" && slices++ < MOST_SLICES && vcpu.get("pc") !== tried) {
        tried = tried === undefined ? vcpu.get("pc") : undefined;
        continue;
      }
      tried = undefined;
      exits++;
      if (result.ret < 0 || result.exit.reason !== "MMIO") return this.stopped(result);
      if (this.mmio(result.exit)) return;
    }
    this.stopped({ ret: -4, exit: { reason: "NO_PROGRESS" } });
  }

  /** @returns true if this access reported the end of the operation, or ends it (`leave`). */
  private mmio(exit: Extract<ExitInfo, { reason: "MMIO" }>): boolean {
    const vcpu = this.needVcpu();
    if (exit.isWrite && exit.physAddr === DONE_IPA) {
      this.say(`done x0=${hexC(exit.data)} x4=${hexC(vcpu.get("x4"))}`);
      return (this.reported = true);
    }
    if (exit.isWrite && exit.physAddr >= EXCEPTION_IPA && exit.physAddr < EXCEPTION_IPA + 8 * EXCEPTION_WORDS) {
      this.exception[(exit.physAddr - EXCEPTION_IPA) / 8] = exit.data;
      return exit.physAddr === EXCEPTION_IPA + 8 * (EXCEPTION_WORDS - 1) && this.guestException();
    }
    const data = exit.isWrite ? exit.data : BigInt.asUintN(8 * exit.len, UNBACKED);
    this.say(`exit MMIO ${exit.isWrite ? "write" : "read"} ipa=${hexC(exit.physAddr)} len=${exit.len} data=${hexC(data)}`);
    if (!exit.isWrite) vcpu.answerMmio(data);
    return (this.left = this.leave);
  }

  private guestException(): boolean {
    const [esr, far, spsr, , vector] = this.exception as [bigint, bigint, bigint, bigint, bigint];
    // The recorder looks at all of ESR above bit 26: an abort whose upper half is not zero shows no FAR.
    const abort = [0x20n, 0x21n, 0x24n, 0x25n].includes(esr >> 26n);
    this.say(`guest-exception esr=${hexC(esr)} far=${abort ? hexC(far) : "-"} spsr=${hexC(spsr)} vector=${hexC(vector)}`);
    return (this.reported = true);
  }

  private stopped({ ret, exit, signal }: RunResult): void {
    // The recorder's alarm ends a guest that makes no progress.
    if (exit.reason === "NO_PROGRESS" || exit.reason === "BUDGET" || exit.reason === "SELF_BRANCH") {
      return this.say("run errno=EINTR exit=INTR signal=SIGALRM si_code=128");
    }
    if (exit.reason === "ARM_NISV" && ret >= 0) {
      return this.say(`exit ARM_NISV esr_iss=${hexC(exit.esrIss)} fault_ipa=${hexC(exit.faultIpa)}`);
    }
    if (ret < 0) return this.say(`run errno=${errnoName(ret)} exit=${exit.reason}${signalText(signal)}`);
    this.say(`exit ${exit.reason}`);
  }

  // ---- events ----

  private note(e: EventRecord): void {
    if (this.unlisted.has(e.event)) return;
    if (this.events.length >= MOST_EVENTS) return;
    const text = this.eventText(e);
    if (text !== undefined) this.events.push({ kind: "~", text });
  }

  private eventText(e: EventRecord): string | undefined {
    const n = (field: string) => e[field] as number;
    switch (e.event) {
      case "kvm_guest_fault": {
        const page = Math.floor(n("ipa") / 4096) * 4096;
        if (page === DONE_IPA) return undefined;
        const far = e["hxfar"] as string;
        return `fault ipa=${hex(page)} esr=${e["hsr"]} far=${inCodePage(far) ? "code" : far}`;
      }
      case "guest_abort":
        return n("ret") === 0 && this.lastExitWasMmio(e) ? undefined : `guest_abort ret=${n("ret")}`;
      case "pfn_lookup":
        if (e["source"] === "guest-memfd") return undefined; // kvm_gmem_get_pfn is no hva_to_pfn
        return e["error"] === true ? "pfn error" : `pfn ${this.physical(n("pfn") * 4096)}`;
      case "stage2_set":
        return (
          `s2set ipa=${hex(n("ipa"))} size=${hex(n("size"))} pa=${this.physical(n("pa"))} s2ap=${n("s2ap")} ` +
          `memattr=${n("memattr")} xn=${n("xn")} af=${n("af")}${e["iomap"] === true ? " iomap" : ""}`
        );
      case "stage2_map":
        return `s2map ipa=${hex(n("ipa"))} size=${hex(n("size"))} pa=${this.physical(n("pa"))} prot=${protText(n("prot"))}`;
      case "stage2_relax":
        return `s2relax ipa=${hex(n("ipa"))} prot=${protText(n("prot"))}`;
      case "stage2_unmap":
        return `s2unmap ipa=${hex(n("ipa"))} size=${hex(n("size"))}`;
      case "stage2_wrprotect":
        return `s2wrprotect ipa=${hex(n("ipa"))} size=${hex(n("size"))}`;
      case "stage2_split":
        return `s2split ipa=${hex(n("ipa"))} size=${hex(n("size"))}`;
      case "kvm_unmap_hva_range":
        return this.hvaRange(n("start"), n("end"));
      case "kvm_set_spte_hva": {
        const at = this.symbolic(n("hva"));
        return at === undefined ? undefined : `set_spte_hva ${at}`;
      }
      case "eager_map":
        return `eager_map ipa=${hex(n("ipa"))} size=${hex(n("size"))} pa=${this.physical(n("pa"))} writable=${Number(e["writable"])}`;
      case "inject_pabt":
      case "inject_dabt":
        return `${e.event} far=${e["far"]}`;
      // Functions without an address argument: a probe on them shows none.
      case "inject_vabt":
      case "inject_size":
      case "inject_undef":
        return e.event;
      case "inject_sea":
        return `inject_sea iabt=${Number(e["iabt"])} far=${e["far"]}`;
      case "vfio_mmap":
      case "vfio_fault":
      case "vfio_huge_fault":
        return `${e.event} ret=${n("ret") === 0 ? 0 : hex(n("ret"))}`;
      case "vfio_zap":
        return "vfio_zap";
      case "kvm_mmio_nisv":
        return `mmio_nisv ipa=${hex(n("ipa"))} esr=${e["esr"]} far=${e["far"]}`;
      case "kvm_access_fault":
        return `access_fault ipa=${hex(n("ipa"))}`;
      case "kvm_userspace_exit":
        return this.userspaceExit(n("reason"), n("errno"));
      default:
        return undefined;
    }
  }

  /** Returns of KVM_RUN: MMIO exits and interrupted runs are not listed. */
  private userspaceExit(reason: number, errno: number): string | undefined {
    if (errno < 0) return errno === -4 ? undefined : `userspace_exit error (${-errno})`;
    return reason === 28 ? "userspace_exit ARM_NISV (28)" : undefined;
  }

  private lastExitWasMmio(e: EventRecord): boolean {
    return e["mmio"] === true || this.machine.exitReason(this.needVcpu().id) === "MMIO";
  }

  /** A host range that lies inside a backing, as NAME+offset; others are not listed. */
  private hvaRange(start: number, end: number): string | undefined {
    for (const b of this.backings.values()) {
      if (start < b.base || end > b.base + b.size) continue;
      return `unmap_hva_range ${b.name}+${hex(start - b.base)}..${b.name}+${hex(end - b.base)}`;
    }
    return undefined;
  }

  private symbolic(hva: number): string | undefined {
    for (const b of this.backings.values()) if (hva >= b.base && hva < b.base + b.size) return `${b.name}+${hex(hva - b.base)}`;
    return undefined;
  }

  /** A physical address inside a BAR backing by name; host memory has no name. */
  private physical(pa: number): string {
    for (const b of this.backings.values()) if (b.pa >= 0 && pa >= b.pa && pa < b.pa + b.size) return `${b.name}+${hex(pa - b.pa)}`;
    return hex(pa);
  }
}

/** A command that this replayer cannot carry out: the recording is broken. */
class BadCommand extends Error {}

/** Three consecutive s2set of a kind are listed, the rest counted. */
function compress(events: readonly Observation[]): Observation[] {
  const out: Observation[] = [];
  const kindOf = (text: string) => text.replace(/ipa=\S+ | pa=\S+/g, "");
  for (let i = 0; i < events.length;) {
    const text = events[i]!.text;
    let n = 1;
    if (text.startsWith("s2set ")) while (i + n < events.length && kindOf(events[i + n]!.text) === kindOf(text)) n++;
    out.push(...events.slice(i, i + Math.min(n, 3)));
    if (n > 3) out.push({ kind: "~", text: `s2set-more ${n - 3}` });
    i += n;
  }
  return out;
}

function inCodePage(far: string): boolean {
  const at = Number(far);
  return at >= CODE_BASE && at < CODE_BASE + 4096;
}

/** Permission bits as the recordings write them: R, W, X, then the type. */
function protText(prot: number): string {
  const letters = (prot & 4 ? "R" : "") + (prot & 2 ? "W" : "") + (prot & 1 ? "X" : "");
  return letters + (prot & 8 ? "+DEVICE" : "") + (prot & 16 ? "+NC" : "");
}

function signalText(signal: { readonly name: string; readonly code: number } | undefined): string {
  return signal === undefined ? "" : ` signal=${signal.name} si_code=${signal.code}`;
}

function word(text: string | undefined): string {
  if (text === undefined) throw new BadCommand("an argument is missing");
  return text;
}
function big(text: string | undefined): bigint {
  const t = word(text);
  if (!/^(0x[0-9a-fA-F]+|[0-9]+)$/.test(t)) throw new BadCommand(`expected a number, not "${t}"`);
  return BigInt(t);
}
function num(text: string | undefined): number {
  const v = big(text);
  if (v > BigInt(Number.MAX_SAFE_INTEGER)) throw new BadCommand(`${text} is too large here`);
  return Number(v);
}
function protection(text: string): number {
  return (text.includes("r") ? PROT_READ : 0) | (text.includes("w") ? PROT_WRITE : 0) | (text.includes("x") ? PROT_EXEC : 0);
}
function advice(text: string): number {
  const value = ADVICE[text];
  if (value === undefined) throw new BadCommand(`no advice "${text}"; known: ${Object.keys(ADVICE).join(", ")}`);
  return value;
}
