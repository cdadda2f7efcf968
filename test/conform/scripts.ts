/**
 * VMM scripts in the language of recordings (recordings/README.md), one for each family of things that kernels do
 * differently. They are no recordings: nothing is expected of them here; the tests that use them say what.
 */
import { parseRecording, type Recording } from "../../src/conform/recording.js";

const SCRIPTS = {
  anon: `
    vm
    back R nohuge 0x200000
    slot 1 0x80000000 0x200000 R 0 -
    op ldr64 0x80000000
    op str64 0x80000000 1
    op br 0x80000000
    fork
    op str64 0x80000000 2
    op ldr64 0x80001000
    forkend
    op str64 0x80000000 3
    op touchw 0x80000000 16 4096
    mprotect R 0 0x4000 r
    mprotect R 0 0x4000 rw
    op str64 0x80001000 4
    madvise R 0 0x8000 dontneed
    op zva 0x80002000
    op civac 0x80002000
    madvise R 0 0x10000 free
    madvise R 0 0x10000 populate_w
    madvise R 0 0x10000 populate_r
    madvise R 0 0x1000 wipeonfork
    madvise R 0 0x1000 cold
    madvise R 0 0x10000 collapse
    munmap R 0x8000 0x1000
    op ldr64 0x80009000
    munmap R 0 0x200000
  `,
  ro: `
    vm
    back R filero 0x20000
    slot 1 0x80000000 0x20000 R 0 -
    op ldr64 0x80000000
    op str64 0x80000000 1
    slot 2 0x90000000 0x20000 R 0 ro
    op ldr64 0x90000000
    op str64 0x90000000 1
    op ldp 0x90000000
    op cvac 0x90000000
    op ivac 0x90000000
    op zva 0x90000000
    op br 0x90000000
  `,
  ipa: `
    vm
    op ldr64 0x10000000000
    op br 0x10000000000
    op ldr64 0x1000000000000
    op ldp 0x20000000
    op cvac 0x20000000
    op ldrsb 0x20000000
    op ldrsw 0x20000000
    op ldr32 0x20000000
    op br 0x20000000
    cap 177 0
    op ldp 0x20000000
    skip
    op stp 0x20000000 1 2
  `,
  thp: `
    vm
    back R thp 0x600000
    slot 1 0x80000000 0x600000 R 0 -
    op ldr64 0x80000000
    op str64 0x80000000 1
    op str64 0x80200000 1
    op br 0x80200000
    fork
    op str64 0x80200000 2
    forkend
    madvise R 0x200000 0x1000 dontneed
    op str64 0x80201000 1
    slotflags 1 log
    op str64 0x80000000 2
    op ldr64 0x80400000
    op str64 0x80400000 1
    dirty 1
    op str64 0x80400000 1
    cleardirty 1 0 64
    slotflags 1 -
    op str64 0x80001000 3
    madvise R 0x200000 0x200000 collapse
    op ldr64 0x80200000
    mprotect R 0x201000 0x1000 r
    mprotect R 0x201000 0x1000 rw
    op ldr64 0x80201000
    slot 1 0xc0000000 0x600000 R 0 -
    op str64 0xc0000000 1
    slotdel 1
    munmap R 0 0x600000
  `,
  manual: `
    vm
    cap 168 3
    cap 228 0x200000
    back R thp 0x400000
    op nop
    slot 1 0x80000000 0x400000 R 0 -
    op str64 0x80000000 1
    slotflags 1 log
    dirty 1
    cleardirty 1 0 512
    op str64 0x80000000 1
    op ldr64 0x80001000
    op str64 0x80001000 1
    dirty 1
    cleardirty 1 0 64
    op br 0x80000000
  `,
  hugetlb: `
    vm
    back R hugetlb 0x800000
    fork
    forkend
    slot 1 0x80000000 0x800000 R 0 -
    op ldr64 0x80003000
    op str64 0x80204000 1
    slotflags 1 log
    op str64 0x80200000 1
    dirty 1
    slotflags 1 -
    op str64 0x80200000 1
    op ldr64 0x80200000
    munmap R 0 0x200000
    madvise R 0x200000 0x200000 dontneed
    slot 2 0x90000000 0x600000 R 0x1000 -
    op str64 0x90401000 1
  `,
  memfd: `
    vm
    back R memfd 0x400000
    slot 1 0x80000000 0x400000 R 0 -
    op str64 0x80000000 1
    op str64 0x80200000 1
    madvise R 0x1000 0x1000 remove
    ftruncate R 0x100000
    op ldr64 0x80200000
    op ldr64 0x80001000
    mprotect R 0 0x100000 r
    op str64 0x80000000 1
    mprotect R 0 0x400000 rw
    fork
    op str64 0x80000000 1
    forkend
    munmap R 0 0x400000
  `,
  poison: `
    vm
    back R nohuge 0x200000
    slot 1 0x80000000 0x200000 R 0 -
    op str64 0x80000000 1
    madvise R 0 0x1000 hwpoison
    op ldr64 0x80000000
    op str64 0x80001000 1
    remap R 0 0x1000
    op ldr64 0x80000000
  `,
  s1: `
    vm
    back T nohuge 0x200000
    slot 1 0x60000000 0x200000 T 0 -
    hw T 0x0 0x0060000000000401
    hw T 0x8 0x0040000040000705
    hw T 0x10 0x0040000080000705
    hw T 0x18 0x20000003
    hw T 0x20 0x60001003
    hw T 0x1000 0x20001003
    op mmuon 0x60000000 0xff00 0x200803519 0x30d0199d
    op ldr64 0x40000000
    op ldr64 0xc0000000
    op br 0xc0000000
    op ldr64 0x100000000
    op ats1r 0xc0000000
    op ldr64 0xa0000000
  `,
  s1ro: `
    vm
    back T nohuge 0x200000
    hw T 0x0 0x0060000000000401
    hw T 0x8 0x0040000040000705
    hw T 0x10 0x60001003
    slot 1 0x60000000 0x200000 T 0 ro
    op mmuon 0x60000000 0xff00 0x200803519 0x30d0199d
    op ldr64 0x40000000
    munmap T 0x1000 0x1000
    op ldr64 0x80000000
    remap T 0x1000 0x1000
    op ldr64 0x80000000
  `,
  bar: `
    vfio open 0000:00:06.0
    vm
    back V bar2
    slot 1 0x80000000 0x400000 V 0 -
    op ldr64 0x80003000
    op str64 0x80000000 0x1234
    op ldr64 0x80200000
    op br 0x80000010
    op zva 0x80000040
    op ldr64 0x80001000
    munmap V 0x3000 0x1000
    op ldr64 0x80003000
    remap V 0x3000 0x1000
    op ldr64 0x80003000
    vfio mem 0
    op ldr64 0x80000000
    hr V 0
    vfio mem 1
    op ldr64 0x80000000
    fork
    op ldr64 0x80000000
    forkend
    slotflags 1 log
    slotflags 1 ro
    slot 1 0x90000000 0x400000 V 0 -
    op ldr64 0x90000000
    mprotect V 0x1000 0x1000 r
    op str64 0x90001000 1
    vfio reset
    munmap V 0 0x400000
    op ldr64 0x90000000
  `,
  bar2: `
    vfio open 0000:00:04.0
    vm
    back V bar0
    slot 1 0x80000000 0x200000 V 0 -
    op ldr32 0x80000000
    op ldr32 0x80100000
    slot 2 0x90000000 0x1000 V 0x1000 ro
    op ldr32 0x90000000
    op str32 0x90000000 1
    mapanon V 0x1000 0x1000 0x5a
    op ldr32 0x80001000
    munmap V 0 0x100000
    op ldr32 0x80000000
  `,
  bars: `
    vfio open 0000:00:06.0
    vm
    back V bar0
    slot 1 0x80000000 0x1000 V 0 -
    op ldr32 0x80000000
    back W bar2 0x400000
    mprotect W 0 0x400000 r
    slot 2 0x90000000 0x400000 W 0 -
    op ldr32 0x90000000
    op str32 0x90000000 1
    vfio mem 0
    slot 3 0xa0000000 0x200000 W 0x200000 -
    op ldr32 0xa0000000
  `,
  barro: `
    vfio open 0000:00:06.0
    vm
    back V bar2
    slot 1 0x80000000 0x1000000 V 0 -
    op ldr32 0x80201000
    op str32 0x80201000 1
    op br 0x80201000
    op ldr32 0x80400000
    s2dump
    slotdel 1
    slot 1 0x80000000 0x3000 V 0x1000 -
    op ldr64 0x80000000
    op cvac 0x80000000
  `,
  bars1: `
    vfio open 0000:00:06.0
    vm
    back V bar2
    slot 1 0x80000000 0x400000 V 0 -
    hw V 0x0 0x0060000000000401
    hw V 0x8 0x0040000040000705
    hw V 0x10 0x0040000080000705
    op mmuon 0x80000000 0xff00 0x200803519 0x30d0199d
    op ldr64 0x80000008
  `,
  slots: `
    vm
    back R nohuge 0x400000
    slot 1 0x80000000 0x200000 R 0 -
    op str64 0x80000000 1
    slot 2 0x80100000 0x200000 R 0 -
    slot 1 0x80000000 0x100000 R 0 -
    slot 1 0x90000000 0x200000 R 0 -
    op str64 0x90000000 1
    slotflags 1 ro
    slotflags 1 log
    op str64 0x90000000 2
    slotdel 1
    slot 1 0x90000000 0x200000 R 0x200000 log
    op str64 0x90000000 2
    slotdel 1
    slotdel 5
    has 168
    has 177
    has 192
    has 223
    has 225
    has 228
    has 243
    has 234
    has 245
    cap 192 0x10000
    cap 223 0x10000
    cap 203 0
    has 16
    has 165
  `,
} as const;

export type Family = keyof typeof SCRIPTS;
export const FAMILIES = Object.keys(SCRIPTS) as Family[];

/** One family as a recording without observations; s2dump answers with leaves. */
export function script(family: Family, kernel: string, cpu = "max"): Recording {
  return commands(SCRIPTS[family], kernel, cpu, family);
}

/** Commands, one a line, as a recording without observations. */
export function commands(text: string, kernel: string, cpu = "max", name = "script"): Recording {
  const lines = text
    .split("\n")
    .map((l) => l.trim())
    .filter((l) => l !== "");
  const body = lines.map((l) => "> " + l + (l === "s2dump" ? "\n= s2 leaves=1" : ""));
  return parseRecording(name, [`# kernel ${kernel}, cpu ${cpu}`, `scenario ${name}`, ...body, ""].join("\n"));
}
