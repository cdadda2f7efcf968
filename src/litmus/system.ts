/**
 * A litmus test as a system to be explored: its threads, and everything that the hardware may do of its own accord
 * between two of their steps, each as an actor.
 *
 * actor   | step
 * guest   | one memory access, barrier or maintenance instruction, with the arithmetic around it
 * host    | one operation of the host at EL2
 * drain   | the n-th entry that may leave a CPU's store buffer leaves
 * walk    | a CPU walks to a symbol speculatively and fills its TLBs
 * ahead   | a CPU performs an access, or finishes a walk, ahead of its turn
 * tlbi    | a pending TLBI takes effect before its DSB
 * line    | a data cache line of a symbol is filled speculatively, or evicted
 * fetch   | a CPU fetches a symbol's code into its instruction cache speculatively
 * fabric  | the n-th request on its way takes a step
 */
import { Op } from "../arch/a64ops.js";
import { FIELD_WORDS, F_OP } from "../arch/a64ops.js";
import { RUN_BREAKPOINT, RUN_BUDGET, RUN_EL2, RUN_SELF_BRANCH } from "../arch/cpu.js";
import { decodeInto } from "../arch/decode.js";
import { KIND_NC, KIND_nGnRE, KIND_OF, KIND_WB } from "../arch/storebuffer.js";
import { C_FLAGS, C_PA_HI, C_PA_LO } from "../arch/tlb.js";
import { joinWords } from "../arch/types.js";
import * as R from "../arch/registers.js";
import { TLBI_IS, TlbiKind, vaOperandHi, vaOperandLo, ipaOperandHi, ipaOperandLo } from "../arch/tlbi.js";
import { SHARED, type System } from "../explore/system.js";
import { liveEntries, TLB_POOLS, TlbDigest } from "../explore/tlbdigest.js";
import { ARG, type Activity } from "../sim/agents.js";
import { FaultlineError } from "../sim/errors.js";
import { GROUPS, UNHASHED, type I32Pool, type StateRegistry } from "../sim/state.js";
import { PCI_COMMAND, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR } from "../vfio/configspace.js";
import type { HostOp, HostThread, LitmusTest, Term } from "./ast.js";
import { DSB_TYPES, TLBI_OPS } from "./hostops.js";
import { OTHER, ptePa, symbolIndex, SYMBOLS, vaOf } from "./layout.js";
import { LitmusWorld } from "./world.js";

/** LINE_ operations of the processing element (src/mmu/useraccess.ts). */
const LINE_KERNEL_CIVAC = 5;
const LINE_SPECULATE = 6;
const LINE_EVICT = 7;

const GROUP_TLB = 1;
/** What nothing of the model asks. */
const IGNORED = ["events.seq", "agents.running", "agents.clock", "agents.stack", "agents.top", "agents.results", "tables.changes"];

type Actor =
  | { readonly kind: "guest"; readonly vcpu: number; readonly cpu: number }
  | { readonly kind: "host"; readonly thread: HostThread; readonly n: number; readonly cpu: number }
  | { readonly kind: "drain"; readonly cpu: number; readonly n: number }
  | { readonly kind: "walk"; readonly cpu: number; readonly vcpu: number; readonly symbol: string; readonly budget: number }
  | {
      readonly kind: "ahead";
      readonly cpu: number;
      readonly vcpu: number;
      readonly n: number;
      readonly walk: boolean;
      readonly budget: number;
    }
  | { readonly kind: "tlbi"; readonly cpu: number; readonly n: number }
  | { readonly kind: "line"; readonly cpu: number; readonly symbol: string; readonly op: number; readonly budget: number }
  | { readonly kind: "fetch"; readonly cpu: number; readonly symbol: string; readonly budget: number }
  | { readonly kind: "fabric"; readonly n: number };

/** progress words: vCPU v done at v, aborts at 8 + v, host thread n's next operation at 16 + n, budgets from 32, arrivals from 64. */
const DONE = 0;
const ABORTS = 8;
const NEXT = 16;
const BUDGET = 24;
const ARRIVALS = 56;
const ARRIVAL = 57;
const WORDS = 96;
/** Results of the host's reads. */
const HOST_NAMES = 16;
/** Instructions that one step may take: a thread of a test has no loops. */
const STEP_LIMIT = 64;

export class LitmusSystem implements System {
  readonly world: LitmusWorld;
  readonly state: StateRegistry;
  readonly list: readonly Actor[];
  digestLow = 0;
  digestHigh = 0;
  private readonly progress: I32Pool;
  private readonly results: I32Pool;
  private readonly names: string[] = [];
  private readonly tlb: TlbDigest;
  private readonly fields = new Int32Array(FIELD_WORDS);
  private readonly devices: readonly string[];
  private readonly activity: Activity;

  constructor(readonly test: LitmusTest) {
    this.world = new LitmusWorld(test);
    this.state = this.world.sim.state;
    this.progress = this.state.i32("litmus.progress", WORDS);
    this.results = this.state.i32("litmus.results", HOST_NAMES);
    const { agents } = this.world.sim;
    this.activity = agents.activity("litmusStep", "one step of an actor of a litmus test", 1, [
      ["step", (f) => agents.ret(f, this.take(this.list[agents.stack.a[f + ARG]!]!) ? 1 : 0)],
    ]);
    this.devices = test.maps.map((m) => m.symbol);
    this.list = this.actorsOf();
    if (this.list.length > 30) throw new FaultlineError(`test ${test.id} has ${this.list.length} actors; a search knows at most 30`);
    this.begin();
    this.tlb = new TlbDigest(this.world.pe.tlbs, this.world.pe.maintenance);
    for (const pool of this.state.pools) {
      if (IGNORED.includes(pool.name)) pool.group = UNHASHED;
      else if (TLB_POOLS.includes(pool.name)) pool.group = GROUP_TLB;
    }
  }

  /** Each vCPU comes to its first access: what is before concerns nobody. */
  private begin(): void {
    const { agents } = this.world.sim;
    const begun = agents.activity("litmusBegin", "up to the first access", 1, [
      [
        "begin",
        (f) => {
          const v = agents.stack.a[f + ARG]!;
          const { pe, regs, cpu } = this.world;
          pe.fetch(v, 0, regs.lo(v, R.PC));
          for (let n = 0; n < STEP_LIMIT && !this.visible(v); n++) if (cpu.run(v, 1) !== RUN_BUDGET) break;
          return agents.ret(f);
        },
      ],
    ]);
    for (const a of this.list) {
      if (a.kind !== "guest") continue;
      agents.start(a.cpu, begun, a.vcpu);
      agents.runToEnd(a.cpu);
    }
  }

  // ---- who there is

  private actorsOf(): Actor[] {
    const { test } = this;
    const out: Actor[] = [];
    const texts = this.threadTexts();
    const cpuOf = (v: number): number => test.placed.get(v) ?? v;
    const vcpus = [...texts.keys()].sort();
    for (const vcpu of vcpus) out.push({ kind: "guest", vcpu, cpu: cpuOf(vcpu) });
    test.hosts.forEach((thread, n) => out.push({ kind: "host", thread, n, cpu: thread.cpu }));
    let budget = 0;
    const cpus = new Map<number, string>();
    for (const v of vcpus) cpus.set(cpuOf(v), (cpus.get(cpuOf(v)) ?? "") + texts.get(v)!);
    for (const [cpu, text] of cpus) {
      const stores = (text.match(/\b(str|stp|stlr|stur|strb|strh)\b/g) ?? []).length;
      for (let n = 0; n < Math.min(stores, 3); n++) out.push({ kind: "drain", cpu, n });
      if (/\btlbi\b/.test(text)) for (let n = 0; n < 2; n++) out.push({ kind: "tlbi", cpu, n });
    }
    test.hosts.forEach((h) => {
      if (h.ops.filter((o) => o.op === "tlbi").length > 1) out.push({ kind: "tlbi", cpu: h.cpu, n: 0 }, { kind: "tlbi", cpu: h.cpu, n: 1 });
    });
    for (const h of test.hosts)
      if (!cpus.has(h.cpu) && h.ops.some((o) => o.op === "write" && test.maps.some((m) => m.symbol === o.words[0])))
        out.push({ kind: "drain", cpu: h.cpu, n: 0 });
    const changes = [...texts.values()].some((t) => /\b(pte|pmd)_/.test(t)) || test.hosts.length > 0;
    for (const vcpu of vcpus) {
      const text = texts.get(vcpu)!;
      const cpu = cpuOf(vcpu);
      const accessed = [...new Set([...text.matchAll(/\[\s*([a-z]+)\b/g)].map((m) => m[1]!))].filter((s) => symbolIndex(s) >= 0);
      if (changes)
        for (const symbol of accessed) if (this.translationChanges(symbol)) out.push({ kind: "walk", cpu, vcpu, symbol, budget: budget++ });
      const accesses = (text.match(/\b(ldr|str|ldar|stlr|swp|ldrb|strb)\b/g) ?? []).length;
      if (accesses > 1 && /\b(ldr|str)\b/.test(text)) {
        out.push({ kind: "ahead", cpu, vcpu, n: 0, walk: false, budget: budget++ });
        if (accesses > 2) out.push({ kind: "ahead", cpu, vcpu, n: 1, walk: false, budget: budget++ });
        if (changes && test.machine.ets < 2) out.push({ kind: "ahead", cpu, vcpu, n: 0, walk: true, budget: budget++ });
      }
    }
    if (budget > 32) throw new FaultlineError(`test ${test.id} has more than 32 choices of the hardware`);
    if (test.machine.cache) budget = this.cacheActors(out, vcpus.map(cpuOf), budget);
    if (test.maps.length > 0) for (let n = 0; n < 3; n++) out.push({ kind: "fabric", n });
    return out;
  }

  /** The line of x, which cache tests map at more than one symbol; the code of m and k. */
  private cacheActors(out: Actor[], cpus: readonly number[], budget: number): number {
    const text = [...this.threadTexts().values()].join("\n");
    for (const symbol of ["x", "m", "k"]) {
      if (!new RegExp(`\\b${symbol}\\b`).test(text)) continue;
      if (symbol === "x") {
        out.push({ kind: "line", cpu: 0, symbol, op: LINE_SPECULATE, budget: budget++ });
        out.push({ kind: "line", cpu: 0, symbol, op: LINE_EVICT, budget: budget++ });
      } else for (const cpu of cpus) out.push({ kind: "fetch", cpu, symbol, budget: budget++ });
    }
    return budget;
  }

  /** Source text of each vCPU's block: which actors can matter. */
  private threadTexts(): Map<number, string> {
    const out = new Map<number, string>();
    for (const [b] of this.test.program.image.blocks) {
      const text = b.body.map((s) => (s.kind === "instruction" ? s.text : "")).join("\n");
      out.set(b.vcpu, text);
    }
    return out;
  }
  /** Does anybody write this symbol's descriptor, or stage 2? */
  private translationChanges(symbol: string): boolean {
    for (const t of this.threadTexts().values()) if (new RegExp(`\\b(pte|pmd)_${symbol}\\b`).test(t) || /\bmsr\b/.test(t)) return true;
    return this.test.hosts.some((h) => h.ops.some((o) => o.op === "s2" && o.words[0] === symbol));
  }

  get actors(): number {
    return this.list.length;
  }

  // ---- steps

  private guestsDone(cpu: number): boolean {
    return this.list.every((a) => a.kind !== "guest" || a.cpu !== cpu || this.progress.a[DONE + a.vcpu] !== 0) && this.hostsDone(cpu);
  }
  private hostsDone(cpu: number): boolean {
    return this.list.every((a) => a.kind !== "host" || a.cpu !== cpu || this.progress.a[NEXT + a.n]! >= a.thread.ops.length);
  }
  private threadsDone(): boolean {
    return this.list.every(
      (a) =>
        (a.kind !== "guest" || this.progress.a[DONE + a.vcpu] !== 0) &&
        (a.kind !== "host" || this.progress.a[NEXT + a.n]! >= a.thread.ops.length),
    );
  }

  finished(actor: number): boolean {
    const a = this.list[actor]!;
    const p = this.progress.a;
    const { buffers } = this.world.pe.ordering!;
    switch (a.kind) {
      case "guest":
        return p[DONE + a.vcpu] !== 0;
      case "host":
        return p[NEXT + a.n]! >= a.thread.ops.length;
      case "drain":
        return buffers.count(a.cpu) <= a.n && this.guestsDone(a.cpu);
      case "walk":
        // With two stages an entry of stage 2 may be older than the combined one that is made of it.
        return p[BUDGET + a.budget]! >= (this.test.machine.stage2 ? 2 : 1) || p[DONE + a.vcpu] !== 0;
      case "ahead":
        return p[BUDGET + a.budget] !== 0 || p[DONE + a.vcpu] !== 0;
      case "line":
      case "fetch":
        return p[BUDGET + a.budget] !== 0 || this.threadsDone();
      case "tlbi":
        return this.guestsDone(a.cpu);
      case "fabric":
        return this.world.fabric.count <= a.n && this.threadsDone() && this.buffersEmpty();
    }
  }
  private buffersEmpty(): boolean {
    const { buffers } = this.world.pe.ordering!;
    for (let c = 0; c < buffers.cpus; c++) if (buffers.count(c) > 0) return false;
    return true;
  }

  /** Agent n stands for CPU n; each step is an activity of one phase on it. */
  step(actor: number): boolean {
    const a = this.list[actor]!;
    const { agents } = this.world.sim;
    const agent = a.kind === "fabric" ? 0 : a.cpu;
    agents.start(agent, this.activity, actor);
    agents.runToEnd(agent);
    const moved = agents.result(agent) === 1;
    if (moved && this.devices.length > 0) this.noteArrivals();
    return moved;
  }

  private take(a: Actor): boolean {
    const { world, progress } = this;
    switch (a.kind) {
      case "guest":
        return this.guest(a.vcpu);
      case "host":
        return this.host(a);
      case "drain":
        return world.pe.ordering!.leave(a.cpu, a.n);
      case "walk": {
        const va = vaOf(a.symbol);
        if (!world.pe.walkSpeculatively(a.vcpu, 0, va)) return false;
        progress.set(BUDGET + a.budget, progress.a[BUDGET + a.budget]! + 1);
        return true;
      }
      case "ahead":
        if (!world.ahead.perform(a.vcpu, a.n, a.walk)) return false;
        progress.set(BUDGET + a.budget, 1);
        return true;
      case "tlbi":
        return world.pe.maintenance.takeEffect(a.cpu, a.n);
      case "line": {
        const { data } = world.pe.cacheOps.caches!;
        // Filling needs an empty line, and somebody to whom it is cacheable; evicting a full one.
        const empty = data.stateAt(world.paOf(a.symbol)) === 0;
        if (a.op === LINE_SPECULATE ? !empty || !this.cacheable(world.paOf(a.symbol)) : empty) return false;
        world.pe.lineOp(world.paOf(a.symbol), a.op);
        progress.set(BUDGET + a.budget, 1);
        return true;
      }
      case "fetch":
        world.pe.cacheOps.caches!.instr.fetch(world.paOf(a.symbol), true);
        progress.set(BUDGET + a.budget, 1);
        return true;
      case "fabric":
        return world.fabric.advance(a.n);
    }
  }

  /** Is there a mapping of a page by which its lines may be filled: a descriptor, or an entry of a TLB that can still be hit? */
  private cacheable(pa: number): boolean {
    const { world } = this;
    const { tlbs } = world.pe;
    const page = pa - (pa % 4096);
    const mair = [world.regs.lo(0, R.MAIR_EL1), world.regs.hi(0, R.MAIR_EL1)] as const;
    for (const symbol of [...SYMBOLS, OTHER]) {
      world.phys.readMemory(ptePa(symbol), 8);
      const { lo, hi } = world.phys;
      const index = (lo >> 2) & 7;
      const attr = (mair[index >> 2]! >>> (8 * (index & 3))) & 0xff;
      if ((lo & 1) !== 0 && joinWords(hi & 0xffff, lo & ~0xfff) === page && KIND_OF[attr] === KIND_WB) return true;
    }
    let found = false;
    liveEntries(tlbs, (pool, at) => {
      if (pool !== tlbs.combined) return;
      const to = joinWords(pool.a[at + C_PA_HI]!, pool.a[at + C_PA_LO]!);
      if (to - (to % 4096) === page && KIND_OF[pool.a[at + C_FLAGS]! & 0xff] === KIND_WB) found = true;
    });
    return found;
  }

  /** The class of the next instruction: true if other threads may notice it. */
  private visible(v: number): boolean {
    const { regs, pe } = this.world;
    const b = regs.base(v);
    const r = regs.pool.a;
    // The handler is not part of the test.
    if (r[b + R.PC]! - this.test.program.image.base < HANDLER_END) return false;
    const word = pe.codeWord(v, r[b + R.PC + 1]!, r[b + R.PC]!);
    if (word === 0) return false;
    decodeInto(word, this.world.features, this.fields, 0);
    const op = this.fields[F_OP]!;
    return !((op >= Op.AddXImm && op <= Op.Tbnz) || op === Op.Nop);
  }

  private guest(v: number): boolean {
    const { cpu, regs, pe } = this.world;
    const b = regs.base(v);
    let seen = 0;
    for (let n = 0; n < STEP_LIMIT; n++) {
      if (n > 0 && this.visible(v)) {
        if (seen > 0) return true;
        seen++;
      } else if (n === 0 && this.visible(v)) seen++;
      const reason = cpu.run(v, 1);
      if (reason === RUN_BREAKPOINT || reason === RUN_SELF_BRANCH) {
        this.progress.set(DONE + v, 1);
        pe.ordering!.early.drop(this.world.sim.agents.cpu);
        return true;
      }
      if (reason === RUN_EL2) {
        this.progress.set(ABORTS + v, this.progress.a[ABORTS + v]! + 1);
        pe.ordering!.contextSync(this.world.sim.agents.cpu);
        regs.setNum(v, R.PC, regs.num(v, R.PC) + 4);
      }
      if (regs.pool.a[b + R.PC]! - this.test.program.image.base < HANDLER_END) pe.ordering!.contextSync(this.world.sim.agents.cpu);
    }
    throw new FaultlineError(`test ${this.test.id}: vCPU ${v} goes on without end`);
  }

  // ---- the host

  private host(a: Extract<Actor, { kind: "host" }>): boolean {
    const at = this.progress.a[NEXT + a.n]!;
    const op = a.thread.ops[at]!;
    if (!this.hostOp(op, a.thread.name)) return false;
    this.progress.set(NEXT + a.n, at + 1);
    return true;
  }

  private hostOp(op: HostOp, thread: string): boolean {
    const { world } = this;
    const { pe, phys } = world;
    const { buffers } = pe.ordering!;
    const cpu = world.sim.agents.cpu;
    const [first = "", second = "", third = ""] = op.words;
    switch (op.op) {
      case "s2":
        world.setStage2(first, second);
        return true;
      case "dsb":
        pe.hostDsb(DSB_TYPES[first]!);
        return true;
      case "dmb":
        pe.ordering!.dmb(cpu, 3);
        return true;
      case "isb":
        pe.ordering!.contextSync(cpu);
        return true;
      case "tlbi": {
        if (first === "vae1is") {
          const va = vaOf(second);
          pe.maintenance.issue(cpu, TlbiKind.Vaae1 | TLBI_IS, 1, vaOperandHi(0, 0, 0), vaOperandLo(0, va));
          return true;
        }
        const t = TLBI_OPS[first]!;
        const ipa = t.address ? world.paOf(second) - (world.paOf(second) % 4096) : 0;
        pe.hypTlbi(t.op, t.broadcast, 1, t.address ? ipaOperandHi(ipa, 3) : 0, t.address ? ipaOperandLo(ipa) : 0);
        return true;
      }
      case "read": {
        const pa = world.paOf(first);
        if (phys.isRam(pa)) {
          phys.read(pa, 4);
          buffers.d0 = phys.lo;
          buffers.overlay(cpu, pa, 4);
          this.results.set(this.name(`${thread}.${third}`), buffers.d0);
        } else {
          buffers.beforeDeviceLoad(cpu, KIND_nGnRE, pa, 4);
          world.fabric.read(KIND_nGnRE, pa, 4);
          this.results.set(this.name(`${thread}.${third}`), phys.lo);
        }
        return true;
      }
      case "peek":
        this.results.set(this.name(`${thread}.${third}`), this.memory(first));
        return true;
      case "dma":
        pe.dma(world.paOf(first), 4, false, false, 0, 0);
        this.results.set(this.name(`${thread}.${third}`), phys.lo);
        return true;
      case "civac":
        pe.ordering!.atomic(cpu);
        pe.lineOp(world.paOf(first), LINE_KERNEL_CIVAC);
        return true;
      case "write": {
        const pa = world.paOf(first);
        const map = this.test.maps.find((m) => m.symbol === first);
        const kind = map === undefined ? KIND_WB : map.type === "NC" ? KIND_NC : KIND_nGnRE;
        if (kind === KIND_WB) phys.write(pa, 4, Number(second));
        else buffers.store(cpu, kind, 0, pa, 4, Number(second), 0, 0, 0, false);
        return true;
      }
      case "await":
        // What a device has is looked at there: its own engine sees the doorbell.
        if (this.devices.includes(first)) return this.memory(first) === Number(second);
        return this.coherent(world.paOf(first)) === Number(second);
      case "config": {
        const f = world.pci.functions[0]!;
        if (first === "flr") {
          world.pci.write(0, f.exp + PCI_EXP_DEVCTL, 2, world.pci.read(0, f.exp + PCI_EXP_DEVCTL, 2) | PCI_EXP_DEVCTL_BCR_FLR);
          // The driver restores the BARs and the command register.
          for (const bar of f.bars) {
            if (bar === undefined) continue;
            world.pci.write(0, 0x10 + 4 * bar.index, 4, bar.start | 0);
            world.pci.write(0, 0x14 + 4 * bar.index, 4, Math.floor(bar.start / 4294967296));
          }
        }
        world.pci.write(0, PCI_COMMAND, 2, first === "off" ? 0 : 2);
        return true;
      }
      case "reset":
        world.platform.reset();
        world.fabric.wasReset(0x9000000, 4096);
        return true;
      default:
        throw new Error(`no host operation ${op.op}`);
    }
  }
  /** What the coherent domain holds at an address: looked at, not accessed. */
  private coherent(pa: number): number {
    const { phys, sim } = this.world;
    const mark = sim.state.mark();
    phys.read(pa, 4);
    const value = phys.lo;
    sim.state.rollback(mark);
    return value;
  }
  private name(name: string): number {
    const n = this.names.indexOf(name);
    if (n >= 0) return n;
    if (this.names.length === HOST_NAMES) throw new FaultlineError(`test ${this.test.id} reads more than ${HOST_NAMES} values`);
    return this.names.push(name) - 1;
  }

  // ---- what is asked in the end

  /** Symbols of devices whose first write has arrived since the last step get the next number. */
  private noteArrivals(): void {
    const p = this.progress;
    for (const symbol of this.devices) {
      const at = ARRIVAL + symbolIndex(symbol);
      if (p.a[at] !== 0 || this.memory(symbol) === 0) continue;
      const n = p.a[ARRIVALS]! + 1;
      p.set(ARRIVALS, n);
      p.set(at, n);
    }
  }

  /** The first word behind a symbol, as its device or memory holds it. */
  private memory(symbol: string): number {
    const { phys, pci, platform } = this.world;
    const pa = this.world.paOf(symbol);
    const m = this.test.maps.find((x) => x.symbol === symbol);
    if (m === undefined) {
      phys.readMemory(pa, 4);
      return phys.lo >>> 0;
    }
    if (m.where === "platform") return platform.words.a[m.offset >> 2]! >>> 0;
    const bar = pci.functions[m.where === "other" ? 1 : 0]!.bars[m.where === "bar2" ? 2 : 0]!;
    bar.model.read(m.offset, 4);
    return bar.model.lo >>> 0;
  }

  value(t: Term): number {
    const { regs, fabric } = this.world;
    switch (t.kind) {
      case "number":
        return t.value;
      case "register":
        return regs.lo(t.vcpu, R.X + 2 * t.register) >>> 0;
      case "faults":
        return regs.lo(t.vcpu, R.X + 2 * 28);
      case "aborts":
        return this.progress.a[ABORTS + t.vcpu]!;
      case "host":
        return this.results.a[this.name(t.name)]! >>> 0;
      case "memory":
        return this.memory(t.symbol);
      case "arrival":
        return this.progress.a[ARRIVAL + symbolIndex(t.symbol)]!;
      case "event":
        return t.name === "late" ? fabric.late : t.name === "tlps" ? fabric.sent : fabric.reads;
    }
  }

  // ---- the explorer's questions

  position(): number {
    return 0;
  }
  ownedPool(): boolean {
    return false;
  }
  looksAround(): boolean {
    return true;
  }
  owner(): number {
    return SHARED;
  }
  ignoredPool(pool: number): boolean {
    return IGNORED.includes(this.state.pools[pool]!.name);
  }
  watchedPool(): boolean {
    return true;
  }

  digest(): void {
    const { hashLo, hashHi } = this.state;
    this.tlb.compute(hashLo[GROUP_TLB]!, hashHi[GROUP_TLB]!);
    let lo = this.tlb.low;
    let hi = this.tlb.high;
    for (let g = 0; g < GROUPS; g++) {
      if (g === GROUP_TLB) continue;
      lo ^= hashLo[g]!;
      hi ^= hashHi[g]!;
    }
    this.digestLow = lo;
    this.digestHigh = hi;
  }
  content(): string {
    let text = this.tlb.content();
    for (const p of this.state.pools) {
      if (p.group === GROUP_TLB || p.group === UNHASHED) continue;
      text += `;${p.name}:`;
      for (let i = 0; i < p.a.length; i++) if (p.a[i] !== 0) text += `${i}=${p.a[i]},`;
    }
    return text;
  }
}

/** The vectors and the handler lie before the first block: sixteen vectors, then five instructions and a branch to itself. */
const HANDLER_END = 0x818;
