/**
 * Reading stage 2 for people: the leaves as a list, and the text of the kernel's debugfs files
 * `stage2_page_tables`, `ipa_range` and `stage2_levels` (arch/arm64/kvm/ptdump.c,
 * arch/arm64/mm/ptdump.c note_page; v6.12+). Off every hot path: these functions allocate.
 */
import { DESC_AF, DESC_TABLE, DESC_VALID, HI_CONTIG, memAttrOf, s2apOf, S2_S2AP_R, S2_S2AP_W, shOf, xnOf } from "../arch/descriptors.js";
import type { TablePages } from "../arch/tables.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import type { Row } from "../sim/decisions.js";
import { LEVEL_SIZE, S2_XN, type Stage2Entries } from "./stage2walk.js";
import type { Vms } from "./vm.js";

/** How the releases write the attributes. */
export type PtdumpStyle = "reversed-x" | "nx" | "px-ux";

/** A valid leaf of stage 2. */
export interface Stage2Leaf {
  readonly ipa: number;
  /** Bytes. */
  readonly size: number;
  readonly level: number;
  readonly pa: number;
  /** Bit 0 read, bit 1 write. */
  readonly s2ap: number;
  readonly memattr: number;
  readonly sh: number;
  /** XN[1:0]: 0 executable, 2 execute-never. */
  readonly xn: number;
  readonly af: number;
  readonly cont: number;
  readonly hi: number;
  readonly lo: number;
}

/** A table page or the entry level, for tests and snapshots of the whole tree. */
export interface Stage2Table {
  readonly pa: number;
  readonly level: number;
  readonly ipa: number;
  /** page_count(): 1 + non-zero entries. */
  readonly refs: number;
  readonly entries: number;
}

type Visitor = (ipa: number, level: number, hi: number, lo: number, word: number) => void;

export class Stage2Dump {
  constructor(
    private readonly entries: Stage2Entries,
    private readonly tables: TablePages,
    private readonly vms: Vms,
    private readonly d: Row<typeof kvmTableDecisions>,
  ) {}

  /** Visits every entry that is no table, in address order, invalid ones included; `table` each table page before its entries. */
  private walk(vm: number, entry: Visitor, table?: (pa: number, level: number, ipa: number) => void): void {
    const root = this.vms.root(vm);
    if (root === 0) return;
    const visit = (pa: number, level: number, base: number, count: number) => {
      for (let page = 0; page < count; page += 512) table?.(pa + page * 8, level, base + page * LEVEL_SIZE[level]!);
      const from = this.tables.word(pa);
      for (let i = 0; i < count; i++) {
        const word = from + 2 * i;
        const lo = this.entries.words.a[word]!;
        const hi = this.entries.words.a[word + 1]!;
        const ipa = base + i * LEVEL_SIZE[level]!;
        const isTable = level < 3 && (lo & DESC_VALID) !== 0 && (lo & DESC_TABLE) !== 0;
        if (isTable) visit(this.entries.outputAddress(hi, lo), level + 1, ipa, 512);
        else entry(ipa, level, hi, lo, word);
      }
    };
    const level = this.vms.startLevel(vm);
    visit(root, level, 0, Math.min(this.vms.rootPages(vm) * 512, this.vms.ipaSize(vm) / LEVEL_SIZE[level]!));
  }

  /** All valid leaves, by address. */
  leaves(vm: number): Stage2Leaf[] {
    const out: Stage2Leaf[] = [];
    this.walk(vm, (ipa, level, hi, lo) => {
      if ((lo & DESC_VALID) === 0) return;
      out.push({
        ipa,
        size: LEVEL_SIZE[level]!,
        level,
        pa: this.entries.outputAddress(hi, lo),
        s2ap: s2apOf(lo),
        memattr: memAttrOf(lo),
        sh: shOf(lo),
        xn: xnOf(hi),
        af: (lo & DESC_AF) === 0 ? 0 : 1,
        cont: (hi & HI_CONTIG) === 0 ? 0 : 1,
        hi,
        lo,
      });
    });
    return out;
  }

  /** All table pages, the entry level's first. */
  tree(vm: number): Stage2Table[] {
    const out: Stage2Table[] = [];
    this.walk(
      vm,
      () => undefined,
      (pa, level, ipa) => {
        const from = this.tables.word(pa);
        let n = 0;
        for (let i = 0; i < 1024; i += 2) if ((this.entries.words.a[from + i]! | this.entries.words.a[from + i + 1]!) !== 0) n++;
        out.push({ pa, level, ipa, refs: this.tables.count(pa), entries: n });
      },
    );
    return out;
  }

  /** debugfs ipa_range: "%2u" */
  ipaRange(vm: number): string {
    return String(this.vms.ipaBits(vm)).padStart(2);
  }
  /** debugfs stage2_levels: "%1d" */
  stage2Levels(vm: number): string {
    return String(4 - this.vms.startLevel(vm));
  }

  /**
   * debugfs stage2_page_tables, one string per line without trailing blanks. Empty where the era has no such file.
   * Before v7.3 the last range is never printed: the kernel does not flush it.
   */
  ptdump(vm: number): string[] {
    if (this.d.ptdump === "absent") return [];
    return this.text(vm, this.d.ptdump);
  }

  /** The same in a given style, whatever the era. */
  text(vm: number, style: PtdumpStyle): string[] {
    const out = ["---[ Guest IPA ]---"];
    let start = 0;
    let level = -2;
    let attributes = "";
    this.walk(vm, (ipa, at, hi, lo) => {
      const now = (lo & DESC_VALID) === 0 ? "" : attributeText(at, hi, lo, style);
      if (level === -2) {
        level = at;
        attributes = now;
      } else if (at !== level || now !== attributes) {
        out.push(line(start, ipa, level, attributes));
        start = ipa;
        level = at;
        attributes = now;
      }
    });
    if (this.d.ptdumpLastRange === "printed" && level !== -2) out.push(line(start, this.vms.ipaSize(vm), level, attributes));
    return out;
  }
}

/** The attribute columns of pg_level[].bits, each after one blank. */
export function attributeText(level: number, hi: number, lo: number, style: PtdumpStyle): string {
  const columns = [
    " ",
    (lo & S2_S2AP_R) !== 0 ? "R" : " ",
    (lo & S2_S2AP_W) !== 0 ? "W" : " ",
    executeText(hi, style),
    (lo & DESC_AF) !== 0 ? "AF" : "  ",
    level === 3 ? "   " : "BLK",
  ];
  return columns.map((c) => ` ${c}`).join("");
}

/** In v6.12 and v6.17 "X" means execute-never; v6.18 says NX. v7.0+: privileged and unprivileged execute. */
function executeText(hi: number, style: PtdumpStyle): string {
  if (style === "reversed-x") return (hi & S2_XN) !== 0 ? "X" : " ";
  if (style === "nx") return (hi & S2_XN) !== 0 ? "NX" : "x ";
  return ["px ux ", "PXNux ", "PXNUXN", "px UXN"][xnOf(hi)]!;
}

const UNITS = "KMGTPE";

/** One line: range, size in the largest exact unit, level, attributes. */
function line(start: number, end: number, level: number, attributes: string): string {
  const hex = (n: number) => `0x${n.toString(16).padStart(16, "0")}`;
  let size = (end - start) / 1024;
  let unit = 0;
  while (size % 1024 === 0 && unit < UNITS.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${hex(start)}-${hex(end)}   ${String(size).padStart(9)}${UNITS[unit]!} ${level}${attributes}`.trimEnd();
}
