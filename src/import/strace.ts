/**
 * A VMM's system calls, as strace prints them, to the calls of a guest script: memslots, and the host mappings
 * below them. Host addresses stay those of the trace, so that what depends on their alignment stays as it was.
 */
import { CONSTANTS } from "../guest/constants.js";
import { LIMITS } from "../guest/limits.js";
import type { Diagnostics } from "../guest/diagnostics.js";
import { guestBlock, hex, Skeleton, type Import } from "./skeleton.js";
import { aroundCode, type Slot } from "./slots.js";
import { numberOf, readStrace, type Call } from "./stracelines.js";

interface Range {
  readonly start: number;
  readonly end: number;
}
/** VFIO_PCI_INDEX_TO_OFFSET: offsets in a device's file from here on are those of BAR 1 and above. */
const VFIO_REGION = 2 ** 40;
const MEMORY_CALLS = ["mmap", "munmap", "mprotect", "madvise"];
const SLOT = /^\{slot=([^,]+), flags=([^,]+), guest_phys_addr=([^,]+), memory_size=([^,]+), userspace_addr=([^,}]+)(?:, .*)?\}$/;

interface Region extends Slot {
  readonly flags: string;
  readonly call: Call;
}

/** @param errors takes what is wrong with the file */
export function importStrace(file: string, source: string, errors: Diagnostics): Import {
  const read = readStrace(source);
  const wrong = (c: Call, message: string, hint = ""): void =>
    errors.add({ at: offsetOf(source, c.line), line: c.line, column: 1, length: c.text.length }, message, hint);
  const regions = read.calls.flatMap((c) => (c.args[1] === "KVM_SET_USER_MEMORY_REGION" && c.error === "" ? [regionOf(c, wrong)] : []));
  errors.throwIfAny();
  const slots = regions.filter((r) => r !== undefined);
  if (slots.length === 0) {
    const first = { at: 0, line: 1, column: 1, length: 1 };
    errors.add(
      first,
      "no KVM_SET_USER_MEMORY_REGION in this file",
      "trace the VMM from its start: strace -f -e trace=ioctl,mmap,munmap,mprotect,madvise",
    );
    errors.throwIfAny();
  }
  return new Conversion(file, read.calls, slots, read).result();
}

const offsetOf = (source: string, line: number): number => {
  let at = 0;
  for (let n = 1; n < line; n++) at = source.indexOf("\n", at) + 1;
  return at;
};

function regionOf(call: Call, wrong: (c: Call, message: string, hint?: string) => void): Region | undefined {
  const m = SLOT.exec(call.args[2] ?? "");
  if (m === null) {
    wrong(call, "a memory region that strace did not decode", "{slot=…, flags=…, guest_phys_addr=…, memory_size=…, userspace_addr=…}");
    return undefined;
  }
  const [id, gpa, size, hva] = [m[1], m[3], m[4], m[5]].map(numberOf) as [number, number, number, number];
  if (![id, gpa, size, hva].every((n) => n >= 0)) {
    wrong(call, "a memory region with a value that is no number, or below 0");
    return undefined;
  }
  return { id, gpa, size, hva, flags: m[2]!, call };
}

/** The words of a flags argument that scripts know, and those that they do not. */
function flagsOf(text: string): { known: string[]; unknown: string[] } {
  const known: string[] = [];
  const unknown: string[] = [];
  for (const raw of text.split("|")) {
    // strace writes a size of huge pages as 21<<MAP_HUGE_SHIFT.
    const word = raw === "21<<MAP_HUGE_SHIFT" ? "MAP_HUGE_2MB" : raw === "30<<MAP_HUGE_SHIFT" ? "MAP_HUGE_1GB" : raw;
    (CONSTANTS.has(word) || !Number.isNaN(numberOf(word)) ? known : unknown).push(word);
  }
  return { known, unknown };
}

class Conversion {
  private readonly out = new Skeleton();
  /** The host ranges behind all memslots of the trace. */
  private readonly ranges: Range[];
  /** Mappings, later ones over earlier ones. */
  private readonly mapped: (Range & { readonly readable: boolean })[] = [];
  private readonly live = new Map<number, Slot>();
  private readonly files = new Set<number>();
  /** By file descriptor: the end of the last part of the file that the trace maps. */
  private readonly extents = new Map<number, number>();
  private readonly regionOf: Map<Call, Region>;
  private readonly vm: string | undefined;
  private readonly vcpus = new Map<string, number>();
  private device = false;
  /** Something changed since the guest last ran. */
  private changed = true;

  constructor(
    private readonly file: string,
    private readonly calls: readonly Call[],
    regions: readonly Region[],
    private readonly read: ReturnType<typeof readStrace>,
  ) {
    this.vm = mainVm(regions);
    const own = regions.filter((r) => r.call.args[0] === this.vm);
    this.regionOf = new Map(own.map((r) => [r.call, r]));
    this.ranges = own.filter((r) => r.size > 0).map((r) => ({ start: r.hva, end: r.hva + r.size }));
    for (const c of calls) {
      const end = numberOf(c.args[5]) + numberOf(c.args[1]);
      const fd = numberOf(c.args[4]);
      if (c.name === "mmap" && c.error === "" && end < VFIO_REGION) this.extents.set(fd, Math.max(this.extents.get(fd) ?? 0, end));
    }
  }

  result(): Import {
    const { others } = this.read;
    let at = 0;
    for (const c of this.calls) {
      for (let o = others[at]; o !== undefined && o.line < c.line; o = others[++at]) this.out.unknown(o.line, o.text);
      this.call(c);
    }
    for (const o of others.slice(at)) this.out.unknown(o.line, o.text);
    if (this.changed) this.touch(0, 0, "the trace has no KVM_RUN after this: here is a guest");
    return this.out.done(`Imported from ${this.file.replace(/^.*\//, "")}`, this.read.lines, this.device ? ["ivshmem"] : []);
  }

  private call(c: Call): void {
    if (c.result === "?") return this.leave();
    if (c.error !== "") {
      // The interrupted KVM_RUN is every second line of a trace.
      if (c.args[1] === "KVM_RUN" && c.error === "EFAULT") this.fault(c);
      else if (this.concerns(c) && c.args[1] !== "KVM_RUN") this.out.add(c.line, "", `line ${c.line} failed with ${c.error}: ${c.text}`);
      else this.leave();
    } else if (MEMORY_CALLS.includes(c.name)) this.memory(c);
    else if (c.name === "ioctl") this.ioctl(c);
    else this.out.unknown(c.line, c.text);
  }
  private leave(): void {
    this.out.leftOut++;
  }

  private ioctl(c: Call): void {
    const what = c.args[1] ?? "";
    const region = this.regionOf.get(c);
    if (region !== undefined) this.slot(region);
    else if (what === "KVM_CREATE_VM") this.createVm(c);
    else if (what === "KVM_CREATE_VCPU" && c.args[0] === this.vm && numberOf(c.args[2]) >= 0)
      this.vcpus.set(numberOf(c.result).toString(), numberOf(c.args[2]));
    else if (what === "KVM_RUN") this.run(c);
    else if (/^[A-Z]/.test(what)) this.leave();
    else this.out.unknown(c.line, c.text);
  }

  private createVm(c: Call): void {
    const bits = numberOf(c.args[2]) & 0xff;
    // A file descriptor is used again: the VM is the last one of this number before its first memslot.
    const first = [...this.regionOf.values()][0]!.call.line;
    const last = this.calls.findLast((o) => o.args[1] === "KVM_CREATE_VM" && o.line < first && numberOf(o.result) === numberOf(this.vm));
    if (c !== last || !(bits >= 32)) return this.leave();
    this.out.add(c.line, `KVM_CREATE_VM(ipa_bits=${bits})`);
  }

  private slot(r: Region): void {
    const { known, unknown } = flagsOf(r.flags);
    const old = this.live.get(r.id);
    if (r.size > 0) this.backing(r);
    const { parts, remark } = aroundCode(r.size > 0 || old === undefined ? r : { ...old, id: r.id });
    const said = unknown.length > 0 ? `flags left out: ${unknown.join(", ")}` : "";
    for (const p of parts) {
      const flags = known.filter((f) => f !== "0").length === 0 ? "" : `flags=${known.join("|")}, `;
      const size = r.size > 0 ? hex(p.size) : "0";
      this.out.add(
        r.call.line,
        `KVM_SET_USER_MEMORY_REGION(slot=${p.id}, ${flags}guest_phys_addr=${hex(p.gpa)}, memory_size=${size}, userspace_addr=${hex(p.hva)})`,
        [remark, said].filter((t) => t !== "").join("; "),
      );
    }
    if (r.size > 0) this.live.set(r.id, r);
    else this.live.delete(r.id);
    this.changed = true;
  }

  /** A trace that began too late does not show the mapping: the slot gets anonymous memory. */
  private backing(r: Region): void {
    const end = r.hva + r.size;
    if (this.mapped.some((m) => m.start < end && m.end > r.hva)) return;
    this.out.add(
      0,
      `mmap(${hex(r.hva)}, ${hex(r.size)}, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)`,
      "not in the trace: anonymous memory stands for it",
    );
    this.mapped.push({ start: r.hva, end, readable: true });
  }

  /** Whether a call is about host memory that a memslot of the trace shows the guest. */
  private concerns(c: Call): boolean {
    if (!MEMORY_CALLS.includes(c.name)) return c.args[0] === this.vm;
    const start = numberOf(c.name === "mmap" && c.error === "" ? c.result : c.args[0]);
    const end = start + numberOf(c.args[1]);
    return this.ranges.some((r) => r.start < end && r.end > start);
  }

  private memory(c: Call): void {
    const length = numberOf(c.args[1]);
    const start = numberOf(c.name === "mmap" ? c.result : c.args[0]);
    if (Number.isNaN(length) || Number.isNaN(start)) return this.out.unknown(c.line, c.text);
    if (!this.concerns(c)) return this.leave();
    this.changed = true;
    const range = { start, end: start + length };
    const args = `${hex(start)}, ${hex(length)}`;
    if (c.name === "munmap") {
      this.mapped.push({ ...range, readable: false });
      return this.out.add(c.line, `munmap(${args})`);
    }
    const word = flagsOf(c.args[2] ?? "");
    if (word.unknown.length > 0) return this.out.unknown(c.line, c.text);
    const prot = word.known.join("|");
    if (c.name === "madvise") return this.out.add(c.line, `madvise(${args}, ${prot})`);
    this.mapped.push({ ...range, readable: prot.includes("PROT_READ") });
    if (c.name === "mprotect") return this.out.add(c.line, `mprotect(${args}, ${prot})`);
    this.mmap(c, range, prot);
  }

  private mmap(c: Call, range: Range, prot: string): void {
    const { known, unknown } = flagsOf(c.args[3] ?? "");
    const dropped = [...unknown];
    // The pools of hugetlb pages and the memory to populate are the host's, and the trace does not show them.
    const keep = known.filter((f) => {
      const goes = f.startsWith("MAP_HUGE") || f === "MAP_POPULATE" || f === "MAP_FIXED" || f === "MAP_FIXED_NOREPLACE";
      if (goes && !f.startsWith("MAP_FIXED")) dropped.push(f);
      return !goes;
    });
    const flags = [...keep, "MAP_FIXED"].join("|");
    const note = dropped.length > 0 ? `flags left out: ${dropped.join(", ")}` : "";
    const args = `mmap(${hex(range.start)}, ${hex(range.end - range.start)}, ${prot}, ${flags}`;
    if (keep.includes("MAP_ANONYMOUS")) return this.out.add(c.line, `${args})`, note);
    const fd = numberOf(c.args[4]);
    const offset = numberOf(c.args[5]);
    // With a negative descriptor a real kernel says EBADF: the line is damaged.
    if (!(fd >= 0) || Number.isNaN(offset)) return this.out.unknown(c.line, c.text);
    const said = (text: string): string => [text, note].filter((t) => t !== "").join("; ");
    if (offset >= VFIO_REGION || (c.args[4] ?? "").includes("vfio")) {
      const inBar = offset % VFIO_REGION;
      if (range.end - range.start + inBar <= 0x1000000) {
        this.open(c.line, fd, `vfio_open(0000:00:06.0)`, "a device on vfio-pci: ivshmem stands for it");
        this.device = true;
        return this.out.add(
          c.line,
          `${args}, fd${fd}, bar2 + ${hex(inBar)})`,
          said(`BAR ${Math.floor(offset / VFIO_REGION)} of the real device`),
        );
      }
      // No modelled BAR is so large.
      return this.out.add(
        c.line,
        `mmap(${hex(range.start)}, ${hex(range.end - range.start)}, ${prot}, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)`,
        said("a BAR larger than any modelled one: anonymous memory stands for it"),
      );
    }
    const named = /<(.*)>$/.exec(c.args[4] ?? "")?.[1];
    this.open(
      c.line,
      fd,
      `memfd_create("fd${fd}")`,
      named === undefined ? "a file that the trace does not name: a memory file stands for it" : `stands for ${named}`,
    );
    this.out.add(c.line, `ftruncate(fd${fd}, ${hex(this.extent(fd))})`);
    this.out.add(c.line, `${args}, fd${fd}, ${hex(offset)})`, note);
  }

  private open(line: number, fd: number, call: string, comment: string): void {
    if (this.files.has(fd)) return;
    this.files.add(fd);
    this.out.add(line, `let fd${fd} = ${call}`, comment);
  }
  private extent(fd: number): number {
    return Math.ceil((this.extents.get(fd) ?? 0) / 4096) * 4096;
  }

  private run(c: Call): void {
    const vcpu = this.vcpus.get(numberOf(c.args[0]).toString()) ?? 0;
    if (!this.changed || !(vcpu < LIMITS.vcpus)) return this.leave();
    this.touch(c.line, vcpu, "what the guest does is not in the trace: one load from each memslot");
  }
  /** The address is not in the trace. Memory of a slot that is not mapped any more is the first to be suspected. */
  private fault(c: Call): void {
    const vcpu = this.vcpus.get(numberOf(c.args[0]).toString()) ?? 0;
    if (!(vcpu < LIMITS.vcpus)) return this.leave();
    this.changed = false;
    for (const slot of [...this.live.values()].flatMap((s) => aroundCode(s).parts)) {
      const edges = this.mapped.flatMap((m) => [m.start, m.end]).filter((a) => a > slot.hva && a < slot.hva + slot.size);
      const hole = [slot.hva, ...edges].sort((a, b) => a - b).find((a) => !this.readable(a));
      if (hole === undefined) continue;
      this.out.add(
        c.line,
        guestBlock([slot.gpa + hole - slot.hva], vcpu === 0 ? "" : `vcpu${vcpu} `),
        `line ${c.line}: KVM_RUN failed with EFAULT; the trace does not say where: here slot ${slot.id} has no readable mapping`,
      );
      return this.out.add(c.line, "expect errno EFAULT");
    }
    this.out.add(c.line, "", `line ${c.line}: KVM_RUN failed with EFAULT; the trace does not say where, and every slot is mapped here`);
  }
  private touch(line: number, vcpu: number, comment: string): void {
    this.changed = false;
    const slots = [...this.live.values()].flatMap((s) => aroundCode(s).parts);
    const places = slots.filter((s) => this.readable(s.hva)).map((s) => s.gpa);
    if (places.length > 0) this.out.add(line, guestBlock(places, vcpu === 0 ? "" : `vcpu${vcpu} `), comment);
  }
  private readable(hva: number): boolean {
    return this.mapped.findLast((m) => m.start <= hva && m.end > hva)?.readable === true;
  }
}

/** The VM with the most memslots: VMMs make others first, to ask what KVM can do. */
function mainVm(regions: readonly Region[]): string | undefined {
  const count = new Map<string, number>();
  for (const r of regions) count.set(r.call.args[0]!, (count.get(r.call.args[0]!) ?? 0) + 1);
  return [...count].sort((a, b) => b[1] - a[1])[0]?.[0];
}
