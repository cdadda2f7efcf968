/** Before the tests: builds the command as `npm run build` does, into a folder of the tests' own, unless it is there from the same sources. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
// @ts-expect-error a tool without types
import { bundle } from "../tools/bundle.mjs";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = "node_modules/.cache/faultline-test";

/** Changes when a file that goes into the command does. */
function stamp(): string {
  const hash = createHash("sha256");
  for (const top of ["src", "bench", "tools", "package.json", "package-lock.json"]) {
    const names = top.includes(".") ? [""] : readdirSync(join(root, top), { recursive: true, encoding: "utf8" }).sort();
    for (const name of names) {
      const { mtimeMs, size } = statSync(join(root, top, name));
      hash.update(`${top}/${name} ${mtimeMs} ${size}\n`);
    }
  }
  return hash.digest("hex");
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

export async function setup(): Promise<void> {
  const [file, now] = [join(root, folder, "stamp"), stamp()];
  if (read(file) === now) return;
  await (bundle as (folder: string) => Promise<void>)(folder);
  writeFileSync(file, now);
}
