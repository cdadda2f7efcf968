import { defineConfig } from "vitest/config";
import floor from "./test/coverage-floor.json" with { type: "json" };

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/built.ts",
    testTimeout: 60_000,
    // On two cores vitest would take one.
    maxWorkers: "100%",
    coverage: { provider: "v8", include: ["src/**/*.ts"], exclude: ["src/report/page/**"], reporter: ["text-summary"], thresholds: floor },
  },
});
