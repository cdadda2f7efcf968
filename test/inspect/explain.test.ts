import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { accesses } from "../../src/inspect/accesses.js";
import { accessOf, explain, notable } from "../../src/inspect/explain.js";
import { record, type Recorded } from "../../src/inspect/recorded.js";

const folder = new URL("../../scenarios/", import.meta.url);
const names = readdirSync(folder).filter((f) => f.endsWith(".guest"));

function ran(name: string, variant?: string): Recorded {
  const program = compile(name, readFileSync(new URL(name, folder), "utf8"), machineWorld);
  return record(program, program.variants.find((v) => v.name === variant) ?? program.variants[0]!);
}

test.each(names)("%s: every access of its first variant has a chain that begins at the instruction and ends in its outcome", (name) => {
  const run = ran(name);
  for (const a of accesses(run).slice(0, 40)) {
    const { chain, prose } = explain(run, a, { check: false });
    expect(a.from <= a.to && a.fault <= a.to).toBe(true);
    expect(chain.at(-1)).toMatchObject({ what: "outcome", answer: a.outcome });
    if (a.fault >= 0) expect(chain[0]!.what).toBe("instruction");
    expect(prose.at(-1)).toBe(`So ${a.outcome}.`);
  }
});

describe("a guest store to a read-only PFNMAP entry", () => {
  const run = ran("2026-write-notify-efault.guest", "v6.18.2");
  const all = notable(run);
  const { chain, whatIf } = explain(run, all[1]!, { check: true });
  const said = (what: string) => chain.filter((l) => l.what === what).map((l) => l.answer);

  test("is told from the instruction over slot, VMA and host entry to the branch", () => {
    expect(all.map((a) => [a.line, a.kind, a.outcome])).toEqual([
      [25, "errno", "KVM_RUN fails with EFAULT"],
      [37, "errno", "KVM_RUN fails with EFAULT"],
    ]);
    expect(said("instruction")).toEqual(["str x1, [x16] at 0x40000824, address 0x80001000"]);
    expect(said("stage 2").at(-1)).toBe("level 3: 0x4000004000445b, page, read-only, MEM/NORMAL");
    expect(said("memslot")).toEqual(["slot 1, hva 0xfffff7df1000"]);
    expect(said("VMA")[0]).toBe(
      "0xfffff7df0000-0xfffff7e00000 rw-s /dev/drm_shmem; VmFlags rd wr sh mr mw me ms pf io de dd; vm_page_prot writecombine",
    );
    expect(said("host entry").at(-1)).toBe("level 3: pa 0x40004000, read-only (written by event 158)");
    expect(said("decision")).toContain("pfnmapWriteRetry = false");
    expect(said("branch").slice(-2)).toEqual(["write fault on a read-only PFNMAP entry", "error pfn"]);
  });

  test("what would have answered otherwise was run: releases and decisions", () => {
    expect(whatIf!.kernels).toEqual([
      {
        kernels: ["v4.0", "v4.10", "v4.20", "v5.4", "v5.5", "v5.6", "v5.8", "v5.10", "v5.10.223", "v5.11", "v5.12"],
        outcome: "no fault: the tables serve the access",
        same: false,
      },
      {
        kernels: [
          "v5.14",
          "v5.15",
          "v6.1",
          "v6.1.192",
          "v6.4",
          "v6.6",
          "v6.8",
          "v6.9",
          "v6.12",
          "v6.12.117",
          "v6.13",
          "v6.17",
          "v6.18.2",
          "v7.2.12",
          "v7.3.4",
        ],
        outcome: "KVM_RUN fails with EFAULT",
        same: true,
      },
    ]);
    expect(whatIf!.decisions.map((d) => [`${d.name}=${d.value}`, d.outcome])).toContainEqual([
      "pfnmapWriteRetry=true",
      "permissions added: rw, Normal",
    ]);
    expect(whatIf!.skipped).toBe(0);
  });

  test("the run with the changed decision, made by itself, does what was claimed", () => {
    const d = whatIf!.decisions.find((x) => x.name === "pfnmapWriteRetry")!;
    const again = record(run.program, { ...run.variant, set: { [d.name]: d.value } });
    expect(notable(again)).toEqual([]);
  });
});

test("a host crash is the outcome of the access that met it", () => {
  const run = ran("2019-munmap-remap.guest", "v5.4");
  const [only, ...others] = notable(run);
  expect(others).toEqual([]);
  expect(only).toMatchObject({
    kind: "crash",
    line: 37,
    outcome: "the host crashes in transparent_hugepage_adjust: PFN without struct page",
  });
});

test("an event inside an access finds it, an event of the VMM finds none", () => {
  const run = ran("2026-write-notify-efault.guest", "v6.18.2");
  const [first] = notable(run);
  for (const seq of [first!.from, first!.fault, first!.to]) expect(accessOf(run, seq)).toEqual(first);
  expect(accessOf(run, run.events.find(["memslots_published"], run.events.first, 1))).toBeUndefined();
});

test("an access that the tables served is explained as that", () => {
  const run = ran("2026-write-notify-efault.guest", "v6.18.2");
  const miss = run.events.find(["tlb_miss"], 174, 1);
  const a = accessOf(run, miss)!;
  expect(a).toMatchObject({ kind: "done", fault: -1, outcome: "served without KVM: the tables had an entry" });
  expect(explain(run, a, { check: true }).whatIf).toBeUndefined();
});

test("functions have the names of the release that is explained", () => {
  const named = (era: string): readonly string[] => {
    const program = compile(
      "bar.guest",
      [
        "machine { devices ivshmem }",
        `variant ${era}`,
        "let dev = vfio_open(0000:00:06.0)",
        "let bar = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2, align=2M)",
        "KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=4M, userspace_addr=bar)",
        "munmap(bar, 4M)",
        "mmap(bar, 4M, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, dev, bar2)",
        "guest { ldr x0, [0x80000000] }",
      ].join("\n"),
      machineWorld,
    );
    const run = record(program, program.variants[0]!);
    const { chain } = explain(run, accesses(run).at(-1)!, { check: false });
    return [...new Set(chain.filter((l) => ["VMA", "host entry", "driver", "pfn"].includes(l.what)).map((l) => l.source))];
  };
  expect(["v4.0", "v5.5", "v5.12", "v5.14", "v6.12", "v6.18.2"].map((era) => `${era}: ${named(era).join("; ")}`)).toEqual([
    "v4.0: find_vma_intersection; fast GUP; __gfn_to_pfn_memslot, hva_to_pfn",
    "v5.5: find_vma_intersection; fast GUP; GUP, follow_pfn; __gfn_to_pfn_memslot, hva_to_pfn",
    "v5.12: find_vma_intersection; fast GUP; GUP, follow_pte; the fault handler; vfio_pci_mmap_fault; __gfn_to_pfn_memslot, hva_to_pfn",
    "v5.14: vma_lookup; fast GUP; GUP, follow_pte; the fault handler; vfio_pci_mmap_fault; __gfn_to_pfn_memslot, hva_to_pfn",
    "v6.12: vma_lookup; fast GUP; GUP, follow_pfnmap_start; the fault handler; vfio_pci_mmap_huge_fault; __gfn_to_pfn_memslot, hva_to_pfn",
    "v6.18.2: vma_lookup; fast GUP; GUP, follow_pfnmap_start; the fault handler; vfio_pci_mmap_huge_fault; __kvm_faultin_pfn, hva_to_pfn",
  ]);
});
