import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import floor from "./test/coverage-floor.json" with { type: "json" };

/** The longest tests: counting coverage would make them a third longer, and what only they run is less than a percent of the lines. */
const LONG = [
  "arch/walks",
  "architecture/registry",
  "conform/branches",
  "conform/recordings",
  "docs/api",
  "docs/blocks",
  "explore/catalogue",
  "fuzz/fuzz",
  "fuzz/planted",
  "guest/livelock",
  "guest/rollback",
].map((name) => `test/${name}.test.ts`);

export default defineConfig({
  test: {
    globalSetup: "test/built.ts",
    testTimeout: 120_000,
    // On two cores vitest would take one. One more than the cores: some tests wait for a process of theirs.
    maxWorkers: availableParallelism() + 1,
    // Files share their process: modules are loaded once, and what V8 has compiled of them is kept.
    isolate: false,
    projects: [
      { extends: true, test: { name: "covered", include: ["test/**/*.test.ts"], exclude: LONG } },
      { extends: true, test: { name: "long", include: LONG } },
    ],
    coverage: { provider: "v8", include: ["src/**/*.ts"], exclude: ["src/report/page/**"], reporter: ["text-summary"], thresholds: floor },
  },
});
