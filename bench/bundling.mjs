/** How esbuild bundles what is measured outside of `dist/`: one file, for Node. */
export const BUNDLING = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  minifySyntax: true,
  logLevel: "error",
  external: ["benny"],
  banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
};
