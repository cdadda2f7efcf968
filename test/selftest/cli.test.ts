import { describe, expect, test } from "vitest";
import { faultline } from "../cli/command.js";

describe("faultline selftest", () => {
  test("prints TAP: version, plan, a line for each case, its expectations, totals", async () => {
    const r = await faultline(["selftest", "page_fault_test"]);
    expect(r.err).toBe("");
    expect(r.status).toBe(0);
    const lines = r.out.split("\n");
    expect(lines.slice(0, 3)).toEqual(["TAP version 13", "1..65", "ok 1 page_fault_test: access read64 with_af"]);
    expect(lines.filter((l) => /^ok \d+ page_fault_test: /.test(l)).length).toBe(65);
    expect(lines).toContain("#   uffd_faults: 2");
    expect(r.out.trimEnd().split("\n").at(-1)).toBe("# Totals: pass:65 fail:0 skip:0");
  });
  test("a failed case gives status 1 and says what came instead", async () => {
    const r = await faultline(["selftest", "page_fault_test", "--set", "writeFault=any-s1ptw"]);
    expect(r.status).toBe(1);
    expect(r.out).toMatch(/^not ok \d+ page_fault_test: ro_memslot read64$/m);
    expect(r.out).toContain("#   FAILED dirty log: page of the descriptor: false, got true");
    expect(r.out).toContain("# Totals: pass:38 fail:27 skip:0");
  });
  test("skips carry the reason", async () => {
    const r = await faultline(["selftest", "stage2_block_transitions", "--cpu", "neoverse-v1"]);
    expect(r.status).toBe(0);
    expect(r.out).toContain("ok 2 stage2_block_transitions: execute faults split blocks # SKIP CTR_EL0.DIC: blocks are executable at once");
  });
  test("JSON has the totals and every expectation", async () => {
    const r = await faultline(["selftest", "mmu_stress_test", "--json", "--kernel", "v6.17", "--backing", "shmem"]);
    const value = JSON.parse(r.out) as { passed: number; total: number; cases: { expectations: unknown[] }[] };
    expect([value.passed, value.total, value.cases[0]!.expectations.length]).toEqual([2, 2, 9]);
  });
  test.each([
    [["page_fault_tst"], 'no selftest named "page_fault_tst": did you mean "page_fault_test"?'],
    [["--kernel", "v6.11"], 'no era named "v6.11"'],
    [["--cpu", "cortex-a7"], 'no CPU named "cortex-a7"'],
    [["--backing", "shm"], 'no backing source named "shm"'],
    [["--set", "x"], '--set takes decision=value, not "x"'],
    [["--format", "xml"], "xml"],
  ])("wrong input %j gives status 2 and says what is right", async (args, message) => {
    const r = await faultline(["selftest", ...args]);
    expect(r.status).toBe(2);
    expect(r.err).toContain(message);
  });
  test("--list names the tests", async () => {
    const r = await faultline(["selftest", "--list"]);
    expect(r.out.split("\n").filter((l) => l !== "").length).toBe(9);
    expect(r.out).toMatch(/^page_fault_test +65 /m);
    expect(r.out).toMatch(/^guest_memfd_test +21 /m);
  });
});
