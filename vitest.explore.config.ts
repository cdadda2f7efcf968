import { defineConfig } from "vitest/config";

/** Everything about exploring, also what takes minutes. */
export default defineConfig({
  test: {
    maxConcurrency: 2,
    include: ["test/explore/**/*.test.ts", "test/explore/**/*.explore.ts"],
    globalSetup: "test/built.ts",
    // The longest takes a quarter of a minute of processor time: the rest is for busy machines.
    testTimeout: 600_000,
  },
});
