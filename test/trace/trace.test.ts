import { describe, expect, test } from "vitest";
import "../../src/machine.js";
import { causes, vmaFlags } from "../../src/guest/cause.js";
import { VM_IO, VM_PFNMAP } from "../../src/mmu/vmflags.js";
import { eventCatalogue, findEvent, type EventRecord } from "../../src/sim/events.js";
import { fieldsText, size } from "../../src/trace/fields.js";
import { faultStatus, remark, syndromeText } from "../../src/trace/remarks.js";
import { shown, telling } from "../../src/trace/story.js";
import { eventLine, fold, foldedLines, KEPT_FIELDS } from "../../src/trace/text.js";

let seq = 0;
const event = (name: string, fields: Record<string, number | string | boolean> = {}, agent = "vcpu0"): EventRecord => {
  const decl = findEvent(name)!;
  const all = Object.fromEntries(
    decl.fields.map((f) => [
      f.name,
      f.kind === "bool" ? false : f.kind === "hex64" ? "0x0" : f.kind === "enum" ? f.values![0]! : f.kind === "name" ? "" : 0,
    ]),
  );
  return { seq: seq++, time: 0, agent, event: name, ...all, ...fields };
};
const plain = { width: 0, annotate: true };

describe("a syndrome in words", () => {
  test.each([
    [0x93c08005, "load of 8 bytes: translation fault, level 1"],
    [0x93c48005, "load of 8 bytes: translation fault, level 1"],
    [0x9200004f, "store: permission fault, level 3"],
    [0x8200000f, "fetch: permission fault, level 3"],
    [0x86000010, "fetch: external abort"],
    [0x92000010, "load: external abort"],
    [0x92000050, "store: external abort"],
    [0x96000010, "data access: external abort"],
    [0x96000017, "data access: external abort on a walk, level 3"],
    [0x92000147, "cache maintenance: translation fault, level 3"],
    [0x92000087, "load, in its stage-1 walk: translation fault, level 3"],
    [0x56000000, "SVC"],
    [0x02000000, "undefined instruction"],
  ])("%i is %s", (esr, text) => expect(syndromeText(esr)).toBe(text));
  test("names every fault status of the abort classes", () => {
    for (const fsc of [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 15, 0x10, 0x14, 0x15, 0x16, 0x17, 0x21, 0x35])
      expect(faultStatus(fsc)).not.toMatch(/^fault status/);
  });
});

describe("the trace's tables", () => {
  test("name only events that are declared, and fields that they have", () => {
    for (const [name, fields] of Object.entries(KEPT_FIELDS)) {
      const decl = findEvent(name);
      expect(decl, name).toBeDefined();
      for (const f of fields)
        expect(
          decl!.fields.map((x) => x.name),
          name,
        ).toContain(f);
    }
  });
  test("have a remark or fields for every event, and never throw", () => {
    for (const decl of eventCatalogue()) {
      const e = event(decl.name);
      expect(() => remark(e)).not.toThrow();
      expect(remark(e)).not.toMatch(/undefined(?! instruction)|NaN/);
      expect(fieldsText(e).split(" ").length).toBeGreaterThanOrEqual(Math.min(1, decl.fields.length));
    }
  });
  test("show more with each level of detail", () => {
    for (const decl of eventCatalogue()) {
      if (shown(decl.name, "story")) expect(shown(decl.name, "explain")).toBe(true);
      expect(shown(decl.name, "all")).toBe(true);
      expect(shown(decl.name, "none")).toBe(false);
    }
  });
});

describe("a text trace", () => {
  test("has one event per line: number, agent, event, its fields, a remark", () => {
    seq = 12;
    expect(eventLine(event("kvm_guest_fault", { ipa: 0x80000000, hsr: "0x93c08005" }), plain)).toBe(
      "    12 vcpu0  kvm_guest_fault      ipa=0x80000000 hsr=0x93c08005   load of 8 bytes: translation fault, level 1",
    );
  });
  test("without annotations has all fields under the kernel's names", () => {
    seq = 3;
    expect(
      eventLine(event("kvm_guest_fault", { ipa: 4096, hsr: "0x5", hxfar: "0x1000", vcpu_pc: "0x40000800" }), { width: 0, annotate: false }),
    ).toBe("     3 vcpu0  kvm_guest_fault      vcpu_pc=0x40000800 hsr=0x5 hxfar=0x1000 ipa=0x1000");
  });
  test("cuts lines to the width and marks the cut", () => {
    const line = eventLine(event("kvm_guest_fault"), { width: 40, annotate: true });
    expect(line).toHaveLength(40);
    expect(line.endsWith("…")).toBe(true);
  });
  test("folds rounds of the same events, and says how many and how far", () => {
    const events = Array.from({ length: 10 }, (_, i) => [
      event("kvm_guest_fault", { ipa: i * 4096 }),
      event("guest_abort", { ret: 1 }),
    ]).flat();
    const folded = fold(events);
    expect(folded).toHaveLength(1);
    expect(folded[0]).toMatchObject({ rounds: 10 });
    expect(foldedLines(folded[0]!, plain).at(-1)).toMatch(/… and 9 more rounds of these 2 events, up to ipa=0x9000$/);
  });
  test("folds rounds that begin with a repetition of their own", () => {
    const round = [...Array.from({ length: 4 }, () => event("stage2_set")), event("tlbi")];
    const folded = fold(Array.from({ length: 4 }, () => round).flat());
    expect(folded.map((f) => [f.events.length, f.rounds])).toEqual([[5, 4]]);
  });
  test("keeps what does not repeat", () => {
    const events = [event("kvm_guest_fault"), event("guest_abort"), event("kvm_mmio"), event("kvm_guest_fault")];
    expect(fold(events).map((f) => f.rounds)).toEqual([1, 1, 1, 1]);
  });
  test("leaves out barriers that complete nothing and the breakpoint behind a block", () => {
    const events = [
      event("dsb", { completed: 0 }),
      event("dsb", { completed: 2 }),
      event("kvm_userspace_exit", { reason: 4, errno: 0 }),
      event("kvm_userspace_exit", { reason: 6, errno: 0 }),
    ];
    expect(telling(events, "story")).toEqual([events[1], events[3]]);
    expect(telling(events, "all")).toHaveLength(4);
  });
});

test("a cause chain links what was asked, in order, for the faults that did not simply end in a mapping", () => {
  const quiet = [event("kvm_guest_fault"), event("guest_abort", { ret: 1 })];
  const failing = [
    event("kvm_guest_fault", { hsr: "0x93c08005", ipa: 0x80000000 }),
    event("memslot_lookup", { slot: 1, hva: 0x7000, writable: true }),
    event("fault_vma", { flags: VM_PFNMAP | VM_IO }),
    event("branch", { function: "user_mem_abort", branch: "error pfn" }),
    event("guest_abort", { ret: -14 }),
  ];
  expect(causes([...quiet, ...failing]).map((c) => c.chain)).toEqual([
    [
      "load of 8 bytes: translation fault, level 1 at ipa 0x80000000",
      "memslot 1, hva 0x7000",
      "VMA with PFNMAP IO",
      "user_mem_abort: error pfn",
      "EFAULT",
    ],
  ]);
  expect(vmaFlags(VM_PFNMAP)).toEqual(["PFNMAP"]);
});

test("sizes are written in the largest unit that divides them", () => {
  expect([4096, 2 ** 21, 2 ** 30, 4097].map(size)).toEqual(["4 KiB", "2 MiB", "1 GiB", "4097 bytes"]);
});
