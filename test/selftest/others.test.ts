import { describe, expect, it } from "vitest";
import { ERAS } from "../../src/eras.js";
import { blockTransitions } from "../../src/selftest/blocktransitions.js";
import { externalAborts } from "../../src/selftest/externalaborts.js";
import { guestMemfdTest } from "../../src/selftest/guestmemfd.js";
import { mmioSignExt } from "../../src/selftest/mmiosignext.js";
import { mmuStressTest } from "../../src/selftest/mmustress.js";
import { pageTableTest } from "../../src/selftest/pagetable.js";
import { Checks, needs, runCase, type CaseResult, type Selftest, type SelftestOptions } from "../../src/selftest/report.js";
import { setMemoryRegionTest } from "../../src/selftest/setmemoryregion.js";
import { SELFTESTS } from "../../src/selftest/suite.js";

const run = (t: Selftest, options: SelftestOptions): CaseResult[] => t.cases.map((c) => runCase(t, c, options));
const failed = (results: readonly CaseResult[]): string[] =>
  results
    .filter((r) => !r.ok)
    .map(
      (r) =>
        `${r.name}: ${r.expectations
          .filter((e) => !e.ok)
          .map((e) => `${e.name}: ${e.expected} / ${e.got}`)
          .join("; ")}`,
    );
const skipped = (results: readonly CaseResult[]): string[] => results.filter((r) => r.skip !== "").map((r) => `${r.name}: ${r.skip}`);

const OTHERS = SELFTESTS.filter((t) => t.name !== "page_fault_test");

describe("the other selftests hold", () => {
  for (const era of ERAS.filter((e) => e.name !== "v4.0")) {
    it(era.name, () => {
      for (const t of OTHERS) expect(failed(run(t, { kernel: era.name }))).toEqual([]);
    });
  }
  it("on every CPU", () => {
    for (const cpu of ["cortex-a72", "cortex-a76", "neoverse-v1"]) for (const t of OTHERS) expect(failed(run(t, { cpu }))).toEqual([]);
  });
  it("v4.0 replaces live entries without break-before-make when blocks come and go", () => {
    const wrong = OTHERS.flatMap((t) => failed(run(t, { kernel: "v4.0" })));
    expect(wrong.length).toBe(1);
    expect(wrong[0]).toContain("anonymous_hugetlb_2mb: no TLB conflict on the way: ");
    expect(wrong[0]).toContain("break_before_make_violation");
  });
});

describe("what cannot be tested is skipped with its reason", () => {
  it("by the CPU", () => {
    expect(skipped(run(blockTransitions, { cpu: "neoverse-v1" }))).toEqual([
      "execute faults split blocks: CTR_EL0.DIC: blocks are executable at once",
    ]);
  });
  it("by the kernel", () => {
    expect(skipped(run(externalAborts, { kernel: "v5.4" }))).toEqual([
      "mmio abort: KVM_CAP_ARM_INJECT_EXT_DABT is unknown here",
      "mmio nisv abort: KVM_CAP_ARM_NISV_TO_USER is unknown here",
    ]);
    const gmem = (kernel: string): string[] => [...new Set(skipped(run(guestMemfdTest, { kernel })).map((s) => s.split(": ")[1]!))];
    expect(gmem("v6.17")).toEqual(["KVM_CAP_GUEST_MEMFD is unknown here"]);
    expect(gmem("v6.18.2")).toEqual([]);
  });
});

describe("expectations that differ by release", () => {
  const names = (t: Selftest, name: string, kernel: string): string[] =>
    runCase(
      t,
      t.cases.find((c) => c.name === name)!,
      { kernel },
    ).expectations.map((e) => `${e.name}: ${e.got}`);

  it("an abort that answers an MMIO exit: in the vector at once, lost, delivered", () => {
    expect(names(externalAborts, "mmio abort", "v5.8")).toContain("PC: the vector: 0x200");
    expect(names(externalAborts, "mmio abort", "v6.12")).toContain("the abort is lost in this release: the load is repeated: exit MMIO");
    for (const kernel of ["v6.12.117", "v6.17"])
      expect(names(externalAborts, "mmio abort", kernel)).toEqual(
        expect.arrayContaining(["ESR_EL1: fault status: 0x10", "the load is not completed: 0x0"]),
      );
  });
  it("a walk into unbacked memory: ENOSYS, an external abort, one with the level", () => {
    expect(names(externalAborts, "s1ptw abort", "v5.4")).toEqual(["a walk into unbacked memory: KVM_RUN: ENOSYS"]);
    expect(names(externalAborts, "s1ptw abort", "v6.17")).toContain("ESR_EL1: fault status: 0x10");
    expect(names(externalAborts, "s1ptw abort", "v6.18.2")).toContain("ESR_EL1: fault status: 0x17");
  });
  it("sign extension: lost, then kept", () => {
    expect(names(mmioSignExt, "ldrsb to x", "v6.18.2")).toContain("8 bits, top bit set: not sign-extended (lost until v7.2): 0x84");
    expect(names(mmioSignExt, "ldrsb to x", "v7.2.12")).toContain("8 bits, top bit set: sign-extended: 0xffffffffffffff84");
    expect(names(mmioSignExt, "ldrsb to w", "v7.2.12")).toContain("8 bits, top bit set: sign-extended: 0xffffff84");
  });
});

describe("a broken decision makes cases fail", () => {
  const broken = (t: Selftest, set: Record<string, string>, kernel = "v6.12"): string[] =>
    failed(run(t, { kernel, set })).map((r) => r.split(":")[0]!);

  it("external_aborts", () => {
    expect(broken(externalAborts, { mmioPendingException: "completes" }, "v6.13")).toEqual(["mmio abort"]);
    expect(broken(externalAborts, { mmioPendingException: "completes", vcpuEvents: "pended" }, "v6.17")).toEqual(["mmio abort", "serror"]);
    expect(broken(externalAborts, { injectS1ptwFsc: "external-abort" }, "v6.18.2")).toEqual(["s1ptw abort"]);
  });
  it("mmio_sign_ext", () => {
    expect(broken(mmioSignExt, { mmioSignExtend: "lost" }, "v7.2.12").length).toBe(5);
    expect(broken(mmioSignExt, { mmioSignExtend: "kept" }).length).toBe(5);
  });
  it("mmu_stress_test", () => {
    expect(broken(mmuStressTest, { notifierRelease: "empty" })).toEqual(["delete slots, munmap, exit"]);
  });
  it("stage2_block_transitions and kvm_page_table_test: a write that is missing from the dirty log", () => {
    const set = { dirtyMark: "pages-before-set" };
    expect(broken(blockTransitions, set)).toEqual(["collapse after dirty logging"]);
    expect(broken(pageTableTest, set)).toEqual(["anonymous", "shmem", "anonymous_hugetlb_2mb"]);
    expect(broken(blockTransitions, { dirtyLogFlush: "skip" })).toEqual(["collapse after dirty logging"]);
  });
  it("set_memory_region_test", () => {
    expect(broken(setMemoryRegionTest, { memslotIpaLimit: "last-page-unusable" })).toEqual(["up to the end of the VM's guest addresses"]);
    expect(broken(setMemoryRegionTest, { memslotWriteCheck: "eperm" })).toEqual(["a writable slot over memory that is read-only"]);
    expect(broken(setMemoryRegionTest, { userMemslots: "512" })).toEqual([]);
  });
});

it("a table cache that is filled late is filled all the same", () => {
  for (const t of OTHERS) expect(failed(run(t, { set: { memcacheTopup: "after-unlock" } }))).toEqual([]);
});

describe("the harness", () => {
  const test = (name: string, body: (c: Checks) => void): CaseResult =>
    runCase({ name: "t", title: "", cases: [] }, { name, run: body }, {});
  it("a case that expects nothing, throws or fails is not ok", () => {
    expect(test("nothing", () => undefined).ok).toBe(false);
    expect(test("wrong", (c) => void c.expect("two", 2, 3)).ok).toBe(false);
    expect(
      test("throws", () => {
        throw new Error("broken");
      }).expectations,
    ).toEqual([{ name: "runs to its end", expected: "yes", got: "broken", ok: false }]);
  });
  it("a skip is ok and keeps its reason", () => {
    const r = test("skip", () => needs({ era: { kvm: { a: 1 } } } as never, "kvm", "a", "2", "why"));
    expect([r.ok, r.skip]).toEqual([true, "why"]);
  });
});
