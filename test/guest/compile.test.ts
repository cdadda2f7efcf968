import { describe, expect, test } from "vitest";
import { disassemble } from "../../src/arch/disassemble.js";
import { CONSTANTS } from "../../src/guest/constants.js";
import * as caps from "../../src/kvm/caps.js";
import { CODE_BASE, moveConstant } from "../../src/guest/guestcode.js";
import { evaluate } from "../../src/guest/evaluate.js";
import { readFileSync } from "node:fs";
import { compileTest } from "./world.js";

/** The words of a program from its handler or first block on, as text. */
function code(source: string): string[] {
  const { image } = compileTest(source);
  return [...image.words.slice(0x200)].map((w) => disassemble(w).replace(/\s+/g, " "));
}
/** Value of `let v = …`. */
function value(text: string): bigint {
  const s = compileTest(`let v = ${text}`).script.body[0]!;
  if (s.kind !== "let") throw new Error("no let");
  return evaluate(s.value, { name: (n) => CONSTANTS.get(n) ?? 0n, call: () => 0n });
}

describe("guest code", () => {
  test("lies in its slot: sixteen vectors that branch to themselves, then the blocks", () => {
    const { image } = compileTest("guest { nop }\nguest vcpu1 { nop; nop }");
    expect(image.base).toBe(CODE_BASE);
    for (let v = 0; v < 16; v++) expect(image.words[v * 32]! >>> 0).toBe(0x14000000);
    expect([...image.blocks.values()]).toEqual([
      { entry: CODE_BASE + 0x800, stop: CODE_BASE + 0x804 },
      { entry: CODE_BASE + 0x804, stop: CODE_BASE + 0x80c },
    ]);
  });
  test("with a handler has vectors that branch to it, and a spin behind it", () => {
    const { image } = compileTest("on exception { eret }\nguest { nop }");
    for (let v = 0; v < 16; v++) expect(image.words[v * 32]! >>> 0).toBe(0x14000000 + (0x800 - 0x80 * v) / 4);
    expect(image.words[0x200]! >>> 0).toBe(0xd69f03e0);
    expect(image.handlerEnd).toBe(CODE_BASE + 0x804);
  });
  test("loads any constant in as few moves as it takes", () => {
    expect(moveConstant("x0", 0n)).toEqual(["movz x0, #0"]);
    expect(moveConstant("x0", 0x80000000n)).toEqual(["movz x0, #32768, lsl #16"]);
    expect(moveConstant("x0", -1n)).toEqual(["movn x0, #0"]);
    expect(moveConstant("w3", 0xffff1234n)).toEqual(["movn w3, #60875"]);
    expect(moveConstant("x9", 0x123456789abcdef0n)).toHaveLength(4);
  });
  test("reaches an address written as a number through x16", () => {
    expect(code("let A = 0x80000000\nguest { ldr x0, [A + 8] }")).toHaveLength(3);
    expect(code("let A = 0x80000000\nguest { ldr x0, [A] }")[1]).toBe("ldr x0, [x16]");
  });
  test("of a loop counts in a register pair of its own", () => {
    const lines = code("guest { for p in 0x1000..0x3000 step 4K { str x1, [p, #8] } }");
    expect(lines[2]).toBe("str x1, [x28, #8]");
    expect(lines[3]).toMatch(/^add x28, x28, #/);
    expect(lines[4]).toMatch(/^sub x27, x27, #/);
    expect(lines[5]).toMatch(/^cbnz x27, /);
  });
  test("of an empty range is nothing", () => {
    expect(code("guest { for p in 8..8 { nop }\nnop }")).toEqual(["nop"]);
  });
  test("branches to labels before and behind", () => {
    const { image } = compileTest("guest { a: cbz x0, b\nb a\nb: nop }");
    expect([...image.words.slice(0x200)].map((w) => w >>> 0)).toEqual([0xb4000040, 0x17ffffff, 0xd503201f]);
  });
  test("knows the script's line of every word", () => {
    const { image } = compileTest("\nguest {\n  nop\n  mov x0, 0x12345678\n}");
    expect([...image.lines.slice(0x200)]).toEqual([3, 4, 4]);
  });
});

describe("an expression", () => {
  test("binds as the reference says: & tighter than ==, * tighter than +", () => {
    expect(value("6 & 3 == 2")).toBe(1n);
    expect(value("2 + 3 * 4 - 1")).toBe(13n);
    expect(value("1 << 4 | 1")).toBe(17n);
    expect(value("-(2 - 5)")).toBe(3n);
    expect(value("!0 && ~0 == -1")).toBe(1n);
    expect(value("4K + 0b11 + 1_000")).toBe(5099n);
  });
  test("compares modulo 2^64 for equality", () => {
    expect(value("0xffffffffffffffff == -1")).toBe(1n);
    expect(value("PROT_READ|PROT_WRITE")).toBe(3n);
  });
});

test("a script of a screen loads in less than 10 ms once the code is warm", () => {
  const source = readFileSync(new URL("../../scenarios/2019-munmap-remap.guest", import.meta.url), "utf8");
  for (let i = 0; i < 20; i++) compileTest(source);
  const times = Array.from({ length: 20 }, () => {
    const t = performance.now();
    compileTest(source);
    return performance.now() - t;
  }).sort((a, b) => a - b);
  expect(times[0]).toBeLessThan(10);
});

test("scripts know every capability that KVM_CHECK_EXTENSION knows", () => {
  const known = Object.entries(caps).filter(([name]) => name.startsWith("KVM_CAP_"));
  expect(known.length).toBe(24);
  expect(known.map(([name]) => [name, CONSTANTS.get(name)])).toEqual(known.map(([name, n]) => [name, BigInt(n as number)]));
});
