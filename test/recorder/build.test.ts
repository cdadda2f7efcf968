/** The recorder builds for arm64 without a warning, and its guest is the emulator's guest, word for word. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { guestCode, CODE_BASE } from "../../src/conform/guestcode.js";
import { buildRecorder, has, ROOT, skipped, TOOLS } from "./recorder.js";

const able = has(`${TOOLS}gcc`) && has("make");
if (!able) skipped(`no ${TOOLS}gcc or make (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, make)`);

describe.skipIf(!able)("the recorder", () => {
  let out = "";
  beforeAll(() => {
    // Warnings are errors in its Makefile.
    out = buildRecorder();
  }, 60_000);

  it("is one static arm64 program", () => {
    const header = execFileSync(`${TOOLS}readelf`, ["-hl", join(out, "faultline-recorder")], { encoding: "utf8" });
    expect(header).toContain("AArch64");
    expect(header).not.toContain("INTERP");
  });

  /** The rows { char name[16]; uint64_t offset } of the table that guest.S lays out. */
  const section = (name: string): Buffer => {
    const file = join(out, `${name}.bin`);
    execFileSync(`${TOOLS}objcopy`, ["-O", "binary", `--only-section=${name}`, join(out, "guest.S.o"), file]);
    return readFileSync(file);
  };
  const operations = (): Map<string, number> => {
    const table = section(".rodata.guest_ops");
    const rows = new Map<string, number>();
    for (let at = 0; at + 24 <= table.length; at += 24) {
      const name = table.toString("latin1", at, at + 16).replace(/\0.*$/s, "");
      rows.set(name, Number(table.readBigUInt64LE(at + 16)));
    }
    return rows;
  };

  it("knows the emulator's operations, no more and no fewer", () => {
    expect([...operations().keys()].sort()).toEqual([...guestCode().entry.keys()].sort());
  });

  it("has the emulator's instructions for every operation", () => {
    const page = section(".rodata.guest");
    const { words, entry } = guestCode();
    /** The instructions up to the branch to the done stub, which lies behind each of the programs. */
    const stub = (word: (n: number) => number, offset: number): string[] => {
      const list: string[] = [];
      for (let n = offset / 4; list.length < 32; n++) {
        const w = word(n) >>> 0;
        if (w >>> 26 === 0x05 && (w & 0x02000000) !== 0) return list;
        list.push(w.toString(16));
      }
      return list;
    };
    const mine = new Map([...operations()].map(([name, at]) => [name, stub((n) => page.readUInt32LE(4 * n), at)]));
    const theirs = new Map([...entry].map(([name, at]) => [name, stub((n) => words[n]!, at - CODE_BASE)]));
    expect(Object.fromEntries(mine)).toEqual(Object.fromEntries(theirs));
  });

  it("knows every command of the recordings", () => {
    const table = /commands\[\] = \{([\s\S]*?)\n\};/.exec(readFileSync(join(ROOT, "recorder/src/scenario.c"), "utf8"))![1]!;
    const known = new Set([...table.matchAll(/\{ "(\w+)"/g)].map((m) => m[1]!));
    const replayer = readFileSync(join(ROOT, "src/conform/replay.ts"), "utf8");
    const dispatch = replayer.slice(replayer.indexOf("private command(step"), replayer.indexOf("// ---- the VM ----"));
    const asked = [...dispatch.matchAll(/case "(\w+)":/g)].map((m) => m[1]!);
    expect(asked.length).toBeGreaterThan(25);
    expect(asked.filter((verb) => !known.has(verb))).toEqual([]);
  });
});
