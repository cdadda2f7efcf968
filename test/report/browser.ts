/** Headless Chromium for the page's tests, where the machine has one: Debian's package, or CHROMIUM says which. */
import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

const PLACES = [process.env["CHROMIUM"] ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
export const CHROMIUM = PLACES.find((p) => p !== "" && existsSync(p));

if (CHROMIUM === undefined)
  process.stderr.write(
    "The report's page is NOT tested: there is no Chromium here (apt-get install chromium, or set CHROMIUM to its path)\n",
  );

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM!, args: ["--no-sandbox", "--disable-gpu"] });
}
