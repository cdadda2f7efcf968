import { defineConfig } from "vitest/config";
import floor from "./test/coverage-floor.json" with { type: "json" };

/** Rooms whose tests are many and short: they share a process, which loads the modules once and keeps what V8 has compiled of them. */
const SHARED = ["arch", "inspect", "kvm", "litmus", "mmu", "sim", "trace", "vfio"].map((room) => `test/${room}/**/*.test.ts`);

export default defineConfig({
  test: {
    globalSetup: "test/built.ts",
    testTimeout: 60_000,
    // On two cores vitest would take one.
    maxWorkers: "100%",
    projects: [
      { extends: true, test: { name: "rooms", include: SHARED, isolate: false } },
      { extends: true, test: { name: "apart", include: ["test/**/*.test.ts"], exclude: SHARED } },
    ],
    coverage: { provider: "v8", include: ["src/**/*.ts"], exclude: ["src/report/page/**"], reporter: ["text-summary"], thresholds: floor },
  },
});
