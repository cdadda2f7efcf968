/**
 * What each CPU's TLBs hold, beside what the tables say now. An entry that the tables no longer hold is marked
 * STALE, with what differs: the question "is it the TLB or the table?" answered line by line.
 */
import { HI_OA, HI_UXN, S2_S2AP_R, S2_S2AP_W } from "../arch/descriptors.js";
import { decodeAttr } from "../arch/mair.js";
import { RESULT_ATTR } from "../arch/memtype.js";
import * as t from "../arch/tlb.js";
import { joinWords } from "../arch/types.js";
import type { Machine } from "../machine.js";
import { table, words64 } from "./columns.js";
import { GuestWalk } from "./guestwalk.js";

export interface TlbRow {
  readonly cpu: number;
  readonly kind: "combined" | "stage 1" | "stage 2" | "walk 1" | "walk 2";
  readonly regime: "guest" | "host";
  readonly vmid: number;
  /** ASID; "global", "off" (stage 1 is off), or "" where there is none. */
  readonly asid: string;
  /** Virtual address, "" of a stage-2 entry. */
  readonly va: string;
  /** IPA, -1 where there is none. */
  readonly ipa: number;
  readonly pa: number;
  readonly size: number;
  readonly what: string;
  /** What the tables say now: "same", or what differs. */
  readonly now: string;
  readonly stale: boolean;
}

export function tlbRows(machine: Machine): TlbRow[] {
  const out: TlbRow[] = [];
  for (let cpu = 0; cpu < machine.cpus; cpu++) new CpuTlb(machine, cpu).rows(out);
  return out;
}

/** A context that is still current on a CPU, by an entry's tag. */
interface Context {
  readonly regime: "guest" | "host";
  readonly asid: string;
}

class CpuTlb {
  private readonly walks = new Map<number, GuestWalk>();

  constructor(
    private readonly machine: Machine,
    private readonly cpu: number,
  ) {}

  rows(out: TlbRow[]): void {
    const from = out.length;
    this.combined(out);
    this.stage1(out);
    this.stage2(out);
    this.walk2(out);
    const order = ["combined", "stage 1", "stage 2", "walk 1", "walk 2"];
    const key = (r: TlbRow) => (r.va === "" ? BigInt(r.ipa) : BigInt(r.va));
    const sorted = out.splice(from).sort((a, b) => {
      if (a.kind !== b.kind) return order.indexOf(a.kind) - order.indexOf(b.kind);
      if (a.regime !== b.regime) return a.regime === "guest" ? -1 : 1;
      return key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a.asid < b.asid ? -1 : 1;
    });
    out.push(...sorted);
  }

  private context(tag: number, vmid: number, asid: number): Context | undefined {
    const { tlbs } = this.machine.pe;
    if (tag === 0) return undefined;
    const is = (kind: number, v: number, a: number) => tlbs.findContext(this.cpu, kind, v, a) === tag;
    if (is(t.CTX_ASID, vmid, asid)) return { regime: "guest", asid: String(asid) };
    if (is(t.CTX_GLOBAL, vmid, 0)) return { regime: "guest", asid: "global" };
    if (is(t.CTX_OFF, vmid, 0)) return { regime: "guest", asid: "off" };
    return is(t.CTX_HOST, 0, asid) ? { regime: "host", asid: String(asid) } : undefined;
  }

  /** A vCPU that runs under this VMID, whose registers say where the tables are; of several the first. */
  private vcpuOf(vmid: number): GuestWalk | undefined {
    const { kvm, registers } = this.machine;
    for (let v = 0; v < registers.count; v++) {
      if (kvm.vms.vmid(kvm.vcpus.vm(v)) !== vmid) continue;
      let w = this.walks.get(v);
      if (w === undefined) this.walks.set(v, (w = new GuestWalk(this.machine, v)));
      return w;
    }
    return undefined;
  }

  private combined(out: TlbRow[]): void {
    const a = this.machine.pe.tlbs.combined.a;
    for (let n = 0; n < t.COMBINED; n++) {
      const i = (this.cpu * t.COMBINED + n) << t.C_SHIFT;
      const ids = a[i + t.C_IDS]!;
      const c = this.context(a[i + t.C_TAG]!, ids >>> 16, ids & 0xffff);
      if (c === undefined) continue;
      const flags = a[i + t.C_FLAGS]!;
      const [hi, lo] = [a[i + t.C_VA_HI]!, a[i + t.C_VA_LO]!];
      const ipa = c.regime === "host" ? -1 : joinWords(a[i + t.C_IPA_HI]!, a[i + t.C_IPA_LO]!);
      const pa = joinWords(a[i + t.C_PA_HI]!, a[i + t.C_PA_LO]!);
      const now =
        c.regime === "host"
          ? this.hostNow(ids & 0xffff, joinWords(hi, lo), pa, flags)
          : this.guestNow(ids >>> 16, c, hi, lo, ipa, pa, flags);
      const type = c.regime === "host" ? "" : ` ${typeText(flags & RESULT_ATTR)}`;
      out.push({
        cpu: this.cpu,
        kind: "combined",
        regime: c.regime,
        vmid: ids >>> 16,
        asid: c.asid,
        va: words64(hi, lo),
        ipa,
        pa,
        size: 4096,
        what: `${permissions(flags, c.regime)}${type}`,
        now: now === "" ? "same" : now,
        stale: now !== "",
      });
    }
  }

  private hostNow(mm: number, va: number, pa: number, flags: number): string {
    const { mm: host } = this.machine;
    if (!host.isLive(mm)) return "the address space is gone";
    if (!host.pt.walk(mm, va)) return "the host has no entry";
    const now = host.pt.leafPfn * 4096;
    if (now !== pa) return `the host's entry says pa ${hex(now)}`;
    return (flags & t.F_W0) !== 0 && !host.pt.hwDirty ? "the host's entry is not writable" : "";
  }

  private guestNow(vmid: number, c: Context, hi: number, lo: number, ipa: number, pa: number, flags: number): string {
    const walk = this.vcpuOf(vmid);
    if (walk === undefined) return "no VM has this VMID";
    if (c.asid !== "off" && walk.enabled) {
      const now = walk.ipa(hi, lo);
      if (now < 0) return "stage 1 has no entry";
      if (now !== ipa) return `stage 1 says ipa ${hex(now)}`;
    }
    return this.stage2Now(walk, ipa, pa, flags & PERMISSIONS);
  }

  /** @param permissions F_ bits that the entry grants */
  private stage2Now(walk: GuestWalk, ipa: number, pa: number, granted: number): string {
    const s2 = walk.stage2;
    if (!s2.enabled(walk.vcpu)) return "";
    if (!s2.peek(walk.vcpu, ipa)) return `stage 2 has no entry (level ${s2.level})`;
    if (s2.pa !== pa) return `stage 2 says pa ${hex(s2.pa)}`;
    const lost = granted & ~s2.permissions;
    if ((lost & (t.F_W0 | t.F_W1)) !== 0) return "stage 2 is read-only";
    if ((lost & (t.F_R0 | t.F_R1)) !== 0) return "stage 2 is not readable";
    return (lost & (t.F_X0 | t.F_X1)) !== 0 ? "stage 2 is execute-never" : "";
  }

  private stage1(out: TlbRow[]): void {
    const a = this.machine.pe.tlbs.stage1.a;
    for (let n = 0; n < t.STAGE1; n++) {
      const i = (this.cpu * t.STAGE1 + n) << t.L_SHIFT;
      const ids = a[i + t.L_IDS]!;
      const c = this.context(a[i + t.L_TAG]!, ids >>> 16, ids & 0xffff);
      if (c === undefined) continue;
      const [hi, lo] = [a[i + t.L_HI]!, a[i + t.L_LO]!];
      const shift = a[i + t.L_SIZE]! & 0xff;
      const walk = this.vcpuOf(ids >>> 16);
      const last = walk?.steps(hi, lo).at(-1);
      const [dhi, dlo] = [a[i + t.L_DESC_HI]!, a[i + t.L_DESC_LO]!];
      const same = last !== undefined && last.unreadable === "" && last.lo === dlo && last.hi === dhi;
      const now = same ? "same" : last === undefined || last.unreadable !== "" ? "no entry" : `descriptor ${words64(last.hi, last.lo)}`;
      out.push({
        cpu: this.cpu,
        kind: "stage 1",
        regime: "guest",
        vmid: ids >>> 16,
        asid: c.asid,
        va: words64(hi, lo),
        ipa: -1,
        pa: -1,
        size: 2 ** shift,
        what: `descriptor ${words64(dhi, dlo)}`,
        now,
        stale: !same,
      });
    }
  }

  /** The VMID whose stage-2 context on this CPU has this tag, or -1. */
  private vmidOf(tag: number): number {
    const { kvm, pe } = this.machine;
    if (tag === 0) return -1;
    for (let vm = 0; vm < kvm.vms.count; vm++)
      if (pe.tlbs.findContext(this.cpu, t.CTX_STAGE2, kvm.vms.vmid(vm), 0) === tag) return kvm.vms.vmid(vm);
    return -1;
  }

  private stage2(out: TlbRow[]): void {
    const a = this.machine.pe.tlbs.stage2.a;
    for (let n = 0; n < t.STAGE2; n++) {
      const i = (this.cpu * t.STAGE2 + n) << t.L_SHIFT;
      const vmid = this.vmidOf(a[i + t.L_TAG]!);
      const walk = vmid < 0 ? undefined : this.vcpuOf(vmid);
      if (walk === undefined) continue;
      const ipa = joinWords(a[i + t.L_HI]!, a[i + t.L_LO]!);
      const [dhi, dlo] = [a[i + t.L_DESC_HI]!, a[i + t.L_DESC_LO]!];
      const now = descriptorNow(walk, ipa, dhi, dlo);
      out.push({
        cpu: this.cpu,
        kind: "stage 2",
        regime: "guest",
        vmid,
        asid: "",
        va: "",
        ipa,
        pa: -1,
        size: 2 ** (a[i + t.L_SIZE]! & 0xff),
        what: `descriptor ${words64(dhi, dlo)}`,
        ...now,
      });
    }
  }

  /** The stage-2 walk cache: which level-3 table serves 2 MiB of IPA. */
  private walk2(out: TlbRow[]): void {
    const { tables, pe } = this.machine;
    const a = pe.tlbs.walk2.a;
    for (let n = 0; n < t.WALK; n++) {
      const i = (this.cpu * t.WALK + n) << t.L_SHIFT;
      const vmid = this.vmidOf(a[i + t.W_TAG]!);
      const walk = vmid < 0 ? undefined : this.vcpuOf(vmid);
      if (walk === undefined) continue;
      const ipa = joinWords(a[i + t.W_HI]!, a[i + t.W_LO]!);
      const pa = tables.pageAddress(a[i + t.W_TABLE_LO]! >> 10);
      const now = this.level3Table(vmid, ipa);
      out.push({
        cpu: this.cpu,
        kind: "walk 2",
        regime: "guest",
        vmid,
        asid: "",
        va: "",
        ipa,
        pa,
        size: 2 ** 21,
        what: "level-3 table",
        now: now === pa ? "same" : now < 0 ? "no table" : `table ${hex(now)}`,
        stale: now !== pa,
      });
    }
  }

  private level3Table(vmid: number, ipa: number): number {
    const { kvm, tables } = this.machine;
    for (let vm = 0; vm < kvm.vms.count; vm++) {
      if (kvm.vms.vmid(vm) !== vmid) continue;
      const { entries } = kvm.stage2;
      entries.find(vm, ipa);
      return entries.stopLevel === 3 ? tables.pageAddress(entries.word >> 10) : -1;
    }
    return -1;
  }
}

/** A cached stage-2 leaf against the tables: stale where they now say another address or type, or permit less. */
function descriptorNow(walk: GuestWalk, ipa: number, hi: number, lo: number): { readonly now: string; readonly stale: boolean } {
  const s2 = walk.stage2;
  if (!s2.peek(walk.vcpu, ipa)) return { now: `no entry (level ${s2.level})`, stale: true };
  if (s2.lo === lo && s2.hi === hi) return { now: "same", stale: false };
  const moved = ((s2.lo ^ lo) & (~0xfff | 0x3c)) !== 0 || ((s2.hi ^ hi) & HI_OA) !== 0;
  const less = (lo & ~s2.lo & (S2_S2AP_R | S2_S2AP_W)) !== 0 || (s2.hi & ~hi & HI_UXN) !== 0;
  return { now: `descriptor ${words64(s2.hi, s2.lo)}`, stale: moved || less };
}

const PERMISSIONS = t.F_R0 | t.F_R1 | t.F_W0 | t.F_W1 | t.F_X0 | t.F_X1;
const hex = (n: number): string => `0x${n.toString(16)}`;

function typeText(attr: number): string {
  const d = decodeAttr(attr);
  return d.type === "Device" ? `Device-${d.text}` : `${d.type} ${d.text}`;
}

/** EL1 and EL0 of a guest entry: rw-/r--; of the host EL0 alone. */
function permissions(flags: number, regime: "guest" | "host"): string {
  const one = (r: number, w: number, x: number) => `${flags & r ? "r" : "-"}${flags & w ? "w" : "-"}${flags & x ? "x" : "-"}`;
  const el0 = one(t.F_R0, t.F_W0, t.F_X0);
  return regime === "host" ? el0 : `${one(t.F_R1, t.F_W1, t.F_X1)}/${el0}`;
}

function sizeText(size: number): string {
  return size >= 2 ** 30 ? `${size / 2 ** 30}G` : size >= 2 ** 20 ? `${size / 2 ** 20}M` : `${size / 1024}K`;
}

export function tlbText(machine: Machine): string[] {
  const rows = tlbRows(machine);
  const out: string[] = [];
  for (let cpu = 0; cpu < machine.cpus; cpu++) {
    const mine = rows.filter((r) => r.cpu === cpu);
    const pending = machine.pe.maintenance.pendingOn(cpu);
    out.push(`---[ CPU ${cpu}${pending > 0 ? `, ${pending} TLBI without DSB` : ""} ]---`);
    if (mine.length === 0) {
      out.push("# empty");
      continue;
    }
    out.push(
      ...table([
        ["TLB", "REGIME", "VMID", "ASID", "VA", "IPA", "PA", "SIZE", "ENTRY", "TABLES NOW"],
        ...mine.map((r) => [
          r.kind,
          r.regime,
          r.regime === "host" ? "" : String(r.vmid),
          r.asid,
          r.va,
          r.ipa < 0 ? "" : hex(r.ipa),
          r.pa < 0 ? "" : hex(r.pa),
          sizeText(r.size),
          r.what,
          r.stale ? `STALE: ${r.now}` : r.now,
        ]),
      ]),
    );
  }
  return out;
}
