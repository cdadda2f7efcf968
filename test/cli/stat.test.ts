import { expect, test } from "vitest";
import { RECORD_WORDS, findEvent } from "../../src/sim/events.js";
import "../../src/machine.js";
import { statText } from "../../src/cli/stat.js";
import { Statistics } from "../../src/trace/statistics.js";
import { faultline } from "./command.js";

const VCPU = 1;
/** Records of one vCPU: [event, time, words…]. */
function counted(...records: readonly (readonly [string, number, ...number[]])[]) {
  const ring = new Float64Array(records.length * RECORD_WORDS);
  records.forEach(([name, time, ...words], i) => ring.set([i, time, VCPU, findEvent(name)!.id, ...words], i * RECORD_WORDS));
  const s = new Statistics();
  s.take(ring, 0, records.length);
  return s.result();
}
const DABT = [2, 0x24] as const;
const HVC = [2, 0x16] as const;

test("an exit lasts until the vCPU enters again; shares, extremes and the error of the mean are perf's", () => {
  const r = counted(
    ["kvm_entry", 0],
    ["kvm_exit", 100, ...DABT],
    ["kvm_entry", 1100],
    ["kvm_exit", 2000, ...DABT],
    ["kvm_entry", 5000],
    ["kvm_exit", 6000, ...HVC],
    ["kvm_entry", 7000],
    ["kvm_exit", 8000, ...DABT],
  );
  expect(r.exits).toEqual([
    { reason: "DABT_LOW", samples: 2, total: 4000, min: 1000, max: 3000, mean: 2000, relativeStddev: 50 },
    { reason: "HVC64", samples: 1, total: 1000, min: 1000, max: 1000, mean: 1000, relativeStddev: 0 },
  ]);
  expect(statText(r).slice(0, 9)).toEqual([
    "Analyze events for all VMs, all VCPUs:",
    "",
    "             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time         Avg time",
    "",
    "            DABT_LOW          2    66.67%    80.00%      1.00us      3.00us      2.00us ( +-  50.00% )",
    "               HVC64          1    33.33%    20.00%      1.00us      1.00us      1.00us ( +-   0.00% )",
    "",
    "Total Samples:3, Total events handled time:5.00us.",
    "",
  ]);
});

test("the exit at the end of a guest block is Faultline's own and is not counted", () => {
  const r = counted(["kvm_entry", 0], ["kvm_exit", 10, 2, 0x30], ["kvm_userspace_exit", 10, 4, 0], ["kvm_entry", 900]);
  expect(r.exits).toEqual([]);
  expect(r.debugfs["exits"]).toBe(0);
});

test("debugfs counters of a run under the kernel's names: MMIO for the VMM, HVC", async () => {
  const script = `guest { ldr x0, [0x90000000]; str x0, [0x90000008]; hvc 0; mov x0, 1 }`;
  const r = await faultline(["run", "-", "--quiet", "--stat", "--json"], { input: script });
  const [variant] = (JSON.parse(r.out) as { variants: { statistics: ReturnType<Statistics["result"]> }[] }).variants;
  const { debugfs, exits, faultline: ours, tracepoints } = variant!.statistics;
  expect(debugfs).toMatchObject({ mmio_exit_user: 2, mmio_exit_kernel: 0, hvc_exit_stat: 1, wfe_exit_stat: 0, wfi_exit_stat: 0 });
  expect(Object.fromEntries(exits.map((e) => [e.reason, e.samples]))).toEqual({ DABT_LOW: 2, IABT_LOW: 1, HVC64: 1 });
  expect(debugfs["exits"]).toBe(4);
  expect(ours["faultline_guest_faults"]).toBe(tracepoints["kvm_guest_fault"]);
});

test("--stat prints a table per variant", async () => {
  const r = await faultline(["run", "2019-munmap-remap", "--quiet", "--stat"]);
  expect(r.out.match(/^v5\.[45]: statistics, in virtual time \(1 cycle = 1 ns\)$/gm)).toHaveLength(2);
  expect(r.out.match(/^ +VM-EXIT +Samples +Samples% +Time% +Min Time +Max Time +Avg time$/gm)).toHaveLength(2);
});
