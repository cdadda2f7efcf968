import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { baselineKey, conformRecording, recordingFiles, type Baseline } from "../../src/conform/conform.js";
import { parseRecording } from "../../src/conform/recording.js";

const baseline = JSON.parse(readFileSync("recordings/baseline.json", "utf8")) as Baseline;
const folders = ["v5.4", "v5.5", "v5.10.223", "v6.1.192", "v6.12.117", "v6.18.2", "v7.2.12", "v7.3.4"];

test.each(folders)("no recording of %s matches worse than the baseline", (kernel) => {
  const worse = recordingFiles([`recordings/${kernel}`]).flatMap((file) => {
    const result = conformRecording(parseRecording(file, readFileSync(file, "utf8")));
    const was = baseline[baselineKey(result)];
    if (was === undefined) return [`${file} is not in the baseline`];
    return result.matched < was ? [`${file}: ${was} -> ${result.matched}`] : [];
  });
  expect(worse).toEqual([]);
});

test("at least 99 % of the observations of v5.5 and later are reproduced, 97 % of v5.4", () => {
  const share = (kernels: readonly string[]) => {
    let matched = 0;
    let total = 0;
    for (const file of recordingFiles(kernels.map((k) => `recordings/${k}`))) {
      const recording = parseRecording(file, readFileSync(file, "utf8"));
      matched += baseline[baselineKey(recording)] ?? 0;
      total += recording.steps.reduce((n, s) => n + s.observed.filter((o) => recording.events || o.kind === "=").length, 0);
    }
    return matched / total;
  };
  expect(share(folders.slice(1))).toBeGreaterThanOrEqual(0.99);
  expect(share(["v5.4"])).toBeGreaterThanOrEqual(0.97);
});

test("a recorded step replayed under another era differs where that era differs", () => {
  const file = "recordings/v5.5/max/v1_vfio_ivshmem.rec";
  const recording = parseRecording(file, readFileSync(file, "utf8"));
  const result = conformRecording(recording, { kernel: "v5.4" });
  expect(result.matched).toBeLessThan(result.total);
  expect(result.firstDifference?.command).toBe("resume");
  expect(result.firstDifference?.got[0]).toBe("= HOST CRASH");
});
