import { describe, expect, it } from "vitest";
import { pageFaultTest } from "../../src/selftest/pagefault.js";
import { PAGE_FAULT_ROWS } from "../../src/selftest/pagefaultrows.js";
import { BACKINGS, runCase, type CaseResult, type SelftestOptions } from "../../src/selftest/report.js";

const run = (options: SelftestOptions): CaseResult[] => pageFaultTest.cases.map((c) => runCase(pageFaultTest, c, options));
const failed = (results: readonly CaseResult[]): string[] =>
  results
    .filter((r) => !r.ok)
    .map((r) => `${r.name}: ${r.expectations.filter((e) => !e.ok).map((e) => `${e.name}: ${e.expected} / ${e.got}`)}`);
const passed = (results: readonly CaseResult[]): number => results.filter((r) => r.ok && r.skip === "").length;

describe("the table of page_fault_test", () => {
  it("has 65 different rows in eight families", () => {
    expect(PAGE_FAULT_ROWS.length).toBe(65);
    expect(new Set(pageFaultTest.cases.map((c) => c.name)).size).toBe(65);
    const families = new Map<string, number>();
    for (const r of PAGE_FAULT_ROWS) families.set(r.family, (families.get(r.family) ?? 0) + 1);
    expect([...families]).toEqual([
      ["access", 7],
      ["hole", 7],
      ["uffd", 9],
      ["dirty_log", 9],
      ["uffd_and_dirty_log", 9],
      ["ro_memslot", 8],
      ["ro_memslot_and_dirty_log", 8],
      ["ro_memslot_and_uffd", 8],
    ]);
  });
  it("expects what the kernel's table expects, in total", () => {
    const sum = (f: (r: (typeof PAGE_FAULT_ROWS)[number]) => number) => PAGE_FAULT_ROWS.reduce((n, r) => n + f(r), 0);
    expect(sum((r) => r.expected.mmioExits)).toBe(3);
    expect(sum((r) => r.expected.failVcpuRuns)).toBe(9);
    expect(sum((r) => r.expected.uffdFaults)).toBe(17 + 17 + 13);
  });
});

describe("page_fault_test", () => {
  for (const backing of BACKINGS) {
    it(`65 of 65 on ${backing}`, () => {
      const results = run({ backing });
      expect(failed(results)).toEqual([]);
      expect(passed(results)).toBe(65);
    });
  }
  for (const kernel of ["v5.10.223", "v6.1.192", "v6.4", "v6.8", "v6.9", "v6.12.117", "v6.13", "v6.17", "v6.18.2", "v7.2.12", "v7.3.4"]) {
    it(`65 of 65 on ${kernel}`, () => {
      const results = run({ kernel });
      expect(failed(results)).toEqual([]);
      expect(passed(results)).toBe(65);
    });
  }
  it("rows that the CPU cannot run are skipped with the reason", () => {
    const results = run({ cpu: "cortex-a72" });
    expect(failed(results)).toEqual([]);
    const reasons = new Map<string, number>();
    for (const r of results) if (r.skip !== "") reasons.set(r.skip, (reasons.get(r.skip) ?? 0) + 1);
    const withAf = PAGE_FAULT_ROWS.filter((r) => r.withAf).length;
    const cas = PAGE_FAULT_ROWS.filter((r) => !r.withAf && r.access === "cas").length;
    expect([...reasons]).toEqual([
      ["the CPU has no hardware access flag (FEAT_HAFDBS)", withAf],
      ["the CPU has no CAS (FEAT_LSE)", cas],
    ]);
  });
});

describe("a broken decision makes rows fail", () => {
  it("every walk counts as a write, as up to v6.1: read-only page tables and clean ones", () => {
    for (const options of [{ set: { writeFault: "any-s1ptw" } }, { kernel: "v6.1" }]) {
      const rows = failed(run(options)).map((r) => r.split(":")[0]!);
      expect(rows.length).toBe(27);
      expect(rows.filter((r) => r.startsWith("ro_memslot")).length).toBe(24);
      expect(rows).toContain("uffd_and_dirty_log read64 no_af");
    }
  });
  it("only WnR counts: the access-flag update of a walk is no write and KVM_RUN fails", () => {
    const results = run({ set: { writeFault: "wnr" } });
    expect(passed(results)).toBeLessThan(65);
    expect(failed(results).some((r) => r.startsWith("dirty_log read64 with_af"))).toBe(true);
  });
  it("without userfaultfd the rows that need it fail and no others", () => {
    const results = run({ set: { userfaultfd: "false" } });
    expect(passed(results)).toBe(65 - PAGE_FAULT_ROWS.filter((r) => r.uffd).length);
    expect(failed(results)[0]).toContain("userfaultfd fails with errno 38");
  });
});
