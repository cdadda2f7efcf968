import { describe, expect, test } from "vitest";
import { compile, decodeScript, ERRNO_NAMES } from "../../src/guest/compile.js";
import { Diagnostics, nearest, ScriptError } from "../../src/guest/diagnostics.js";
import { lex } from "../../src/guest/lexer.js";
import { LIMITS } from "../../src/guest/limits.js";
import { errnoName } from "../../src/sim/errno.js";
import { compileTest, errorsOf, testWorld } from "./world.js";

/** Source, and every error that it has: `line:column message | hint`. */
const TABLE: readonly (readonly [string, readonly string[]])[] = [
  ["munmpa(1,2)", ['1:1 no system call or ioctl named "munmpa" | did you mean "munmap"?']],
  ["let x = ", ["1:9 unexpected end of file | expected a value: a number, a name or ("]],
  ["let x = 1\nlet x = 2", ['2:1 a second value named "x" | choose another name']],
  ["guest { ldrr x0, [x1] }", ['1:9 no instruction "ldrr" | did you mean "ldr"?']],
  ["guest { mov w0, 0x100000000 }", ["1:17 this value does not fit in w0"]],
  ["guest { b nowhere }", ['1:9 no label "nowhere" in this block']],
  ["guest { svc }", ["1:9 the instruction ends here | expected an immediate #0 to #65535"]],
  ["expect fault ipx=3", ['1:14 kvm_guest_fault has no field "ipx" | did you mean "ipa"?']],
  ["expect event kvm_guest_falt", ['1:14 no event named "kvm_guest_falt" | did you mean "kvm_guest_fault"?']],
  ["variant v5.9", ['1:9 the variant "v5.9" names no era and sets no kernel | it lies between the eras v5.5 and v6.12']],
  ["variant a { kernel v5.44 }", ['1:20 no era named "v5.44" | did you mean "v5.4"?']],
  ["machine { cpu maxx }", ['1:15 no CPU named "maxx" | did you mean "max"?']],
  ["machine { rma 3 }", ['1:11 no machine setting named "rma" | did you mean "ram"?']],
  ["machine { set eagerDeviceMaping = yes }", ['1:15 no decision named "eagerDeviceMaping" | did you mean "eagerDeviceMapping"?']],
  ["machine { set eagerDeviceMapping = maybe }", ['1:36 eagerDeviceMapping is never "maybe" | expected yes or no']],
  ["}", ["1:1 this } closes nothing | expected a statement"]],
  ["# KSM", ['1:1 unexpected "#" | expected a statement: a comment begins with //']],
  ['title "a\x1b[2J"', ["1:9 unexpected character U+001B"]],
  [
    "guest { ldrb w0, [x1, 0x2000] }",
    ['1:18 unexpected "#8192" | expected an offset #0 to #4095, or an offset #-256 to #255, or an offset or an index register'],
  ],
  ["/* KSM", ['1:1 unexpected "/" | expected a statement: a comment begins with //']],
  ["for a in 1..2 { munmap(a, 1) ", ['1:15 this block is never closed | expected "}" before the end of the file']],
  ["mmap(1,2", ['1:9 unexpected end of file in the arguments of mmap | expected "," or ")"']],
  ["munmap(1)", ['1:1 munmap needs "length" | expected munmap(addr, length)']],
  ["munmap(1, 2, 3)", ["1:14 munmap takes 2 arguments | expected munmap(addr, length)"]],
  ["munmap(addr=1, addr=2, length=3)", ['1:16 "addr" is given twice | expected munmap(addr, length)']],
  ["expect on v5.3 ok", ['1:11 no variant or era named "v5.3" | did you mean "v5.4"?']],
  ["expect errno EFAUTL", ['1:14 no errno named "EFAUTL" | did you mean "EFAULT"?']],
  ["expect exit MMOI", ['1:13 no exit reason "MMOI" | did you mean "MMIO"?']],
  ["expect inject pabbt", ['1:15 nothing named "pabbt" is injected | did you mean "pabt"?']],
  ["expect stage2 0 typ=1", ['1:17 a stage-2 entry has no field "typ" | did you mean "type"?']],
  ["expect read64(1) == 2", ["1:8 an expectation makes no calls | write let value = … before it"]],
  ["guest { for a in 0..10 step 0 { nop } }", ["1:29 a loop's step is at least 1"]],
  ["guest { for a in 0..4096 step 8 { ldr x28, [a] } }", ['1:39 x28 belongs to the loop over "a" | write a, or use another register']],
  ["guest vcpu99 { nop }", ["1:7 a machine has at most 8 vCPUs | expected vcpu0 to vcpu7"]],
  ["guest { ldr x0, [x1 }", ['1:21 the [ of ldr is not closed | expected "]"']],
  ["KVM_SET_ONE_REG(sctvr_el1, 1)", ['1:17 no register is named "sctvr_el1" | did you mean "sctlr_el1"?']],
  ["expect w0 == 1", ['1:8 nothing is named "w0" | did you mean "x0"?']],
  ["let x0 = 1", ['1:5 "x0" cannot be a name: it is a word of the language or a register | choose another']],
  ["let a = 1/0", ["1:9 division by zero"]],
  ["let a = 1 << 64", ["1:9 a shift by 64 | expected 0 to 63"]],
  ["let a = 99999999999999999999999", ["1:9 this number does not fit in 64 bits"]],
  ["let a = 12abc", ['1:9 this is not a number: "12abc" | expected digits, then nothing or K, M, G, T']],
  ["on mmio leve 4096", ['1:9 unexpected "leve" after "on mmio" | did you mean "leave"?']],
  ["on mmio 4096 -> 1", ['1:9 unexpected "4096" after "on mmio" | one of: read, leave, ecam']],
  ['title "abc', ['1:7 this string does not end on its line | expected a closing "']],
  [
    "let h = mmap(0, 4096)\nguest { mov x0, h }",
    ['2:17 "h" gets its value only while the script runs | guest code takes constants only; pass a value with KVM_SET_ONE_REG'],
  ],
  ["par { guest { nop }\nguest { nop } }", ["2:1 vcpu0 runs twice in this par | one block per vCPU"]],
];

describe("an error of a script", () => {
  test.each(TABLE)("%j is told with its place, what was expected and the nearest right name", (source, wanted) => {
    expect(errorsOf(source)).toEqual(wanted);
  });

  test("does not hide the ones after it: all errors of a file are told", () => {
    expect(errorsOf("lett x = 1\nmunmap(1)\nguest { ldrr x0 }\nexpect errno EFOO\n")).toHaveLength(4);
  });

  test("in a block leaves the rest of the block and of the file to be read", () => {
    expect(errorsOf("for p in 0..4 {\n  nonsense here\n  munmap(p)\n}\nmunmap(1, 2)\n").map((e) => e.split(" ")[0])).toEqual([
      "2:3",
      "3:3",
    ]);
  });

  test("is shown with its line and a caret below the place", () => {
    try {
      compile("bug.guest", "let ram = 1\n\nmunmpa(ram, 4M)\n", testWorld);
    } catch (e) {
      expect((e as ScriptError).message).toBe(
        'bug.guest:3:1: error: no system call or ioctl named "munmpa"\n    3 | munmpa(ram, 4M)\n      | ^^^^^^ did you mean "munmap"?',
      );
    }
  });
});

describe("a malformed file", () => {
  const bad = (bytes: Uint8Array) => () => decodeScript("f", bytes);
  test("that is binary is named so", () => {
    expect(bad(Uint8Array.of(1, 2, 0, 3))).toThrow(/binary: a zero byte at offset 2/);
  });
  test("that is not UTF-8 is told with the byte and its line", () => {
    expect(bad(Uint8Array.of(0x61, 0x0a, 0x62, 0xff))).toThrow(/f:2:2: error: this file is not UTF-8: byte 0xff at offset 3/);
  });
  test("of ten megabytes is refused before it is read", () => {
    expect(bad(new Uint8Array(10 * 1024 ** 2))).toThrow(ScriptError);
  });
  test("of deep nesting is refused, whatever nests", () => {
    for (const source of [
      "let a = " + "(".repeat(100_000),
      "for a in 0..1 {".repeat(50_000),
      "let a = " + "-".repeat(100_000),
      "vmm{".repeat(100_000),
      "mmap(".repeat(50_000),
    ])
      expect(errorsOf(source).length).toBeGreaterThan(0);
  });
  test("of one endless line is refused with a short message", () => {
    const e = (() => {
      try {
        compileTest("x".repeat(900_000));
      } catch (caught) {
        return caught as ScriptError;
      }
      return undefined;
    })();
    expect(e).toBeInstanceOf(ScriptError);
    expect(e!.message.length).toBeLessThan(1000);
  });
  test("of more statements than the budget is refused", () => {
    expect(errorsOf("munmap(1,2)\n".repeat(LIMITS.statements + 1)).at(-1)).toMatch(/a script may have 50000 statements/);
  });
  test("of random bytes never gives anything but a ScriptError", () => {
    let seed = 12345;
    const next = (n: number) => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
    const words = [
      "guest",
      "{",
      "}",
      "(",
      ")",
      "[",
      "]",
      "let",
      "x0",
      "=",
      "0x10",
      "expect",
      "for",
      "in",
      "..",
      "on",
      "par",
      "\n",
      ";",
      '"',
      "ldr",
      ",",
      "#",
      "!",
      "fault",
      "-",
      "vcpu1",
      "mmap",
      "step",
      ":",
      "stage2",
      "exit",
      "no",
      "3",
      "->",
    ];
    for (let round = 0; round < 500; round++) {
      const source = Array.from({ length: 1 + next(60) }, () => words[next(words.length)]).join(next(2) === 0 ? " " : "");
      try {
        compileTest(source);
      } catch (e) {
        expect(e, source).toBeInstanceOf(ScriptError);
      }
    }
  });
  test("truncated anywhere is a program or a ScriptError, never a crash", () => {
    const whole =
      'title "t"\nlet A = 4K // c\nfor p in 0..A step 8 { write64(p, p + 1) }\nguest vcpu1 { l: ldr x0, [A + 8]; cbz x0, l }\nexpect on v5.4 at least 2 fault ipa>=A esr!=3\npar { guest { nop }\nvmm t { munmap(1,\n 2) } }\n';
    for (let n = 0; n <= whole.length; n++) {
      try {
        compileTest(whole.slice(0, n));
      } catch (e) {
        expect(e, `${n}`).toBeInstanceOf(ScriptError);
      }
    }
  });
});

describe("a token", () => {
  test("knows its line and column, whatever stands before it", () => {
    const tokens = lex('// c\r\n  a 0x1_0 v5.4 0000:00:06.0 4M "s" ->\n..', new Diagnostics("f", ""));
    expect(tokens.map((t) => [t.kind, t.text, t.value, t.line, t.column])).toEqual([
      ["newline", "end of line", 0n, 1, 6],
      ["name", "a", 0n, 2, 3],
      ["number", "0x1_0", 16n, 2, 5],
      ["name", "v5.4", 0n, 2, 11],
      ["bdf", "0000:00:06.0", 0n, 2, 16],
      ["number", "4M", 4n * 1024n ** 2n, 2, 29],
      ["string", "s", 0n, 2, 32],
      ["punct", "->", 0n, 2, 36],
      ["newline", "end of line", 0n, 2, 38],
      ["punct", "..", 0n, 3, 1],
      ["end", "end of file", 0n, 3, 3],
    ]);
  });
});

test("the nearest right name is near, or none is named", () => {
  expect(nearest("kvm_guest_falt", ["kvm_guest_fault", "kvm_mmio"])).toBe("kvm_guest_fault");
  expect(nearest("NORMAL", ["normal"])).toBe("normal");
  expect(nearest("xyzzy", ["munmap", "mmap"])).toBeUndefined();
});

test("every errno that a script may expect is the name of a number that a call can return", () => {
  const names = new Set(Array.from({ length: 200 }, (_, n) => errnoName(n)));
  expect(ERRNO_NAMES.filter((n) => !n.startsWith("SIG") && !names.has(n))).toEqual([]);
});
