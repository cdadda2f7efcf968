// Builds dist/ and the manual page, and with --types the type declarations.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { bundle } from "./bundle.mjs";
import { buildManPage } from "./man.mjs";

await bundle("dist");
await buildManPage("man/faultline.1");
// Declarations take longer than all the rest: they are made where the package is (npm ci, npm pack).
if (process.argv.includes("--types") && existsSync("tsconfig.types.json"))
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"], { stdio: "inherit" });
