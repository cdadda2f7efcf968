/**
 * The guest's address space: above what the VMM has mapped, in the middle the memslots, below stage 2, one over
 * the other at the same guest address. Colour and pattern say the memory type, height and words the block size.
 */
import { h, type ComponentChild } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { SlotState, Stage2State, VmaState } from "../data.js";
import { hex, rowsAt, sizeText, type Run } from "./model.js";
import { blockSize, holes, regionScale, shownVmas, type Region } from "./regions.js";
import { useWidth } from "./width.js";

const LABEL = 70;
const MARGIN = 26;
const VMA = 20;
const SLOT = 20;
const STAGE2 = 34;
const GAP = 5;
const TOP = 16;
const HEIGHT = TOP + VMA + SLOT + STAGE2 + 3 * GAP;

/** Class, and words for the legend, of a memory type. */
export function typeClass(type: string): string {
  if (type === "invalid") return "t-invalid";
  if (type.startsWith("DEVICE")) return "t-device";
  if (type === "MEM/NORMAL-NC") return "t-nc";
  return type.startsWith("MEM/NORMAL") ? "t-normal" : "t-other";
}
const TYPES = [
  ["t-normal", "Normal"],
  ["t-nc", "Normal-NC"],
  ["t-device", "Device"],
  ["t-other", "other"],
  ["t-invalid", "invalid, locked"],
] as const;

interface Box {
  readonly from: number;
  readonly to: number;
  readonly top: number;
  readonly height: number;
  readonly kind: string;
  readonly text: string;
  readonly title: string;
}

function box(b: Box, x: (address: number) => number, extra?: ComponentChild): ComponentChild {
  const left = x(b.from);
  const width = Math.max(x(b.to) - left, 2);
  const room = Math.floor((width - 6) / 6.2);
  const text = b.text.length <= room ? b.text : room < 3 ? "" : `${b.text.slice(0, room - 1)}\u2026`;
  return h(
    "g",
    { class: b.kind },
    h("title", null, b.title),
    h("rect", { x: left, y: b.top, width, height: b.height }),
    extra,
    text === "" ? null : h("text", { x: left + 4, y: b.top + b.height / 2 + 4 }, text),
  );
}

/** The edges of blocks inside a range, where there is room. */
function edges(r: Stage2State, x: (address: number) => number, top: number, height: number): ComponentChild | undefined {
  const size = blockSize(r);
  const blocks = (r.end - r.ipa) / size;
  if (blocks < 2 || (x(r.end) - x(r.ipa)) / blocks < 4) return undefined;
  let d = "";
  for (let n = 1; n < blocks; n++) d += `M${x(r.ipa + n * size).toFixed(1)} ${top}v${height}`;
  return h("path", { class: "edges", d });
}

const range = (from: number, to: number): string => `${hex(from)}-${hex(to)}`;

function panel(region: Region, width: number, state: MapState): ComponentChild {
  const { vmas, slots, stage2 } = state;
  const x = regionScale(region, LABEL + MARGIN, width - MARGIN);
  const mine = slots.filter((s) => s.vm === region.vm && s.gpa < region.to && s.gpa + s.size > region.from);
  const shown = mine.map((s) => shownVmas(vmas, s));
  const [yv, ys] = [TOP, TOP + VMA + GAP];
  const y2 = ys + SLOT + GAP;
  const out: ComponentChild[] = [];
  for (const [n, s] of mine.entries()) {
    for (const v of shown[n]!) {
      const over = `${v.before > 0 ? `; begins ${sizeText(v.before)} before the slot` : ""}${v.after > 0 ? `; goes on ${sizeText(v.after)} behind the slot` : ""}`;
      out.push(
        box(
          {
            from: v.from,
            to: v.to,
            top: yv,
            height: VMA,
            kind: "vma",
            text: `${v.vma.what} ${v.vma.perms}`,
            title: `VMA ${range(v.vma.start, v.vma.end)} ${v.vma.perms} ${v.vma.what}, VmFlags: ${v.vma.flags}${over}`,
          },
          x,
        ),
      );
      if (v.before > 0 && s.gpa <= region.from) out.push(overhang(x(v.from), -1, v.before, yv));
      if (v.after > 0 && s.gpa + s.size >= region.to) out.push(overhang(x(v.to), 1, v.after, yv));
    }
    for (const gap of holes(shown[n]!, s))
      out.push(
        box(
          {
            ...gap,
            top: yv,
            height: VMA,
            kind: "hole",
            text: "no VMA",
            title: `no VMA behind gpa ${range(gap.from, gap.to)}: EFAULT there`,
          },
          x,
        ),
      );
    const words = `slot ${s.slot} ${s.type} ${sizeText(s.size)}${s.flags === "" ? "" : ` ${s.flags}`}`;
    out.push(
      box(
        {
          from: s.gpa,
          to: s.gpa + s.size,
          top: ys,
          height: SLOT,
          kind: "slot",
          text: words,
          title: `memslot ${s.slot}, gpa ${range(s.gpa, s.gpa + s.size)}, hva ${hex(s.hva)}, ${s.type} ${s.flags}`,
        },
        x,
      ),
    );
  }
  for (const r of stage2) {
    if (r.vm !== region.vm || r.ipa >= region.to || r.end <= region.from) continue;
    const size = blockSize(r);
    const height = r.level >= 3 ? STAGE2 * 0.5 : r.level === 2 ? STAGE2 * 0.75 : STAGE2;
    const block = `${sizeText(size)}${r.cont ? " contiguous" : ""}`;
    const count = (r.end - r.ipa) / size;
    out.push(
      box(
        {
          from: r.ipa,
          to: r.end,
          top: y2,
          height,
          kind: `s2 ${typeClass(r.type)} level${r.level}`,
          text: `${count > 1 ? `${count} \u00d7 ` : ""}${block} ${r.type} ${r.perms}`,
          title: `stage 2 ${range(r.ipa, r.end)}, level ${r.level}, ${count} \u00d7 ${block}, ${r.type}, ${r.perms}, pa ${hex(r.pa)}, descriptor ${r.descriptor}`,
        },
        x,
        edges(r, x, y2, height),
      ),
    );
  }
  const name = `${region.vm > 0 ? `VM ${region.vm}, ` : ""}guest addresses ${range(region.from, region.to)}`;
  const bottom = TOP + VMA + SLOT + STAGE2 + 2 * GAP;
  return h(
    "svg",
    {
      class: "region",
      role: "img",
      "aria-label": `${name}: ${said(region, state)}`,
      width,
      height: HEIGHT,
      viewBox: `0 0 ${width} ${HEIGHT}`,
    },
    h("path", {
      class: "frame",
      d: `M${x(region.from)} ${TOP - 2}V${bottom}M${x(region.to)} ${TOP - 2}V${bottom}M${x(region.from)} ${bottom}H${x(region.to)}`,
    }),
    h("text", { class: "address", x: x(region.from), y: 11 }, hex(region.from)),
    h("text", { class: "address", x: x(region.to), y: 11, "text-anchor": "end" }, hex(region.to)),
    h("text", { class: "row", x: 0, y: yv + VMA / 2 + 4 }, "VMAs"),
    h("text", { class: "row", x: 0, y: ys + SLOT / 2 + 4 }, "memslots"),
    h("text", { class: "row", x: 0, y: y2 + STAGE2 / 2 + 4 }, "stage 2"),
    out,
  );
}

/** At most four characters: 4K, 992K, 1M. */
function short(bytes: number): string {
  const unit = bytes >= 1000 * 2 ** 20 ? 30 : bytes >= 1000 * 2 ** 10 ? 20 : 10;
  return `${Math.max(Math.round(bytes / 2 ** unit), 1)}${unit === 30 ? "G" : unit === 20 ? "M" : "K"}`;
}

/** A VMA that is longer than its slot. */
function overhang(at: number, direction: 1 | -1, bytes: number, top: number): ComponentChild {
  const [w, m] = [18 * direction, VMA / 2];
  return h(
    "g",
    { class: "overhang" },
    h("title", null, `the VMA goes on for ${sizeText(bytes)} ${direction > 0 ? "behind" : "before"} the slot`),
    h("path", { d: `M${at} ${top}h${w}l${6 * direction} ${m}l${-6 * direction} ${m}h${-w}z` }),
    h("text", { x: at + w / 2, y: top + m + 3, "text-anchor": "middle" }, short(bytes)),
  );
}

function said(region: Region, { stage2 }: MapState): string {
  const of = stage2.filter((r) => r.vm === region.vm && r.ipa < region.to && r.end > region.from);
  return of.length === 0 ? "stage 2 empty" : `stage 2 has ${of.length} range${of.length === 1 ? "" : "s"}, in the table below`;
}

export interface MapState {
  readonly vmas: readonly VmaState[];
  readonly slots: readonly SlotState[];
  readonly stage2: readonly Stage2State[];
}

export function AddressMap({
  run,
  moment,
  regions,
}: {
  readonly run: Run;
  readonly moment: number;
  readonly regions: readonly Region[];
}): ComponentChild {
  const frame = useRef<HTMLDivElement>(null);
  const [width, watch] = useWidth(300);
  useLayoutEffect(() => watch(frame.current!), []);
  const { moments } = run.data;
  const state: MapState = {
    vmas: rowsAt(moments.vmas, moment),
    slots: rowsAt(moments.slots, moment),
    stage2: rowsAt(moments.stage2, moment),
  };
  return h(
    "div",
    { class: "map", ref: frame },
    regions.length === 0
      ? h("p", { class: "quiet" }, "The run gives the guest no memory.")
      : width === 0
        ? null
        : regions.map((r) => panel(r, width, state)),
    legend(),
    h(Tables, { state }),
  );
}

function legend(): ComponentChild {
  return h(
    "ul",
    { class: "legend", "aria-label": "memory types" },
    TYPES.map(([kind, words]) =>
      h(
        "li",
        null,
        h("svg", { width: 22, height: 12, "aria-hidden": "true" }, h("g", { class: `s2 ${kind}` }, h("rect", { width: 22, height: 12 }))),
        words,
      ),
    ),
    h("li", { class: "quiet" }, "low: 4K pages, middle: 2M, high: 1G; widths by the logarithm of the size"),
  );
}

function Tables({ state }: { readonly state: MapState }): ComponentChild {
  // Rows are made when somebody looks.
  const [open, setOpen] = useState(false);
  const row = (cells: readonly (string | number)[]): ComponentChild =>
    h(
      "tr",
      null,
      cells.map((c) => h("td", null, c)),
    );
  const table = (caption: string, heads: readonly string[], rows: readonly (readonly (string | number)[])[]): ComponentChild =>
    h(
      "table",
      null,
      h("caption", null, caption),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          heads.map((t) => h("th", { scope: "col" }, t)),
        ),
      ),
      h("tbody", null, rows.length === 0 ? h("tr", null, h("td", { colSpan: heads.length }, "none")) : rows.map(row)),
    );
  return h(
    "details",
    { onToggle: (e: Event) => setOpen((e.currentTarget as HTMLDetailsElement).open) },
    h("summary", null, "as tables"),
    open && [
      table(
        "stage 2",
        ["IPA", "level", "size", "type", "perms", "PA", "descriptor"],
        state.stage2.map((r) => [
          range(r.ipa, r.end),
          r.level,
          `${sizeText(blockSize(r))}${r.cont ? " contiguous" : ""}`,
          r.type,
          r.perms,
          r.valid ? hex(r.pa) : "",
          r.descriptor,
        ]),
      ),
      table(
        "memslots",
        ["slot", "GPA", "HVA", "type", "flags"],
        state.slots.map((s) => [s.slot, range(s.gpa, s.gpa + s.size), range(s.hva, s.hva + s.size), s.type, s.flags]),
      ),
      table(
        "VMAs",
        ["addresses", "perms", "what", "VmFlags"],
        state.vmas.map((v) => [range(v.start, v.end), v.perms, v.what, v.flags]),
      ),
    ],
  );
}
