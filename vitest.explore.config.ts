import { defineConfig } from "vitest/config";

/** Everything about exploring, also what takes minutes. */
export default defineConfig({
  test: {
    maxConcurrency: 2,
    include: ["test/explore/**/*.test.ts", "test/explore/**/*.explore.ts"],
    globalSetup: "test/built.ts",
    testTimeout: 120_000,
  },
});
