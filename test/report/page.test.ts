import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { faultline, temporaryFolder } from "../cli/command.js";
import { CHROMIUM, launch } from "./browser.js";

const folder = temporaryFolder();
let browser: Browser;

beforeAll(async () => {
  if (CHROMIUM !== undefined) browser = await launch();
}, 120_000);
afterAll(async () => await browser?.close());

/** Every bundled scenario with PAGES=all (npm run test:pages), else some of each kind: caches, fabric, races, two eras, PFNMAP, dirty log. */
const SCENARIOS = readdirSync(new URL("../../scenarios/", import.meta.url))
  .filter((f) => f.endsWith(".guest"))
  .map((f) => f.replace(".guest", ""));
const SOME = [
  "2015-s1ptw",
  "2015-uncached-dma",
  "2019-exec-on-device",
  "2020-concurrent-vfio-faults",
  "2023-nc-cpu0-writes-cpu1-resets",
  "2026-write-notify-efault",
];
const RENDERED = process.env["PAGES"] === "all" ? SCENARIOS : SOME;

async function report(name: string, ...args: string[]): Promise<string> {
  const file = join(folder, `${name.replace(/[^a-z0-9]/g, "-")}.html`);
  const ended = await faultline(["report", name, "-o", file, ...args]);
  expect(ended.err).toBe("");
  expect(ended.status).toBe(0);
  return file;
}

/** Opens a page from disk; whatever it says on the console, and whatever it asks a network for, is in `complaints`. */
async function open(file: string): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1500, height: 1000 } });
  const complaints: string[] = [];
  page.on("console", (m) => complaints.push(m.text()));
  page.on("pageerror", (e) => complaints.push(e.message));
  page.on("request", (r) => r.url().startsWith("file:") || complaints.push(`request ${r.url()}`));
  await page.goto(pathToFileURL(file).href);
  await page.waitForSelector("#page[data-ready]");
  return { page, complaints };
}

/** Moves the pointer over the first timeline until its words name a fault. In the browser, hence as text. */
const FIND_FAULT = `(() => {
  const canvas = document.querySelector("canvas");
  const box = canvas.getBoundingClientRect();
  for (let y = 40; y < box.height; y += 4)
    for (let x = 116; x < box.width; x += 3) {
      canvas.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
      if (canvas.title.startsWith("kvm_handle_guest_abort")) return { x, y };
    }
})()`;

const map = (page: Page): Promise<string> => page.$$eval(".map svg.region", (all) => all.map((s) => s.outerHTML).join(""));
const texts = (page: Page, selector: string): Promise<string[]> => page.$$eval(selector, (all) => all.map((e) => e.textContent ?? ""));

describe.skipIf(CHROMIUM === undefined)("the page in Chromium", { timeout: 120_000 }, () => {
  test("two eras stand beside each other, and the first difference is where the page opens", async () => {
    const { page, complaints } = await open(await report("2019-munmap-remap"));
    expect(await texts(page, "article h2")).toEqual([
      "\u2713 v5.4: host crash in transparent_hugepage_adjust: PFN without struct page",
      "\u2713 v5.5: prefetch abort injected into the guest at ipa 0x80000000",
    ]);
    expect(await texts(page, ".difference dd")).toEqual([
      expect.stringMatching(/^CPU 0\/KVM {2}host_crash /),
      expect.stringMatching(/^CPU 0\/KVM {2}stage2_set /),
    ]);
    expect(await texts(page, ".chosen h3 code")).toEqual(["host_crash", "stage2_set"]);
    expect(await texts(page, ".script li.now")).toEqual([expect.stringContaining("first difference")]);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("the slider changes the map: from what was mapped eagerly to nothing to one device page", async () => {
    const { page, complaints } = await open(await report("2019-munmap-remap", "--variant", "v5.5"));
    const shown: string[][] = [];
    for (const line of [16, 24, 37]) {
      await page.locator(".script button", { hasText: new RegExp(`^${line} `) }).click();
      shown.push(await texts(page, '.map svg.region[aria-label*="0x80000000"] .s2 title'));
    }
    expect(shown).toEqual([
      [expect.stringMatching(/^stage 2 0x80000000-0x80400000, level 3, 1024 × 4K, DEVICE\/nGnRE, rw-, pa 0x8001000000,/)],
      [],
      [expect.stringMatching(/^stage 2 0x80000000-0x80001000, level 3, 1 × 4K, DEVICE\/nGnRE, rw-, pa 0x8001000000,/)],
    ]);
    const end = await map(page);
    await page.fill("#step", "3");
    expect(await map(page)).not.toBe(end);
    await page.focus("#step");
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowLeft");
    expect(await page.inputValue("#step")).toBe(String(Number(await page.getAttribute("#step", "max")) - 1));
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a click on a fault in the timeline shows its explanation, and the arrow keys go from event to event", async () => {
    const { page, complaints } = await open(await report("2012-demand-fault"));
    await page.selectOption("#beside", "-1").catch(() => undefined);
    await page.locator("canvas").first().press("Home");
    const before = await texts(page, ".chosen h3");
    // The first lane with slices is the vCPU's; its fault is found by the words that the pointer shows.
    const box = (await page.locator("canvas").first().boundingBox())!;
    const found = await page.evaluate<{ x: number; y: number } | undefined>(FIND_FAULT);
    expect(found).toBeDefined();
    await page.mouse.click(box.x + found!.x, box.y + found!.y);
    expect(await texts(page, ".chosen h3 code")).toEqual(["kvm_guest_fault"]);
    expect((await texts(page, ".explanation .prose li")).join(" ")).toContain("KVM finds slot");
    expect(await page.locator(".explanation tbody tr").count()).toBeGreaterThan(5);
    const chosen = await texts(page, ".chosen h3");
    expect(chosen).not.toEqual(before);
    await page.locator("canvas").first().press("ArrowRight");
    expect(await texts(page, ".chosen h3")).not.toEqual(chosen);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test.each(RENDERED)("%s renders without a word on the console, from its first place to its last", async (name) => {
    const { page, complaints } = await open(await report(name));
    expect((await texts(page, "article h2")).every((t) => t.startsWith("\u2713 "))).toBe(true);
    const last = await page.getAttribute("#step", "max");
    for (const place of ["0", last!]) {
      await page.fill("#step", place);
      expect(await page.inputValue("#step")).toBe(place);
      expect(await page.locator(".map svg, .map p").count()).toBeGreaterThan(0);
    }
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a hole behind a slot and a VMA that hangs over it stand in the map, aligned with the slot, and say so in words", async () => {
    const script = `variant v6.12
let ram = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=3M, userspace_addr=ram)
munmap(ram, 1M)
`;
    const file = join(folder, "hole.html");
    expect((await faultline(["report", "-", "-o", file], { input: script })).err).toBe("");
    const { page, complaints } = await open(file);
    const region = '.map svg.region[aria-label*="0x80000000"]';
    expect(await texts(page, `${region} .hole title`)).toEqual(["no VMA behind gpa 0x80000000-0x80100000: EFAULT there"]);
    expect(await texts(page, `${region} .overhang title`)).toEqual(["the VMA goes on for 1M behind the slot"]);
    expect(await texts(page, `${region} .overhang text`)).toEqual(["1M"]);
    const edges = async (what: string): Promise<number[]> => {
      const box = (await page.locator(`${region} ${what}`).first().boundingBox())!;
      return [box.x, box.x + box.width].map(Math.round);
    };
    const [slot, hole, vma, over] = [
      await edges(".slot rect"),
      await edges(".hole rect"),
      await edges(".vma rect"),
      await edges(".overhang path"),
    ];
    // A box is drawn half a pixel inside its range.
    for (const [at, other] of [
      [hole[0]!, slot[0]!],
      [hole[1]!, vma[0]!],
      [vma[1]!, slot[1]!],
    ] as const)
      expect(Math.abs(at - other)).toBeLessThanOrEqual(1);
    expect(over[1]!).toBeGreaterThan(slot[1]!);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("printed, a timeline keeps its proportions, the second run stands below the first, and controls are left out", async () => {
    const { page, complaints } = await open(await report("2019-munmap-remap"));
    await page.setViewportSize({ width: 700, height: 1000 });
    await page.emulateMedia({ media: "print" });
    const shapes = await page.$$eval("canvas", (all) => all.map((c) => [c.width / c.height, c.clientWidth / c.clientHeight] as const));
    expect(shapes).toHaveLength(2);
    for (const [drawn, shown] of shapes) expect(Math.abs(shown / drawn - 1)).toBeLessThan(0.02);
    const [a, b] = await page.$$eval("article", (all) => all.map((e) => e.getBoundingClientRect()));
    expect(b!.top).toBeGreaterThanOrEqual(a!.bottom);
    expect(await page.locator(".controls").isVisible()).toBe(false);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a script's words are words: markup in them stays text", async () => {
    const script = `title "</script><img src=x onerror=alert(1)><b>bold"\nvariant v6.12\nguest { mov x0, 1 } // <i>\n`;
    const file = join(folder, "markup.html");
    const ended = await faultline(["report", "-", "-o", file], { input: script });
    expect(ended.err).toBe("");
    const { page, complaints } = await open(file);
    expect(await texts(page, "h1")).toEqual(["</script><img src=x onerror=alert(1)><b>bold"]);
    expect(await page.locator("img, b").count()).toBe(0);
    expect(complaints).toEqual([]);
    await page.close();
  });
});

test("the same run gives the same bytes, with no path of this machine in them, and nothing is left beside the page", async () => {
  const a = readFileSync(await report("2012-copy-on-write"), "utf8");
  const b = readFileSync(await report("2012-copy-on-write"), "utf8");
  expect(a === b).toBe(true);
  const data = [...a.matchAll(/id="(?:data|words)">([^<]*)</g)].map((m) => inflateSync(Buffer.from(m[1]!, "base64")).toString()).join("\n");
  for (const text of [a, data]) for (const path of [folder, process.cwd()]) expect(text).not.toContain(path);
  expect(data).toContain('"file":"scenarios/2012-copy-on-write.guest"');
});

test("a page names no address to fetch from, and its policy forbids all but its own script and style", async () => {
  const html = readFileSync(await report("2012-copy-on-write"), "utf8");
  expect(/Content-Security-Policy" content="([^"]*)"/.exec(html)![1]).toMatch(
    /^default-src 'none'; script-src 'sha256-[^ ]*'; style-src 'sha256-[^ ]*'; base-uri 'none'; form-action 'none'$/,
  );
  expect(html).not.toMatch(/<(link|img|iframe)\b|<script[^>]* src=/);
});

test("the exit status is that of the run: 1 where an expectation failed, 3 where a budget ended it; the page is written for the first", async () => {
  const script = `variant v6.12\nguest { mov x0, 1 }\nexpect x0 == 2\n`;
  const file = join(folder, "failed.html");
  const failed = await faultline(["report", "-", "-o", file], { input: script });
  expect([failed.status, failed.err]).toEqual([1, ""]);
  expect(failed.out).toMatch(/v6\.12: \d+ events, \d+ places of the slider; an expectation failed\n$/);
  expect(readFileSync(file, "utf8")).toContain("<!doctype html>");
  const ended = await faultline(["report", "2012-demand-fault", "--max-steps", "10", "-o", join(folder, "ended.html")]);
  expect([ended.status, ended.out]).toEqual([3, ""]);
});

test("wrong names and folders get one line", async () => {
  const at = async (...args: string[]) => {
    const { status, err, out } = await faultline(["report", "2019-munmap-remap", ...args]);
    return { status, err, out };
  };
  expect(await at("--variant", "v5.6", "-o", join(folder, "x.html"))).toEqual({
    status: 2,
    out: "",
    err: 'error: no variant named "v5.6": did you mean "v5.4"?\n',
  });
  const none = join(folder, "none", "x.html");
  expect(await at("-o", none)).toEqual({ status: 2, out: "", err: `error: --output: the folder of ${none} does not exist\n` });
});
