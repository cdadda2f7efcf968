/** What KernelShark shows of trace.dat: its library reads the files, without its window. */
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { report, RACE, traceCmd, traced } from "./tracing.js";

const READER = fileURLToPath(new URL("kshark.py", import.meta.url));
const kshark = spawnSync("python3", ["-c", 'import ctypes; ctypes.CDLL("libkshark.so.2")']).status === 0;
const WITH_KSHARK =
  kshark && traceCmd ? "KernelShark: " : "SKIPPED, no libkshark or trace-cmd here (apt-get install libkshark2 trace-cmd; CI has them): ";

/** Time, task, CPU, event and fields of each entry. */
function entries(trace: string): string[][] {
  // It knows the format by the extension.
  const file = `${trace}.dat`;
  copyFileSync(trace, file);
  const { stdout, stderr } = spawnSync("python3", [READER, file], { encoding: "utf8", maxBuffer: 1 << 28 });
  expect(stderr).toBe("");
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [, time, task, cpu, , event, info] = /^[^;]*; (\d+); (.*?); CPU (\d+); (.*?); (.*?); (.*); 0x[0-9a-f]+$/.exec(line)!;
      return [time!, task!, cpu!, event!, info!.trim()];
    });
}

test.skipIf(!kshark || !traceCmd)(
  `${WITH_KSHARK}it reads every event of versions 6 and 7, with the task, time and fields that trace-cmd reports`,
  () => {
    const { events, files } = traced(RACE, ["trace.dat", "trace.dat-v7"]);
    const six = entries(files["trace.dat"]);
    expect(entries(files["trace.dat-v7"])).toEqual(six);
    const task: Record<string, string> = { vmm: "vmm-1000", vcpu0: "CPU 0/KVM-1001", vcpu1: "CPU 1/KVM-1002" };
    expect(six.map(([, t, , event]) => [t, event!.replace(/^.*\//, "")])).toEqual(events.map((e) => [task[e.agent], e.event]));
    // libtraceevent's kvm plugin, which knows x86 alone, speaks in KernelShark: the kernel's own events are compared by name.
    const own = (event: string): boolean => event.startsWith("faultline/");
    const said = report(files["trace.dat"]).map((l) => /^ *(.+?) +\[(\d+)\] +(\d+)\.(\d+): [a-z0-9_]+: +(.*)$/.exec(l)!);
    expect(six.map(([time, t, cpu, event, info]) => [Number(time), t, Number(cpu), own(event!) ? info : ""])).toEqual(
      said.map((m, n) => [Number(m[3]) * 1e9 + Number(m[4]), m[1], Number(m[2]), own(six[n]![3]!) ? m[5]!.trim() : ""]),
    );
  },
);
