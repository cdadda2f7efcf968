// Measures the report's page in headless Chromium: time to the first paint with events in sight, and of zooming.
// usage: node tools/measure-report.mjs [EVENTS]      (100000 by default; after npm run build)
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const wanted = Number(process.argv[2] ?? 100_000);
const executablePath = [process.env.CHROMIUM ?? "", "/usr/bin/chromium"].find((p) => p !== "" && existsSync(p));
if (executablePath === undefined) {
  console.error("there is no Chromium here: apt-get install chromium, or set CHROMIUM to its path");
  process.exit(2);
}
/** Events that a page of the loop below gives, about: a fault, its walk, its unmapping. */
const EVENTS_PER_PAGE = 30.5;
const pages = Math.max(Math.ceil(wanted / EVENTS_PER_PAGE), 1);
const script = `title "many faults"
variant v6.12
machine { ram 1G }
let m = mmap(0, ${pages * 4}K, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(m, ${pages * 4}K, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=${pages * 4}K, userspace_addr=m)
guest {
  mov x1, 0x80000000
  mov x2, ${pages}
again:
  ldr x0, [x1]
  add x1, x1, 0x1000
  sub x2, x2, 1
  cbnz x2, again
}
munmap(m, ${pages * 4}K)
`;
/** Milliseconds from the beginning of the navigation to the frame after the page's first. */
async function firstPaint(page, file) {
  await page.goto(pathToFileURL(file).href, { waitUntil: "commit" });
  await page.waitForSelector("#page[data-painted]", { state: "attached" });
  return page.evaluate(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(performance.now())))));
}
/** CPU time of the page's main thread since the navigation, in milliseconds. */
async function busyTime(cdp) {
  const { metrics } = await cdp.send("Performance.getMetrics");
  return 1000 * metrics.find((m) => m.name === "TaskDuration").value;
}

const folder = mkdtempSync(join(tmpdir(), "faultline-report-"));
try {
  const [input, html] = [join(folder, "many.guest"), join(folder, "many.html")];
  writeFileSync(input, script);
  const from = performance.now();
  const { status, stderr, stdout } = spawnSync(process.execPath, ["dist/faultline.cjs", "report", input, "-o", html, "--json"], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  const { runs } = JSON.parse(stdout);
  console.log(`events        ${runs[0].events}, ${runs[0].places} places of the slider`);
  console.log(`page          ${(statSync(html).size / 1e6).toFixed(1)} MB, made in ${((performance.now() - from) / 1000).toFixed(1)} s`);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  // A new browser opens pages of its own, which would be measured too.
  await new Promise((r) => setTimeout(r, 3000));
  const empty = join(folder, "empty.html");
  writeFileSync(empty, '<!doctype html><p id="page" data-painted>nothing</p>');
  const paints = [];
  const paintsOfEmpty = [];
  const busy = [];
  const zooms = [];
  const draws = [];
  for (let round = 0; round < 5; round++) {
    const page = await browser.newPage({ viewport: { width: 1500, height: 1000 } });
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
    paintsOfEmpty.push(await firstPaint(page, empty));
    paints.push(await firstPaint(page, html));
    busy.push(await busyTime(cdp));
    await page.waitForSelector("#page[data-ready]");
    for (let n = 0; n < 12; n++) {
      const { zoom, drawn } = await page.evaluate(
        (out) =>
          new Promise((resolve) => {
            const from = performance.now();
            document.querySelector(`button[aria-label="zoom ${out ? "out" : "in"}"]`).click();
            const canvas = document.querySelector("canvas");
            requestAnimationFrame(() =>
              setTimeout(() => resolve({ zoom: performance.now() - from, drawn: Number(canvas.dataset.drawn) }), 0),
            );
          }),
        n >= 6,
      );
      zooms.push(zoom);
      draws.push(drawn);
    }
    await page.close();
  }
  await browser.close();
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  const line = (what, list) =>
    console.log(`${what.padEnd(13)} median ${median(list).toFixed(0)} ms, worst ${Math.max(...list).toFixed(0)} ms`);
  line("empty page", paintsOfEmpty);
  line("first paint", paints);
  line("of it CPU", busy);
  line("zoom", zooms);
  line("of it drawing", draws);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
