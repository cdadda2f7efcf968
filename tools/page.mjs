// Bundles the report's page, with the libraries it uses, into two files that the command puts into each report.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));

/** @param {string} outdir gets report/page.js and report/page.css */
export async function buildPage(outdir) {
  await build({
    entryPoints: [
      { in: `${root}src/report/page/main.ts`, out: "report/page" },
      { in: `${root}src/report/page/page.css`, out: "report/page" },
    ],
    bundle: true,
    minify: true,
    format: "iife",
    platform: "browser",
    target: ["es2022"],
    // The licences of what is bundled stay with it.
    legalComments: "inline",
    charset: "ascii",
    outdir,
    logLevel: "warning",
  });
}
