/** Everything that a script may name, with what it is and where that is from: lists made of the tables of the rooms. */
import { MNEMONICS } from "../arch/a64forms.js";
import { EXTEND_NAMES, SHIFT_NAMES } from "../arch/a64operands.js";
import {
  AT_OPS,
  BARRIER_NXS,
  BARRIER_OPTIONS,
  CONDITIONS,
  DC_OPS,
  IC_OPS,
  PREFETCH_OPS,
  PSTATE_FIELDS,
  TLBI_OPS,
  type SysOp,
} from "../arch/a64system.js";
import { CPU_PROFILES } from "../arch/features.js";
import { SYSREGS, type Sysreg } from "../arch/sysregs.js";
import { answer, decisionNames, decisionRoom, ERA_ALIASES, ERAS, findDecision } from "../eras.js";
import { CALLS, signature, type CallDecl } from "../guest/calls.js";
import { FIELD_ALIASES } from "../guest/compile.js";
import { CONSTANTS } from "../guest/constants.js";
import { COSTS } from "../sim/costs.js";
import type { Decision } from "../sim/decisions.js";
import { eventCatalogue, type EventDecl, type Field } from "../sim/events.js";
import { KNOWN_DEVICES } from "../vfio/devicespec.js";
import { CONDITION, instructionHelp } from "./instructions.js";
import { word, type Word } from "./word.js";

/** Made when first asked for: an editor may never ask for TLBI operations. */
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}
const code = (text: string): string => `\`${text}\``;

// --- eras, CPUs, devices, costs ---------------------------------------------------------------

export const eras = once((): Word[] => [
  ...ERAS.map((e) => word("era", e.name, e.note, { source: e.base === undefined ? "" : `based on ${e.base}` })),
  ...Object.entries(ERA_ALIASES).map(([alias, name]) => word("era", alias, `short for ${name}`)),
]);

export const cpus = once((): Word[] =>
  Object.entries(CPU_PROFILES).map(([name, c]) => {
    const has = Object.entries(c).flatMap(([feature, v]) => (v === true ? [feature] : []));
    return word("cpu", name, `${c.paBits}-bit physical addresses, ${c.vmidBits}-bit VMIDs`, {
      doc: `${c.paBits}-bit physical addresses, ${c.vmidBits}-bit VMIDs. Features: ${has.map(code).join(" ")}.`,
    });
  }),
);

export const devices = once((): Word[] => [
  ...Object.entries(KNOWN_DEVICES).map(([name, d]) =>
    word("device", name, `${d.bdf}, ${d.bars.map((b) => `bar${b.index} ${size(b.size)}`).join(", ")}`),
  ),
  word("device", "recorded", "the three functions of the recorded machine"),
  word("device", "none", "no function"),
]);
/** What vfio_open takes. */
export const addresses = once((): Word[] => Object.entries(KNOWN_DEVICES).map(([name, d]) => word("device", d.bdf, name)));

export const costs = once((): Word[] =>
  Object.entries(COSTS).map(([name, c]) => word("cost", name, `${c.cycles} cycles: ${c.doc}`, { source: c.source })),
);

function size(bytes: number): string {
  for (const [unit, n] of [["G", 2 ** 30], ["M", 2 ** 20], ["K", 2 ** 10]] as const) if (bytes % n === 0) return `${bytes / n}${unit}`; // prettier-ignore
  return String(bytes);
}

// --- decisions -----------------------------------------------------------------------------------

/** Release by release, where it changes, each with its source. */
function history(d: Decision): string {
  return Object.entries(d.history)
    .map(([era, [value, source]]) => `- **${era}** ${code(String(value))}: ${source}`)
    .join("\n");
}
export const decisions = once((): Word[] =>
  decisionNames().map((name) => {
    const d = findDecision(name)!;
    const room = decisionRoom(name)!;
    return word("decision", name, d.doc, {
      doc: `${d.doc}\n\n${history(d)}`,
      source: `src/${room === "mm" ? "mmu" : room}/decisions.ts`,
      insert: `${name} = $1`,
    });
  }),
);
/** The values of a decision, with the eras that have each. */
export function choices(name: string): Word[] {
  const d = findDecision(name);
  return (d?.values ?? []).map((v) => {
    const of = ERAS.filter((e) => answer(d!, e.name)?.value === v).map((e) => e.name);
    return word("choice", String(v), of.length === 0 ? "no release" : of.join(", "), {
      doc: `${d!.doc}\n\n${code(`${name} = ${String(v)}`)}: ${of.length === 0 ? "no release that is modelled" : of.join(", ")}\n\n${history(d!)}`,
    });
  });
}

// --- events -------------------------------------------------------------------------------------------

function fieldDetail(f: Field): string {
  const values = f.values === undefined ? "" : `: ${f.values.join(", ")}`;
  return `${f.kind}${f.unit === undefined ? "" : `, ${f.unit}`}${values}`;
}
export const events = once((): Word[] =>
  eventCatalogue().map((e) =>
    word("event", e.name, e.doc, {
      doc: [e.doc, ...e.fields.map((f) => `- ${code(f.name)} ${fieldDetail(f)}`)].join("\n"),
      source: e.system === "kvm" ? `trace point kvm:${e.name}` : `faultline:${e.name}`,
      insert: `${e.name} `,
    }),
  ),
);
const HEAD: readonly (readonly [string, string])[] = [
  ["agent", "who did it: vmm, vcpu0, a kernel thread"],
  ["seq", "the event's number in the run"],
  ["time", "cycles on the agent's clock"],
];
export function fields(of: EventDecl): Word[] {
  return [
    ...of.fields.map((f) => word("field", f.name, fieldDetail(f), { insert: `${f.name}=` })),
    ...Object.entries(FIELD_ALIASES)
      .filter(([alias, names]) => of.fields.some((f) => names.includes(f.name)) && !of.fields.some((f) => f.name === alias))
      .map(([alias, names]) => word("field", alias, `another name of ${names.join(", ")}`, { insert: `${alias}=` })),
    ...HEAD.map(([name, doc]) => word("field", name, doc, { insert: `${name}=` })),
  ];
}

// --- calls and constants ----------------------------------------------------------------------------

/** Where kernel threads' work is in the kernel. */
const KERNEL_FILES: Readonly<Record<string, string>> = {
  clear_flush_young: "mm/mmu_notifier.c __mmu_notifier_clear_flush_young",
  clear_young: "mm/mmu_notifier.c __mmu_notifier_clear_young",
  test_young: "mm/mmu_notifier.c __mmu_notifier_test_young",
  collapse_huge_page: "mm/khugepaged.c collapse_huge_page",
  split_huge_page: "mm/huge_memory.c split_huge_page",
  migrate_pages: "mm/migrate.c migrate_pages",
  shrink_folio_list: "mm/vmscan.c shrink_folio_list",
  try_to_merge_two_pages: "mm/ksm.c try_to_merge_two_pages",
  einj_error_inject: "drivers/acpi/apei/einj.c einj_error_inject; Documentation/firmware-guide/acpi/apei/einj.rst",
};
const SYSTEM_CALLS =
  /^(mmap|munmap|mprotect|madvise|mremap|memfd_create|open|ftruncate|fallocate|fork|kill|pread|pwrite|userfaultfd|sched_setaffinity)$/;

function callSource(name: string): string {
  if (name.startsWith("KVM_")) return `Documentation/virt/kvm/api.rst, ${name}`;
  if (name.startsWith("VFIO_")) return `include/uapi/linux/vfio.h, ${name}`;
  if (name.startsWith("UFFDIO_")) return `ioctl_userfaultfd(2), ${name}`;
  if (SYSTEM_CALLS.test(name)) return `${name}(2)`;
  return KERNEL_FILES[name] ?? "";
}
const argument = (c: CallDecl): string => c.parameters.filter((p) => p.fallback === undefined).map((p, i) => `\${${i + 1}:${p.name}}`).join(", "); // prettier-ignore
function callWord(c: CallDecl): Word {
  return word("call", c.name, c.doc, {
    doc: `${code(signature(c))}\n\n${c.doc}`,
    source: callSource(c.name),
    // By name where some before it may be left out: slot=1, memory_size=2M.
    insert: `${c.name}(${optionalFirst(c) ? c.parameters.filter((p) => p.fallback === undefined).map((p, i) => `${p.name}=\${${i + 1}}`).join(", ") : argument(c)})`, // prettier-ignore
  });
}
/** A parameter that must be given stands behind one that may be left out. */
const optionalFirst = (c: CallDecl): boolean =>
  c.parameters.some((p, i) => p.fallback !== undefined && c.parameters.slice(i).some((q) => q.fallback === undefined));

export const calls = once((): Word[] => CALLS.map(callWord));
export const kernelCalls = once((): Word[] => CALLS.filter((c) => c.kernel === true).map(callWord));
export function parameters(of: CallDecl): Word[] {
  return of.parameters.map((p) =>
    word("parameter", p.name, p.fallback === undefined ? "must be given" : `${p.fallback === 0n ? "0" : `0x${BigInt.asUintN(64, p.fallback).toString(16)}`} if left out`, {
      insert: `${p.name}=`,
    }),
  ); // prettier-ignore
}

const HEADERS: readonly (readonly [RegExp, string])[] = [
  [/^(PROT_|MAP_|MADV_)/, "include/uapi/asm-generic/mman-common.h and mman.h"],
  [/^MREMAP_/, "include/uapi/linux/mman.h"],
  [/^FALLOC_/, "include/uapi/linux/falloc.h"],
  [/^O_/, "include/uapi/asm-generic/fcntl.h"],
  [/^UFFDIO_/, "include/uapi/linux/userfaultfd.h"],
  [/^(KVM_|GUEST_MEMFD_)/, "include/uapi/linux/kvm.h"],
  [/^(bar[0-5]|pci_)/, "drivers/vfio/pci: VFIO_PCI_INDEX_TO_OFFSET of the region"],
];
const hex = (v: bigint): string => `0x${v.toString(16)}`;
export const constants = once((): Word[] =>
  [...CONSTANTS].map(([name, v]) => word("constant", name, v < 10n ? String(v) : hex(v), { source: HEADERS.find(([p]) => p.test(name))?.[1] ?? "" })),
); // prettier-ignore
/** What the names of constants begin with that a parameter takes. */
const FITTING: Readonly<Record<string, RegExp>> = {
  "mmap.flags": /^MAP_/,
  "mremap.flags": /^MREMAP_/,
  "fallocate.mode": /^FALLOC_/,
  "madvise.advice": /^MADV_/,
  "UFFDIO_REGISTER.mode": /^UFFDIO_REGISTER_MODE_/,
  "KVM_SET_USER_MEMORY_REGION.flags": /^KVM_MEM_/,
  "KVM_SET_USER_MEMORY_REGION2.flags": /^KVM_MEM_/,
  "KVM_CREATE_GUEST_MEMFD.flags": /^GUEST_MEMFD_FLAG_/,
  "KVM_ENABLE_CAP.cap": /^KVM_CAP_/,
  "KVM_CHECK_EXTENSION.cap": /^KVM_CAP_/,
};
/** undefined: any number. */
export function fitting(call: string, parameter: string): RegExp | undefined {
  if (parameter === "prot") return /^PROT_/;
  return FITTING[`${call}.${parameter}`] ?? (parameter === "offset" ? /^(bar[0-5]|pci_)/ : undefined);
}

// --- guest code -------------------------------------------------------------------------------------------

export const mnemonics = once((): Word[] =>
  [...MNEMONICS, ".inst", ".word"].map((name) => {
    const h = instructionHelp(name)!;
    const doc = [
      `**${name}** ${h.does}.`,
      h.forms.length === 0 ? "" : `\`\`\`guest\n${h.forms.join("\n")}\n\`\`\``,
      h.syndrome === "" ? "" : `Under KVM ${h.syndrome}.`,
      h.features.length === 0 ? "" : `Needs ${h.features.map(code).join(", ")} of the CPU.`,
    ];
    return word("mnemonic", name, h.does, { doc: doc.filter((d) => d !== "").join("\n\n"), source: h.source });
  }),
);

const plain = (name: string, detail: string): Word => word("register", name, detail);
export const registers = once((): Word[] => [
  ...Array.from({ length: 31 }, (_, n) => plain(`x${n}`, "64-bit general register")),
  ...Array.from({ length: 31 }, (_, n) => plain(`w${n}`, "32-bit general register")),
  plain("xzr", "zero register, 64 bits"),
  plain("wzr", "zero register, 32 bits"),
  plain("sp", "stack pointer"),
  plain("wsp", "stack pointer, 32 bits"),
  plain("lr", "link register, x30"),
  ...(["q", "d", "s", "h", "b", "v"] as const).flatMap((c, n) =>
    Array.from({ length: 32 }, (_, r) =>
      plain(`${c}${r}`, c === "v" ? "vector register" : `${128 >> n}-bit floating-point and vector register`),
    ),
  ),
]);
/** Registers that only an expectation or an ioctl reads. */
export const stateRegisters = once((): Word[] => [plain("pc", "program counter"), plain("pstate", "process state")]);

function encoding(r: Sysreg): string {
  return `S${(r.key >> 14) & 3}_${(r.key >> 11) & 7}_C${(r.key >> 7) & 15}_C${(r.key >> 3) & 15}_${r.key & 7}`;
}
export const sysregs = once((): Word[] =>
  SYSREGS.map((r) =>
    word("register", r.name, `${encoding(r)}${r.write ? "" : ", read-only"}`, {
      doc: [
        `System register ${code(r.name.toUpperCase())}, ${code(encoding(r))}${r.write ? "" : ", read-only"}.`,
        r.el0Read ? "EL0 may read it." : "",
        r.vm ? "HCR_EL2.TVM and TRVM trap it." : "",
        r.feature === undefined ? "" : `Needs ${code(r.feature)} of the CPU.`,
      ]
        .filter((t) => t !== "")
        .join(" "),
      source: "Arm Architecture Reference Manual (DDI 0487), D24",
    }),
  ),
);

const operation = (mnemonic: string) => (o: SysOp) => word("operation", o.name, `${mnemonic} ${o.name}${o.register ? ", Xt" : ""}${o.feature === undefined ? "" : `, needs ${o.feature}`}`); // prettier-ignore
const named = (names: readonly string[], detail: string): Word[] => names.map((n) => word("operation", n, detail));
const barriers = named(Object.keys(BARRIER_OPTIONS), "domain and kind of accesses");
/** What an operand may say behind a register: shifts, extensions, conditions. */
export const modifiers = once((): Word[] => [
  ...named(SHIFT_NAMES, "shifts the register before it"),
  ...named(EXTEND_NAMES, "extends the register before it"),
  ...CONDITIONS.map((c) => word("operation", c, `condition: ${CONDITION[c]!}`)),
]);
/** What stands behind these mnemonics instead of a register. */
const OPERATIONS: Readonly<Record<string, () => Word[]>> = {
  dc: once(() => DC_OPS.map(operation("dc"))),
  ic: once(() => IC_OPS.map(operation("ic"))),
  at: once(() => AT_OPS.map(operation("at"))),
  tlbi: once(() => TLBI_OPS.map(operation("tlbi"))),
  dmb: () => barriers,
  dsb: () => [...barriers, ...named(Object.keys(BARRIER_NXS), "does not wait for accesses with the XS attribute")],
  isb: () => named(["sy"], "the whole system"),
  prfm: () => named(PREFETCH_OPS.filter((p) => !p.startsWith("#")), "prefetch: for load, store or fetch; level; temporal or streaming"), // prettier-ignore
  msr: () => [...sysregs(), ...named(PSTATE_FIELDS.map((p) => p.name), "field of PSTATE")], // prettier-ignore
  mrs: () => sysregs(),
};
export function operations(mnemonic: string): Word[] | undefined {
  return OPERATIONS[mnemonic]?.();
}
